//! The desk: in each process at most one thread at a time concerns itself with the election.
//!
//! Byte locks do not exclude threads of one process, so this does. A forked child finds the desk as
//! its parent's threads left it, which says nothing about the child: a desk that another process
//! has used is free.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Where a thread takes its seat. Shared by all handles of a session in the process.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// The pid of the process in which the seat is taken; 0 when it is free.
    seat: AtomicU64,
}

impl Desk {
    /// The seat, if no other thread of this process has it.
    pub(crate) fn try_sit(self: &Arc<Self>) -> Option<Seat> {
        let us = u64::from(process::id());
        let seen = self.seat.load(Ordering::Relaxed);
        if seen == us {
            return None;
        }
        // Acquire pairs with the release in `Seat::drop`: the seat comes with all that the thread
        // before did to the locks.
        self.seat.compare_exchange(seen, us, Ordering::Acquire, Ordering::Relaxed).ok()?;
        Some(Seat { desk: Arc::clone(self) })
    }
}

/// The right of one thread to stand for election; dropping it frees the seat.
#[derive(Debug)]
pub(crate) struct Seat {
    desk: Arc<Desk>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.desk.seat.store(0, Ordering::Release);
    }
}
