//! The faults that a test can inject, and for how many calls.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

/// How the embedded STS answers, unless a fault overrides it.
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
    /// No latency, the lifetime that the caller requests, the correct time, and tokens of 512 bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for this time before each answer.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Issues credentials with this lifetime, regardless of `DurationSeconds`.
    ///
    /// As in STS, it has whole seconds; a fraction is dropped.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime_secs = Some(whole_seconds(lifetime));
        self
    }

    /// Issues credentials that expired this long ago, in whole seconds.
    pub fn expired(mut self, ago: Duration) -> Self {
        self.lifetime_secs = Some(-whole_seconds(ago));
        self
    }

    /// Sets the server's clock ahead by `seconds`, or behind when negative.
    ///
    /// This changes the `Date` header, and also `Expiration`, which the server computes from its clock. The call log uses
    /// the correct time.
    pub fn date_skew(mut self, seconds: i64) -> Self {
        self.date_skew_secs = seconds;
        self
    }

    /// Issues session tokens of this many bytes.
    pub fn token_bytes(mut self, bytes: usize) -> Self {
        self.token_bytes = bytes;
        self
    }
}

/// Limited, so that no later sum of seconds can overflow.
fn whole_seconds(duration: Duration) -> i64 {
    i64::from(u32::try_from(duration.as_secs()).unwrap_or(u32::MAX))
}

/// A fault of a call.
///
/// The [`Settings`] (latency, skew, …) apply to a faulty call, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Fault {
    /// Answers correctly, but with these settings: for one slow call, one short-lived set, and so on.
    Under(Settings),
    /// Fails with this HTTP status and its error of STS: `ServiceUnavailable` for 503, `InternalFailure` for any other
    /// status.
    Status(u16),
    /// Fails with `Throttling`, HTTP status 400, "Rate exceeded".
    Throttling,
    /// The same with `Retry-After`, in seconds.
    ThrottlingFor(u32),
    /// Fails with `AccessDenied`, HTTP status 403, and the message of STS.
    AccessDenied,
    /// Fails with a custom error.
    Error {
        /// HTTP status. An invalid status counts as 500.
        status: u16,
        /// Error code, for example `ExpiredToken`.
        code: String,
        /// Message for people.
        message: String,
    },
    /// Reads the request, then resets the connection (TCP RST).
    Reset,
    /// Reads the request and never answers. The connection stays open until the client closes it or the server stops;
    /// [`clear_faults`](super::LocalSts::clear_faults) does not close it.
    BlackHole,
    /// Answers 200 with a body that is not XML: it ends inside its first tag.
    MalformedBody,
    /// Answers 200 with the first half of the body, which for `AssumeRole` ends inside the credentials. Note: clients may
    /// accept this as a complete answer, and the current `aws_sdk_sts` does.
    TruncatedBody,
    /// Answers `AssumeRole` with a set without `SecretAccessKey`. Does not change other actions.
    IncompleteSet,
}

impl Fault {
    /// A shorthand for [`Error`](Fault::Error).
    pub fn error(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Error { status, code: code.into(), message: message.into() }
    }
}

/// How many calls a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Times {
    /// The next calls of any action, up to this number.
    Next(usize),
    /// Every call until [`clear_faults`](super::LocalSts::clear_faults).
    UntilCleared,
}

/// The pending faults, in the order of their injection.
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
