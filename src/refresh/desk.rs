//! The desk: in each process at most one thread at a time concerns itself with the election.
//!
//! Byte locks do not exclude threads of one process, and closing any descriptor of the lock file
//! drops them all: so a process has one lock file for a session, and one seat in front of it. A
//! forked child finds the desk as its parent's threads left it, which says nothing about the child:
//! a seat that another process has taken is free.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{error::Fault, segment::Requests, sys::lock::LockFile};

/// Set when a thread waits for the seat to become free.
const WANTED: u64 = 1 << 32;

/// The lock file of a session and the seat in front of it: one for all its handles in the process.
#[derive(Debug)]
pub(crate) struct Desk {
    locks: LockFile,
    requests: Requests,
    /// The pid of the process in which the seat is taken, and `WANTED`; 0 when it is free.
    seat: AtomicU64,
}

impl Desk {
    pub(crate) fn new(locks: LockFile) -> Result<Arc<Self>, Fault> {
        let requests = Requests::open(&locks)?;
        Ok(Arc::new(Desk { locks, requests, seat: AtomicU64::new(0) }))
    }

    /// What the processes of the session wish for.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The lock file. Whoever locks bytes of it holds the seat.
    pub(crate) fn locks(&self) -> &LockFile {
        &self.locks
    }

    /// Whether a thread of this process has the seat.
    pub(crate) fn is_taken(&self) -> bool {
        self.seat.load(Ordering::Relaxed) & !WANTED == u64::from(process::id())
    }

    /// The seat, if no other thread of this process has it.
    pub(crate) fn try_sit(self: &Arc<Self>) -> Option<Seat> {
        self.sit(0)
    }

    /// The same; where the seat is taken, whoever has it learns that somebody waits.
    pub(crate) fn sit_or_want(self: &Arc<Self>) -> Option<Seat> {
        self.sit(WANTED)
    }

    fn sit(self: &Arc<Self>, mark: u64) -> Option<Seat> {
        let us = u64::from(process::id());
        loop {
            let seen = self.seat.load(Ordering::Relaxed);
            let taken = seen & !WANTED == us;
            let next = if taken { seen | mark } else { us };
            // Acquire pairs with the release in `Seat::free`: the seat comes with all that the
            // thread before did to the locks.
            let exchanged =
                self.seat.compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed);
            match exchanged {
                Ok(_) if taken => return None,
                Ok(_) => return Some(Seat { desk: Arc::clone(self), held: true }),
                Err(_) => {}
            }
        }
    }
}

/// The right of one thread to stand for election; dropping it frees the seat.
#[derive(Debug)]
pub(crate) struct Seat {
    desk: Arc<Desk>,
    held: bool,
}

impl Seat {
    pub(crate) fn locks(&self) -> &LockFile {
        &self.desk.locks
    }

    /// Frees the seat; true when another thread waits for it and has to be told.
    pub(crate) fn leave(mut self) -> bool {
        self.free()
    }

    fn free(&mut self) -> bool {
        // Only the first time: afterwards the seat may be another thread's.
        let held = std::mem::take(&mut self.held);
        held && self.desk.seat.swap(0, Ordering::Release) & WANTED != 0
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{name::SessionName, sys::object};

    fn desk(name: &str) -> Arc<Desk> {
        let path = SessionName::new(name).unwrap().lock();
        let object = object::open_or_create(&path).unwrap();
        object::unlink(&path);
        Desk::new(LockFile::new(object).cleared(4096).unwrap()).unwrap()
    }

    #[test]
    fn one_thread_sits_and_learns_who_waits() {
        let desk = desk(&format!("desk-{}", process::id()));
        let seat = desk.try_sit().unwrap();
        assert!(desk.try_sit().is_none());
        assert!(!seat.leave(), "nobody waits");
        let seat = desk.try_sit().unwrap();
        assert!(desk.sit_or_want().is_none());
        assert!(seat.leave(), "somebody waits");
        assert!(!desk.sit_or_want().unwrap().leave());
    }

    #[test]
    fn the_seat_of_another_process_is_free() {
        let desk = desk(&format!("desk-of-parent-{}", process::id()));
        desk.seat.store(u64::from(process::id()) + 1, Ordering::Relaxed);
        assert!(desk.try_sit().is_some());
    }
}
