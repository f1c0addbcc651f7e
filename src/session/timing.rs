//! How long the session waits, and how often it looks.

use std::time::{Duration, Instant};

use crate::clock::after;

/// How long a caller waits when nothing valid is there, unless the user says otherwise.
pub(super) const DEFAULT_WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a caller in the mandatory window waits for the refresh in flight.
pub(super) const MANDATORY_WAIT: Duration = Duration::from_secs(1);
/// How often a process looks, in the advisory window, whether another one refreshes. Nanoseconds.
pub(super) const PROBE_INTERVAL: u64 = 50_000_000;
/// How often a process without a source looks. It has no election lock and watches no process, so a refresher that
/// dies between publishing and waking does not wake it.
pub(super) const READER_INTERVAL: Duration = Duration::from_secs(1);
/// How long a process that has lost the entry of a role waits for the answer of the pool's refresher, before it looks whether
/// its caller still waits.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_millis(250);
/// How often `create()` looks for the first set between two attempts of its refresher.
pub(super) const FIRST_SET_INTERVAL: Duration = Duration::from_millis(20);
/// The longest wait of an eager session before its first call. A longer one is probably in the wrong unit.
pub(super) const LONGEST_START_SPREAD: Duration = Duration::from_secs(3600);
/// How long `attach_or_create` tries again while other processes end sessions of that name and make new ones.
pub(super) const RACE_LIMIT: Duration = Duration::from_secs(2);
/// About how long it pauses in between.
pub(super) const RACE_PAUSE: Duration = Duration::from_millis(1);
/// How often a thread that waits for the next set looks whether its caller still does.
pub(super) const CALLER_INTERVAL: Duration = Duration::from_secs(1);

/// How long a wait may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// As the program gave it.
    pub(super) given: Duration,
    /// Whether the program gave it for one call, all its waits together. Otherwise each wait may take so long.
    pub(super) of_call: bool,
    /// When the wait ends; `None` when no wait has begun.
    end: Option<Instant>,
}

impl Limit {
    /// The limit of each wait: what the session's settings say.
    pub(super) fn of_each_wait(limit: Duration) -> Self {
        Limit { given: limit, of_call: false, end: None }
    }

    /// The limit of a whole call, from now on.
    pub(super) fn of_call(limit: Duration) -> Self {
        Limit { given: limit, of_call: true, end: Some(after(limit)) }
    }

    /// When a wait that begins now ends.
    pub(super) fn end(self) -> Instant {
        self.end.unwrap_or_else(|| after(self.given))
    }

    /// Whether the time of the call is over.
    pub(super) fn is_over(self) -> bool {
        self.of_call && self.end() <= Instant::now()
    }

    /// A limit of one wait that is no longer than `most`.
    pub(super) fn at_most(self, most: Duration) -> Self {
        let end = self.end().min(after(most));
        Limit { end: Some(end), ..self }
    }
}
