//! Sleep and wake across processes. A shared futex works on a read-only mapping too.

use std::{sync::atomic::AtomicU32, time::Duration};

use rustix::{
    thread::futex::{self, Flags, Timespec},
    time::Nsecs,
};

/// Sleeps while `word` is `seen`, at most `limit`. May return early: callers look again.
pub(crate) fn wait(word: &AtomicU32, seen: u32, limit: Duration) {
    let timeout = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: Nsecs::from(limit.subsec_nanos()),
    };
    // A changed word, a signal and the limit all mean the same to the caller: look again.
    let _ = futex::wait(word, Flags::empty(), seen, Some(&timeout));
}

/// Wakes everyone who sleeps on `word`.
pub(crate) fn wake_all(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), i32::MAX as u32);
}
