//! The request page: the first page of the lock file. Every process of a session may write it.
//!
//! It holds requests, not facts. The refresher wakes when the notify word changes, reads the requests and decides. Invalid
//! values count as one request.

use std::{
    os::fd::BorrowedFd,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::layout;
use crate::{
    error::{ErrorKind, Fault},
    sys::{futex::Futex, lock::LockFile, mapping::WriteMapping},
};

/// The mapped page, and the offset of one entry in it.
#[derive(Debug)]
pub(crate) struct RequestPage {
    page: WriteMapping,
    base: usize,
    /// The number of words after the page: the last use of each entry of a pool.
    uses: usize,
}

impl RequestPage {
    /// Maps the page of `locks` for the entry at `index`. No byte of `locks` is locked yet.
    pub(crate) fn open(locks: &LockFile, index: usize) -> Result<Self, Fault> {
        if locks.bytes() < layout::REQUESTS_BYTES {
            let text = format!(
                "the lock file has {} bytes; the request page needs {}",
                locks.bytes(),
                layout::REQUESTS_BYTES
            );
            return Err(Fault::new(ErrorKind::TooSmall, text));
        }
        // The mapping keeps the open file alive, and with it the presence lock. So a process that closes all its
        // descriptors still counts as a user of the session.
        let page = WriteMapping::new(locks.descriptor()?.get()?, locks.bytes());
        let page = page.map_err(|e| Fault::system("mapping the lock file", e))?;
        let uses = locks.bytes() / 8 - layout::REQUESTS_BYTES / 8;
        Ok(RequestPage { page, base: index * layout::REQUEST_BYTES, uses })
    }

    /// Runs `fork`. The child does not inherit the page, so it does not count as a user of the session.
    pub(crate) fn without<T>(&self, fork: impl FnOnce() -> T) -> T {
        self.page.inherit(false);
        let forked = fork();
        self.page.inherit(true);
        forked
    }

    /// Maps the page through another descriptor of the same file.
    pub(crate) fn move_to(&self, fd: BorrowedFd<'_>) -> Result<(), Fault> {
        self.page.move_to(fd).map_err(|e| Fault::system("mapping the lock file again", e))
    }

    /// The number of notifications. Read it before the requests: then [`sleep`](Self::sleep) returns at once if one
    /// arrived in between.
    pub(crate) fn notifications(&self) -> u32 {
        self.notified().reader().load()
    }

    /// Wakes the refresher.
    pub(crate) fn notify(&self) {
        self.notified().notify();
    }

    /// Sleeps until a notification after `seen`, at most `limit`.
    pub(crate) fn sleep(&self, seen: u32, limit: Duration) {
        self.notified().reader().wait(seen, limit);
    }

    fn notified(&self) -> Futex<'_> {
        self.page.futex(self.base + layout::NOTIFIED)
    }

    /// Requests a set newer than `generation`, regardless of its age.
    pub(crate) fn request_refresh(&self, generation: u64) {
        // Relaxed, here and in `report_rejection`: the release increment in `notify` orders it before the wake.
        self.wanted().fetch_max(generation, Ordering::Relaxed);
        self.notify();
    }

    /// Whether a process requested a set newer than `generation`, the newest one.
    pub(crate) fn is_refresh_requested(&self, generation: u64) -> bool {
        is_asked(self.wanted(), generation)
    }

    /// Reports that AWS rejected the set of `generation`. True for the first report.
    pub(crate) fn report_rejection(&self, generation: u64) -> bool {
        let first = self.rejected().fetch_max(generation, Ordering::Relaxed) < generation;
        if first {
            self.notify();
        }
        first
    }

    /// Whether a process reported that AWS rejected the set of `generation`, the newest one.
    pub(crate) fn is_rejection_reported(&self, generation: u64) -> bool {
        is_asked(self.rejected(), generation)
    }

    /// Requests a set newer than `generation`, because that one is not valid for long enough for a caller.
    pub(crate) fn request_longer(&self, generation: u64) {
        // Relaxed: as in `request_refresh`.
        self.short().fetch_max(generation, Ordering::Relaxed);
        self.notify();
    }

    /// Whether the set of `generation`, the newest one, is not valid for long enough for a caller. Generation 0 is no set.
    pub(crate) fn is_longer_requested(&self, generation: u64) -> bool {
        generation > 0 && is_asked(self.short(), generation)
    }

    /// Notes that the entry at `index` of a pool is used in this minute. Writes only once a minute.
    pub(crate) fn note_use(&self, index: usize, minute: u64) {
        // Relaxed: the word is a hint, and orders nothing. Every process may write it, and it decides only which entry
        // goes first when the pool is full.
        if let Some(word) = self.last_uses().get(index)
            && word.load(Ordering::Relaxed) != minute
        {
            word.store(minute, Ordering::Relaxed);
        }
    }

    /// The minute of the last use of each entry of a pool.
    pub(crate) fn last_uses(&self) -> &[AtomicU64] {
        self.page.words(layout::REQUESTS_BYTES, self.uses)
    }

    fn wanted(&self) -> &AtomicU64 {
        self.page.word(self.base + layout::WANTED)
    }

    fn rejected(&self) -> &AtomicU64 {
        self.page.word(self.base + layout::REJECTED)
    }

    fn short(&self) -> &AtomicU64 {
        self.page.word(self.base + layout::SHORT)
    }
}

/// Whether the word requests a set newer than `generation`. A larger value is invalid. It counts as a request for this
/// generation, and the word is lowered: otherwise no later `fetch_max` would have an effect.
fn is_asked(word: &AtomicU64, generation: u64) -> bool {
    let asked = word.load(Ordering::Relaxed);
    if asked > generation {
        let _ = word.compare_exchange(asked, generation, Ordering::Relaxed, Ordering::Relaxed);
    }
    asked >= generation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_that_is_too_high_is_asked_for_once() {
        for (asked, newest) in [(5, 5), (6, 5), (u64::MAX, 5), (u64::MAX, 0), (1, 0)] {
            let word = AtomicU64::new(asked);
            let is_asked = |generation| is_asked(&word, generation);
            assert!(is_asked(newest) && is_asked(newest), "{asked} until there is a later set");
            assert!(!is_asked(newest + 1), "{asked}, of a set after {newest}");
            // As a process asks.
            word.fetch_max(newest + 1, Ordering::Relaxed);
            assert!(is_asked(newest + 1), "{asked} hides no later request");
        }
    }

    #[test]
    fn what_was_asked_of_an_earlier_set_is_done() {
        let word = AtomicU64::new(4);
        assert!(!is_asked(&word, 5));
        assert_eq!(word.into_inner(), 4);
    }
}
