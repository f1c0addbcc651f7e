//! A refresher that cannot be asked.

use std::sync::atomic::{AtomicU64, Ordering};

/// How long processes do the work themselves meanwhile, in nanoseconds. Longer than any sleep between two looks.
const LASTS: u64 = 5_000_000_000;
/// How long it is not asked again. One that was just elected has its socket before that, so only the second attempt counts.
pub(super) const PAUSE: u64 = 200_000_000;

/// The refresher that this process could not reach: its pool has no name any more, or it has no socket yet.
#[derive(Debug, Default)]
pub(super) struct Unreachable {
    refresher: AtomicU64,
    /// When it was tried first and last; 0 is never.
    since: AtomicU64,
    at: AtomicU64,
}

impl Unreachable {
    // Relaxed, here and below: a hint. Another process or thread may find out the same.
    pub(super) fn note(&self, refresher: u64, now: u64) {
        if self.refresher.load(Ordering::Relaxed) != refresher
            || self.since.load(Ordering::Relaxed) == 0
        {
            self.since.store(now, Ordering::Relaxed);
        }
        self.at.store(now, Ordering::Relaxed);
        self.refresher.store(refresher, Ordering::Relaxed);
    }

    /// It was reached.
    pub(super) fn clear(&self) {
        self.since.store(0, Ordering::Relaxed);
        self.at.store(0, Ordering::Relaxed);
    }

    /// Whether this refresher could not be reached twice, the last time not long ago.
    pub(super) fn is(&self, refresher: u64, now: u64) -> bool {
        let (since, at) = (self.since.load(Ordering::Relaxed), self.at.load(Ordering::Relaxed));
        at.saturating_sub(since) >= PAUSE && self.was_tried(refresher, now, LASTS)
    }

    /// Whether it could not be reached just now.
    pub(super) fn is_just_now(&self, refresher: u64, now: u64) -> bool {
        self.was_tried(refresher, now, PAUSE)
    }

    fn was_tried(&self, refresher: u64, now: u64, within: u64) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        at != 0 && self.refresher.load(Ordering::Relaxed) == refresher && now < at + within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_second_attempt_counts() {
        let (unreachable, start) = (Unreachable::default(), 1_000_000_000);
        let second = start + PAUSE;
        assert!(!unreachable.is(7, start) && !unreachable.is_just_now(7, start));
        unreachable.note(7, start);
        assert!(!unreachable.is(7, start + 1) && unreachable.is_just_now(7, start + 1));
        unreachable.note(7, second);
        assert!(unreachable.is(7, second + LASTS - 1) && !unreachable.is(7, second + LASTS));
        assert!(!unreachable.is(8, second), "another refresher may be reached");
        unreachable.note(7, second + LASTS);
        assert!(unreachable.is(7, second + LASTS), "it has no socket for long");
        unreachable.note(8, second + LASTS);
        assert!(!unreachable.is(8, second + LASTS), "this one was tried once");
        unreachable.clear();
        assert!(!unreachable.is_just_now(8, second + LASTS));
    }
}
