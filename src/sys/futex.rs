//! Sleep and wake across processes. A shared futex works on a read-only mapping too.

use std::{num::NonZeroU32, sync::atomic::AtomicU32, thread::yield_now, time::Duration};

use rustix::{
    thread::futex::{self, Flags, Timespec},
    time::{ClockId, Nsecs, clock_gettime},
};

/// Those who are woken first, and those who are woken last.
const FIRST: NonZeroU32 = NonZeroU32::new(1).unwrap();
const LAST: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// Sleeps while `word` is `seen`, at most `limit`. May return early: callers look again.
pub(crate) fn wait(word: &AtomicU32, seen: u32, limit: Duration) {
    // A changed word, a signal and the limit all mean the same to the caller: look again.
    let _ = futex::wait(word, Flags::empty(), seen, Some(&timespec(limit)));
}

/// The same, to be woken by [`wake_in_turn`] after all others.
pub(crate) fn wait_last(word: &AtomicU32, seen: u32, limit: Duration) {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32);
    // Unlike the other's, this time-out is a point in time.
    let end = timespec(now.saturating_add(limit));
    let _ = futex::wait_bitset(word, Flags::empty(), seen, Some(&end), LAST);
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: Nsecs::from(time.subsec_nanos()),
    }
}

/// Wakes everyone who sleeps on `word`.
pub(crate) fn wake_all(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}

/// Wakes everyone who sleeps on `word`, and lets those run who are not to be last: the kernel likes to
/// put who is woken on the waker's CPU, to wait there until the waker sleeps.
pub(crate) fn wake_in_turn(word: &AtomicU32) {
    // Who sleeps in `wait` is of either kind.
    let woken = futex::wake_bitset(word, Flags::empty(), i32::MAX as u32, FIRST);
    if woken.is_ok_and(|count| count > 0) {
        yield_now();
    }
    wake_all(word);
}
