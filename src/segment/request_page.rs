//! The requests: the one page that every process of a session may write, the first of the lock file.
//!
//! It holds wishes, not facts. Whoever is in charge of the refresh looks at them when the notify word rings, and decides;
//! nonsense in it counts as one wish.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::layout;
use crate::{
    error::{ErrorKind, Fault},
    sys::{futex::Futex, lock::LockFile, mapping::WriteMapping},
};

/// The mapped page, and the place of one entry in it.
#[derive(Debug)]
pub(crate) struct RequestPage {
    page: WriteMapping,
    base: usize,
}

impl RequestPage {
    /// Maps the page of `locks`, of which no byte is locked yet, for the entry at `index`.
    pub(crate) fn open(locks: &LockFile, index: usize) -> Result<Self, Fault> {
        if locks.bytes() < layout::REQUESTS_BYTES {
            let text = format!(
                "the lock file has {} bytes; the requests need {}",
                locks.bytes(),
                layout::REQUESTS_BYTES
            );
            return Err(Fault::new(ErrorKind::TooSmall, text));
        }
        // The mapping keeps the open file alive, and with it the presence lock: a process that closes all its
        // descriptors still uses the session.
        let page = WriteMapping::new(locks.descriptor()?.get()?, layout::REQUESTS_BYTES);
        let page = page.map_err(|e| Fault::system("mapping the lock file", e))?;
        Ok(RequestPage { page, base: index * layout::REQUEST_BYTES })
    }

    /// Runs `fork`, whose child does not inherit the page: it is no user of the session.
    pub(crate) fn without<T>(&self, fork: impl FnOnce() -> T) -> T {
        self.page.inherit(false);
        let forked = fork();
        self.page.inherit(true);
        forked
    }

    /// How often the notify word has rung. Taken before looking at the wishes, it makes `sleep` return at
    /// once when it rang in between.
    pub(crate) fn notifications(&self) -> u32 {
        self.notified().reader().load()
    }

    /// Wakes whoever is in charge of the refresh.
    pub(crate) fn notify(&self) {
        self.notified().notify();
    }

    /// Sleeps until the notify word has rung more often than `seen`, at most `limit`.
    pub(crate) fn sleep(&self, seen: u32, limit: Duration) {
        self.notified().reader().wait(seen, limit);
    }

    fn notified(&self) -> Futex<'_> {
        self.page.futex(self.base + layout::NOTIFIED)
    }

    /// Wishes for a successor of `generation`, whatever its age.
    pub(crate) fn request_refresh(&self, generation: u64) {
        // Relaxed, here and below: the notify word orders it.
        self.wanted().fetch_max(generation, Ordering::Relaxed);
        self.notify();
    }

    /// Whether somebody wants a successor of `generation`, which is the newest.
    pub(crate) fn is_refresh_requested(&self, generation: u64) -> bool {
        is_asked(self.wanted(), generation)
    }

    /// Says that AWS rejected the set of `generation`; true for the first who says so.
    pub(crate) fn report_rejection(&self, generation: u64) -> bool {
        let first = self.rejected().fetch_max(generation, Ordering::Relaxed) < generation;
        if first {
            self.notify();
        }
        first
    }

    /// Whether somebody said that AWS rejected the set of `generation`, which is the newest.
    pub(crate) fn is_rejection_reported(&self, generation: u64) -> bool {
        is_asked(self.rejected(), generation)
    }

    fn wanted(&self) -> &AtomicU64 {
        self.page.word(self.base + layout::WANTED)
    }

    fn rejected(&self) -> &AtomicU64 {
        self.page.word(self.base + layout::REJECTED)
    }
}

/// Whether the word names `generation`. One that names a later set is nonsense: it counts as this one's, once,
/// or else no honest maximum would ever count again.
fn is_asked(word: &AtomicU64, generation: u64) -> bool {
    let asked = word.load(Ordering::Relaxed);
    if asked > generation {
        let _ = word.compare_exchange(asked, generation, Ordering::Relaxed, Ordering::Relaxed);
    }
    asked >= generation
}
