//! Sleep and wake across processes. A shared futex works on a read-only mapping, too.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering, fence},
    thread::yield_now,
    time::Duration,
};

use rustix::{
    thread::futex::{self, Flags, Timespec},
    time::{ClockId, Nsecs, clock_gettime},
};

/// Futex bit sets: threads that wake first, and threads that wake last.
const FIRST: NonZeroU32 = NonZeroU32::new(1).unwrap();
const LAST: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// A futex word to load and to sleep on. Read access to its memory is enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadFutex<'a>(&'a AtomicU32);

impl<'a> ReadFutex<'a> {
    pub(super) fn new(word: &'a AtomicU32) -> Self {
        ReadFutex(word)
    }

    /// The value. Everything stored before the [`Futex::notify`] that produced it is visible.
    pub(crate) fn load(self) -> u32 {
        let value = self.0.load(Ordering::Relaxed);
        // Pairs with the release increment in `Futex::notify`. A fence, because a read-only mapping allows no
        // acquire load.
        fence(Ordering::Acquire);
        value
    }

    /// Sleeps while the value is `seen`, at most `limit`. May return early: callers check the state again.
    pub(crate) fn wait(self, seen: u32, limit: Duration) {
        // A changed word, a signal and the limit all mean the same to the caller: check the state again.
        let _ = futex::wait(self.0, Flags::empty(), seen, Some(&timespec(limit)));
    }

    /// As [`wait`](Self::wait), but [`Futex::notify_in_turn`] wakes this thread after all others.
    pub(crate) fn wait_last(self, seen: u32, limit: Duration) {
        let now = clock_gettime(ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32);
        // Unlike the timeout of `wait`, this one is absolute.
        let end = timespec(now.saturating_add(limit));
        let _ = futex::wait_bitset(self.0, Flags::empty(), seen, Some(&end), LAST);
    }

    /// Wakes all sleepers.
    pub(crate) fn wake(self) {
        let _ = futex::wake(self.0, Flags::empty(), i32::MAX as u32);
    }
}

/// A futex word in writable memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Futex<'a>(&'a AtomicU32);

impl<'a> Futex<'a> {
    pub(super) fn new(word: &'a AtomicU32) -> Self {
        Futex(word)
    }

    /// The same word, to sleep on.
    pub(crate) fn reader(self) -> ReadFutex<'a> {
        ReadFutex(self.0)
    }

    /// Increments the word and wakes all sleepers.
    pub(crate) fn notify(self) {
        // Release pairs with the fence in `ReadFutex::load`.
        self.0.fetch_add(1, Ordering::Release);
        self.reader().wake();
    }

    /// Increments the word and wakes all sleepers. Sleepers in [`ReadFutex::wait_last`] wake last.
    ///
    /// The kernel often puts a woken thread on the CPU of the waker. There it waits until the waker sleeps. So
    /// this yields the CPU between the two groups.
    pub(crate) fn notify_in_turn(self) {
        // Release pairs with the fence in `ReadFutex::load`.
        self.0.fetch_add(1, Ordering::Release);
        // A thread in `wait` belongs to both groups.
        let woken = futex::wake_bitset(self.0, Flags::empty(), i32::MAX as u32, FIRST);
        if woken.is_ok_and(|count| count > 0) {
            yield_now();
        }
        self.reader().wake();
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: Nsecs::from(time.subsec_nanos()),
    }
}
