//! The record of each thread.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{Copies, Record, Sections};
use crate::sys::barrier;

static SECTIONS: Sections = Sections::new(places);

thread_local! {
    /// Without a destructor, so that a look at it is one load.
    static KNOWN: Cell<Option<&'static Record>> = const { Cell::new(None) };
    /// Ends with the thread.
    static CLAIM: Claim = Claim::new();
}

/// A thread's right to its record.
struct Claim(&'static Record);

impl Claim {
    fn new() -> Self {
        barrier::prepare();
        Claim(SECTIONS.claim())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A read in a later destructor of this thread finds no record, and gets none.
        KNOWN.set(None);
        self.0.release();
    }
}

/// The record of the calling thread, if it has one.
#[inline]
pub(crate) fn known() -> Option<&'static Record> {
    KNOWN.get()
}

/// The record of the calling thread, which gets one if it has none. `None` when its thread-locals are destroyed.
pub(crate) fn claimed() -> Option<&'static Record> {
    known().or_else(|| {
        let record = CLAIM.try_with(|claim| claim.0).ok();
        KNOWN.set(record);
        record
    })
}

/// A forked child has one thread, and the records of all of its parent's.
pub(crate) fn after_fork_in_child() {
    SECTIONS.forget_others(known());
}

impl<T: Send + Sync + 'static> Copies<T> {
    /// Takes all copies away.
    pub(crate) fn clear(&self) {
        self.clear_in(&SECTIONS, known());
    }
}

/// How many places there are for each CPU: threads that run at the same time seldom meet.
const FOR_EACH_CPU: usize = 4;
/// Bounds, for the memory of a process with many sessions.
const LEAST: usize = 8;
const MOST: usize = 256;

fn places() -> usize {
    static CPUS: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: each thread that asks the kernel gets an answer that will do.
    let mut cpus = CPUS.load(Ordering::Relaxed);
    if cpus == 0 {
        // The CPUs on which this thread may run; more than the set can tell are many.
        let found = rustix::thread::sched_getaffinity(None);
        cpus = found.map_or(MOST, |set| set.count() as usize).max(1);
        CPUS.store(cpus, Ordering::Relaxed);
    }
    (cpus * FOR_EACH_CPU).clamp(LEAST, MOST)
}
