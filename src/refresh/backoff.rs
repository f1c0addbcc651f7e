//! The back-off state: the newest failure of the source, as stored in the segment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{
    refresh::publish,
    segment::{
        Entry,
        record::{FailureRecord, Words},
    },
    seqlock::Version,
    source::SourceError,
};

/// A failure that no newer set has ended.
pub(crate) struct Backoff {
    pub(crate) version: Version,
    pub(crate) failure: SourceError,
    pub(crate) at: SystemTime,
    /// When the next attempt is allowed, in nanoseconds since boot.
    pub(crate) next_attempt: u64,
    pub(crate) in_a_row: u64,
    /// A process died during its call. The source itself did not fail.
    pub(crate) died: bool,
}

impl Backoff {
    /// The back-off state. `None` when there was no failure, or a newer set ended it.
    pub(crate) fn read(view: Entry<'_>) -> Option<Self> {
        let mut words = Words::default();
        let version = view.failures().read(&mut words)?;
        let record = FailureRecord::decode(&words, view.key())?;
        (record.generation == view.published().generation()).then(|| Backoff {
            version,
            failure: failure_of(&record),
            at: UNIX_EPOCH + Duration::from_nanos(record.at_unix),
            next_attempt: record.next_attempt_boot,
            in_a_row: record.in_a_row,
            died: record.class == publish::DIED,
        })
    }

    /// Whether an attempt at `now` is too early.
    pub(crate) fn forbids(&self, now: u64) -> bool {
        now < self.next_attempt
    }

    /// How long after `now` the next attempt is allowed.
    pub(crate) fn next_attempt_in(&self, now: u64) -> Duration {
        Duration::from_nanos(self.next_attempt.saturating_sub(now))
    }
}

/// The error that the refresher got from the source.
fn failure_of(record: &FailureRecord<'_>) -> SourceError {
    let mut failure = SourceError::of_known_text(publish::class_of(record.class), record.message);
    if !record.code.is_empty() {
        failure = failure.with_code(record.code);
    }
    if !record.request_id.is_empty() {
        failure = failure.with_request_id(record.request_id);
    }
    if let Some(status) = u16::try_from(record.http_status).ok().filter(|status| *status != 0) {
        failure = failure.with_http_status(status);
    }
    failure
}
