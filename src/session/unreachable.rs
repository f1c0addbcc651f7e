//! A refresher that cannot be asked.

use std::sync::atomic::{AtomicU64, Ordering};

/// How long processes do the work themselves meanwhile, in nanoseconds. Longer than any sleep between two looks.
const LASTS: u64 = 5_000_000_000;
/// How long it is not asked again.
pub(super) const PAUSE: u64 = 200_000_000;

/// The refresher that this process could not reach: its pool has no name any more, or it has no socket yet.
#[derive(Debug, Default)]
pub(super) struct Unreachable {
    refresher: AtomicU64,
    /// When it was tried; 0 is never.
    at: AtomicU64,
}

impl Unreachable {
    // Relaxed, here and below: a hint. Another process or thread may find out the same.
    pub(super) fn note(&self, refresher: u64, now: u64) {
        self.at.store(now, Ordering::Relaxed);
        self.refresher.store(refresher, Ordering::Relaxed);
    }

    /// It was reached.
    pub(super) fn clear(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    /// Whether this refresher could not be reached, not long ago.
    pub(super) fn is(&self, refresher: u64, now: u64) -> bool {
        self.was_tried(refresher, now, LASTS)
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
