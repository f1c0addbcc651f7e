//! What can be made to go wrong, and for how many calls.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

/// How the embedded STS answers while nothing else is asked for.
///
/// ```
/// # use std::time::Duration;
/// # use shmcreds::testing::Settings;
/// let short_and_slow =
///     Settings::new().lifetime(Duration::from_secs(1)).latency(Duration::from_millis(20));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub(crate) latency: Duration,
    pub(crate) lifetime_secs: Option<i64>,
    pub(crate) date_skew_secs: i64,
    pub(crate) token_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { latency: Duration::ZERO, lifetime_secs: None, date_skew_secs: 0, token_bytes: 512 }
    }
}

impl Settings {
    /// No latency, the lifetime that the caller asks for, the right time, tokens of 512 bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits this long before each answer.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Issues credentials that live this long, whatever `DurationSeconds` asks for.
    ///
    /// Counted in whole seconds, as STS does; a fraction is dropped.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime_secs = Some(whole_seconds(lifetime));
        self
    }

    /// Issues credentials that have expired this long ago, in whole seconds.
    pub fn expired(mut self, ago: Duration) -> Self {
        self.lifetime_secs = Some(-whole_seconds(ago));
        self
    }

    /// Sets the server's clock ahead (or, when negative, behind) by so many seconds.
    ///
    /// It shows in the `Date` header and, because the server reckons by its own clock, in
    /// `Expiration` too. The call log keeps the true time.
    pub fn date_skew(mut self, seconds: i64) -> Self {
        self.date_skew_secs = seconds;
        self
    }

    /// Issues session tokens of so many bytes.
    pub fn token_bytes(mut self, bytes: usize) -> Self {
        self.token_bytes = bytes;
        self
    }
}

/// Bounded, so that no later sum of seconds can overflow.
fn whole_seconds(duration: Duration) -> i64 {
    i64::from(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX))
}

/// Something that goes wrong with a call.
///
/// The sticky [`Settings`] (latency, skew, …) hold for a faulty call as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Fault {
    /// Answers properly, but under these settings in place of the sticky ones: for one slow call,
    /// one short-lived set, and so on.
    Under(Settings),
    /// Fails with this HTTP status and the error that STS gives with it: 503 is
    /// `ServiceUnavailable`, any other status `InternalFailure`.
    Status(u16),
    /// Fails with `Throttling`, HTTP status 400, "Rate exceeded".
    Throttling,
    /// Fails with `AccessDenied`, HTTP status 403, in the words of STS.
    AccessDenied,
    /// Fails with an error of your own.
    Error {
        /// HTTP status; one that HTTP does not know counts as 500.
        status: u16,
        /// Error code, for example `ExpiredToken`.
        code: String,
        /// Message for people.
        message: String,
    },
    /// Reads the request, then resets the connection (TCP RST).
    Reset,
    /// Reads the request and never answers. The connection stays open until the client gives up
    /// or the server stops; [`clear_faults`](super::LocalSts::clear_faults) does not free it.
    BlackHole,
    /// Answers 200 with a body that is no XML: it breaks off within its first tag.
    MalformedBody,
    /// Answers 200 with a body that breaks off half-way, for `AssumeRole` within the credentials.
    /// Beware: clients may take this for a whole answer, and the `aws_sdk_sts` of today does.
    TruncatedBody,
    /// Answers `AssumeRole` with a set that lacks its `SecretAccessKey`; leaves other actions be.
    IncompleteSet,
}

impl Fault {
    /// An [`Error`](Fault::Error) in short.
    pub fn error(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Error { status, code: code.into(), message: message.into() }
    }
}

/// How many calls a fault befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Times {
    /// The next so many calls, whatever their action.
    Next(usize),
    /// Every call until [`clear_faults`](super::LocalSts::clear_faults).
    UntilCleared,
}

/// The faults still to come, in the order of their injection.
#[derive(Debug, Default)]
pub(crate) struct FaultQueue(VecDeque<(Fault, Times)>);

impl FaultQueue {
    pub(crate) fn push(&mut self, fault: Fault, times: Times) {
        if times != Times::Next(0) {
            self.0.push_back((fault, times));
        }
    }

    /// The fault of the call that arrives now.
    pub(crate) fn take(&mut self) -> Option<Fault> {
        let (fault, times) = self.0.front_mut()?;
        let fault = fault.clone();
        match times {
            Times::UntilCleared => {}
            Times::Next(left) if *left > 1 => *left -= 1,
            Times::Next(_) => drop(self.0.pop_front()),
        }
        Some(fault)
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
