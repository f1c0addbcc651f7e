//! The desk: in each process at most one thread at a time concerns itself with the election.
//!
//! Byte locks do not exclude threads of one process, and closing any descriptor of the lock file
//! drops them all: so a process has one lock file for a session, and one seat in front of it. A
//! forked child finds the desk as its parent's threads left it, which says nothing about the child:
//! a seat that another process has taken is free.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    error::Fault,
    segment::{EntryWriter, Requests, Segment},
    sys::{lock::LockFile, process_token::ProcessToken},
};

/// Set when a thread waits for the seat to become free.
const WANTED: u64 = 1 << 63;

/// The lock file of a session and the seat in front of it: one for all its handles in the process.
#[derive(Debug)]
pub(crate) struct Desk {
    locks: LockFile,
    requests: Requests,
    /// The token of the process in which the seat is taken, and `WANTED`; 0 when it is free.
    seat: AtomicU64,
}

impl Desk {
    pub(crate) fn new(locks: LockFile) -> Result<Arc<Self>, Fault> {
        let requests = Requests::open(&locks, 0)?;
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
        self.seat.load(Ordering::Relaxed) & !WANTED == ProcessToken::current().word()
    }

    /// The seat, if no other thread of this process has it.
    pub(crate) fn try_sit(self: &Arc<Self>, segment: &Arc<Segment>) -> Option<Seat> {
        self.sit(segment, 0)
    }

    /// The same; where the seat is taken, its end is announced in the segment.
    pub(crate) fn sit_or_want(self: &Arc<Self>, segment: &Arc<Segment>) -> Option<Seat> {
        self.sit(segment, WANTED)
    }

    fn sit(self: &Arc<Self>, segment: &Arc<Segment>, mark: u64) -> Option<Seat> {
        let us = ProcessToken::current().word();
        loop {
            let seen = self.seat.load(Ordering::Relaxed);
            let taken = seen & !WANTED == us;
            let next = if taken { seen | mark } else { us };
            // Acquire pairs with the release in `Seat::drop`: the seat comes with all that the
            // thread before did to the locks.
            let exchanged =
                self.seat.compare_exchange(seen, next, Ordering::Acquire, Ordering::Relaxed);
            match exchanged {
                Ok(_) if taken => return None,
                Ok(_) => {
                    let (desk, segment) = (Arc::clone(self), Arc::clone(segment));
                    return Some(Seat { desk, segment, elected: None });
                }
                Err(_) => {}
            }
        }
    }
}

/// The right of one thread to stand for election. Dropping it frees the seat, and wakes whoever sleeps
/// until then: a thread of this process that wants the seat, or, after an election, everyone.
#[derive(Debug)]
pub(crate) struct Seat {
    desk: Arc<Desk>,
    segment: Arc<Segment>,
    /// The segment as the elected one writes it.
    elected: Option<Arc<EntryWriter>>,
}

impl Seat {
    pub(crate) fn locks(&self) -> &LockFile {
        &self.desk.locks
    }

    /// Notes that this thread is elected, and writes by `view`.
    pub(crate) fn win(&mut self, view: &Arc<EntryWriter>) {
        self.elected = Some(Arc::clone(view));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Release pairs with the acquire in `sit`.
        let wanted = self.desk.seat.swap(0, Ordering::Release) & WANTED != 0;
        match &self.elected {
            Some(view) => view.announce(),
            None if wanted => self.segment.announce(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;
    use crate::{name::SessionName, segment::Header, sys::object};

    fn desk(name: &str) -> (Arc<Desk>, Arc<Segment>) {
        let name = SessionName::new(name).unwrap();
        let object = object::open_or_create(&name.lock()).unwrap();
        object::unlink(&name.lock());
        let header = Header {
            instance: 1,
            creator: process::id(),
            time_namespace: 0,
            fingerprint: [0; 32],
            description: "test".into(),
            eager: false,
            sealed: false,
            secret: false,
        };
        let segment = Arc::new(Segment::create(&name, header).unwrap());
        object::unlink(&name.segment());
        (Desk::new(LockFile::new(object).reserved(4096).unwrap()).unwrap(), segment)
    }

    #[test]
    fn one_thread_sits_and_who_waits_is_told() {
        let (desk, segment) = desk(&format!("desk-{}", process::id()));
        let event = || segment.view().latest_event();
        let before = event();
        let seat = desk.try_sit(&segment).unwrap();
        assert!(desk.try_sit(&segment).is_none());
        drop(seat);
        assert_eq!(event(), before, "nobody waits");
        let seat = desk.try_sit(&segment).unwrap();
        assert!(desk.sit_or_want(&segment).is_none());
        drop(seat);
        assert_ne!(event(), before, "somebody waits");
        let before = event();
        drop(desk.sit_or_want(&segment).unwrap());
        assert_eq!(event(), before, "nobody waits any more");
        let mut seat = desk.try_sit(&segment).unwrap();
        seat.win(&Arc::new(segment.writable().unwrap()));
        drop(seat);
        assert_ne!(event(), before, "everyone waits for the elected");
    }

    #[test]
    fn the_seat_of_another_process_is_free() {
        let (desk, segment) = desk(&format!("desk-of-parent-{}", process::id()));
        desk.seat.store(ProcessToken::current().word() ^ 2, Ordering::Relaxed);
        assert!(desk.try_sit(&segment).is_some());
    }
}
