//! The election: which process may call the source now.
//!
//! The election word of the entry names a *ticket*, or is 0. A ticket stands for a byte of the lock file, which its
//! owner keeps locked. So the word says who is elected, and the
//! kernel says whether that process still lives:
//!
//! | word | its byte | marked thread | lease | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | - | - | - | vacant |
//! | ticket | locked by another | - | running | held |
//! | ticket | free | alive | running | its owner has lost its lock: held |
//! | ticket | free | gone, not seen, or no mark | - | its owner died: vacant |
//! | ticket | locked, or marked thread alive | | over | its owner hangs: vacant |
//!
//! The kernel drops a process's locks on a file when anything in it closes that file: another copy of this library,
//! an agent that looks through `/dev/shm`. So the winner puts the mark of its thread beside the word, made for its
//! ticket. A loss between the exchange and the mark, a matter of microseconds, costs one call.
//!
//! A candidate locks the byte of a fresh ticket first and then exchanges the word for it, from what
//! it saw to be vacant. The exchange decides: of many candidates one wins, and a word that changed
//! in between makes the others look again. A ticket carries the end of its lease, so that one
//! exchange sets both. Tickets do not repeat: two owners of one byte cannot be, and the lease's
//! millisecond is over before 2^21 random numbers are.
//!
//! An owner that was stopped and wakes after its lease may still believe itself elected. It can do
//! no harm: publication is an exchange from the version that it saw before it asked the source.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::election_lock::ElectionGuard;
use crate::{
    clock::as_nanos,
    error::{ErrorKind, Fault},
    segment::{
        Entry, EntryWriter,
        notes::{Attempt, ElectedNote},
    },
    sys::{
        lock::LockFile,
        task::{Presence, TaskMark},
    },
};

const RANDOM_BITS: u32 = 21;
const MILLISECOND: u64 = 1_000_000;
/// Two candidates draw the same ticket once in two million times; a byte that is taken so often has been taken
/// with many others.
const TICKETS: usize = 8;

/// The name of one candidacy, and the byte that it locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticket(u64);

impl Ticket {
    fn new(lease_end: u64, random: u64) -> Self {
        // The highest bit stays clear. That is enough for 139 years.
        let millisecond = (lease_end / MILLISECOND) & ((1 << (63 - RANDOM_BITS)) - 1);
        Ticket(millisecond << RANDOM_BITS | random >> (64 - RANDOM_BITS))
    }

    fn lease_end(self) -> u64 {
        (self.0 >> RANDOM_BITS) * MILLISECOND
    }
}

/// Who holds the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// 0 when the process is in a pid namespace that this one cannot see.
    pub(crate) pid: u32,
    /// When its lease ends, in nanoseconds since boot.
    pub(crate) lease_end: u64,
    ticket: Ticket,
}

/// Who holds the election at `now`, this process aside: its own locks are invisible to it.
pub(crate) fn holder(
    entry: Entry<'_>,
    locks: &LockFile,
    now: u64,
) -> Result<Option<Holder>, Fault> {
    // The word alone decides nothing, the lock table and the exchange do.
    holder_of(Ticket(entry.election()), entry, locks, now)
}

/// The last election, for the status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastElection {
    pub(crate) pid: u32,
    /// In nanoseconds since boot, as the end.
    pub(crate) since: u64,
    pub(crate) lease_end: u64,
    /// Whether the elected process lives; false also when it is this one.
    pub(crate) alive: bool,
}

/// Who was elected and has not resigned, dead or alive.
pub(crate) fn last(entry: Entry<'_>, locks: &LockFile) -> Result<Option<LastElection>, Fault> {
    let word = || Ticket(entry.election());
    let mut ticket = word();
    let holder = loop {
        if ticket.0 == 0 {
            return Ok(None);
        }
        let holder = owner(ticket, entry, locks)?;
        // A free byte is that of a dead process only if the word still names it: an owner that renews its
        // lease frees the old one.
        let now = word();
        if holder.is_some() || now == ticket {
            break holder;
        }
        ticket = now;
    };
    let ElectedNote { since, pid: noted, .. } = entry.last_elected();
    // The note follows the election, and its writer may have been killed before it.
    let pid = holder.filter(|&pid| pid != 0).unwrap_or(noted);
    Ok(Some(LastElection { pid, since, lease_end: ticket.lease_end(), alive: holder.is_some() }))
}

fn holder_of(
    ticket: Ticket,
    entry: Entry<'_>,
    locks: &LockFile,
    now: u64,
) -> Result<Option<Holder>, Fault> {
    if ticket.0 == 0 || now >= ticket.lease_end() {
        return Ok(None);
    }
    let lease_end = ticket.lease_end();
    Ok(owner(ticket, entry, locks)?.map(|pid| Holder { pid, lease_end, ticket }))
}

/// The process that locks the ticket's byte, or that has lost that lock and lives. Its pid is 0 when it is in a pid
/// namespace that this process cannot see.
fn owner(ticket: Ticket, entry: Entry<'_>, locks: &LockFile) -> Result<Option<u32>, Fault> {
    if let Some(pid) = locks.holder(entry.locks().ticket(ticket.0))? {
        return Ok(Some(pid));
    }
    let note = entry.last_elected();
    Ok((note.mark.presence(ticket.0) == Presence::Alive).then_some(note.pid))
}

/// The outcome of a candidacy.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// This process is elected.
    Won(Elected),
    /// Another process is; the election lock comes back.
    Held(ElectionGuard, Holder),
}

/// Proof of the election; dropping it resigns.
#[derive(Debug)]
pub(crate) struct Elected {
    ticket: Ticket,
    view: Arc<EntryWriter>,
    guard: ElectionGuard,
    /// The predecessor died or hung instead of resigning, and nobody has counted that yet.
    pub(crate) takeover: bool,
    /// The pid of the last one that was elected before.
    pub(crate) predecessor: u32,
}

impl Elected {
    /// The segment, writable.
    pub(crate) fn view(&self) -> &EntryWriter {
        &self.view
    }

    pub(crate) fn locks(&self) -> &LockFile {
        self.guard.locks()
    }

    /// Notes that the source is about to be asked for a successor of `generation`.
    pub(crate) fn begin_attempt(&self, generation: u64) {
        self.view.begin_attempt(Attempt { ticket: self.ticket.0, generation });
    }

    /// Notes that the outcome is published.
    pub(crate) fn end_attempt(&self) {
        self.view.end_attempt(self.ticket.0);
    }

    /// When the lease ends, in nanoseconds since boot.
    pub(crate) fn lease_end(&self) -> u64 {
        self.ticket.lease_end()
    }

    /// Notes the calling thread as the one that does the work of the elected.
    pub(crate) fn mark_thread(&self) {
        let mark = TaskMark::of_this_thread(self.ticket.0);
        self.view.note_elected(ElectedNote { mark, ..self.view.reader().last_elected() });
    }

    /// Extends the lease: from `now` for `lease`. False when the election was lost meanwhile.
    ///
    /// The new ticket's byte is locked before the word names it and the old one's freed after, so
    /// that at no moment the word names a free byte.
    pub(crate) fn renew(&mut self, now: u64, lease: Duration) -> Result<bool, Fault> {
        let next = lock_ticket(&self.view, self.locks(), now.saturating_add(as_nanos(lease)))?;
        // AcqRel as in `exchange`: the word keeps what the election before it has released.
        let renewed = self
            .view
            .election()
            .compare_exchange(self.ticket.0, next.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        let old = if renewed { std::mem::replace(&mut self.ticket, next) } else { next };
        if renewed {
            self.mark_thread();
        }
        self.locks().unlock(self.byte(old));
        Ok(renewed)
    }

    /// Whether nobody else was elected meanwhile: false for a process that was stopped for longer
    /// than its lease.
    pub(crate) fn holds(&self) -> bool {
        // Relaxed: this only saves a needless call. Whether a set may be published is decided by
        // the exchange of its version.
        self.view.election().load(Ordering::Relaxed) == self.ticket.0
    }

    fn byte(&self, ticket: Ticket) -> i64 {
        self.view.reader().locks().ticket(ticket.0)
    }

    /// Gives election and election lock back, and wakes whoever fell asleep meanwhile to see it.
    pub(crate) fn resign(self) {}
}

impl Drop for Elected {
    fn drop(&mut self) {
        // The word first, the lock after: a word without its lock would count as a death. If the
        // word is another's by now, the lease was over.
        // Release pairs with the acquire exchange of the next winner: it sees what we published.
        let _ = self.view.election().compare_exchange(
            self.ticket.0,
            0,
            Ordering::Release,
            Ordering::Relaxed,
        );
        // The election lock is freed after this: no other thread of this process can stand while its own lock
        // makes the word look vacant.
        self.locks().unlock(self.byte(self.ticket));
    }
}

/// Stands for election. The lease runs from `now` for `lease`.
pub(crate) fn stand(
    mut guard: ElectionGuard,
    view: EntryWriter,
    now: u64,
    lease: Duration,
) -> Result<Outcome, Fault> {
    let ticket = lock_ticket(&view, guard.locks(), now.saturating_add(as_nanos(lease)))?;
    let outcome = exchange(&view, guard.locks(), now, ticket);
    match outcome {
        Ok(Ok(takeover)) => {
            let predecessor = view.reader().last_elected().pid;
            let mark = TaskMark::of_this_thread(ticket.0);
            view.note_elected(ElectedNote { since: now, pid: std::process::id(), mark });
            let view = Arc::new(view);
            guard.win(&view);
            Ok(Outcome::Won(Elected { ticket, view, guard, takeover, predecessor }))
        }
        Ok(Err(holder)) => {
            guard.locks().unlock(view.reader().locks().ticket(ticket.0));
            Ok(Outcome::Held(guard, holder))
        }
        Err(fault) => {
            guard.locks().unlock(view.reader().locks().ticket(ticket.0));
            Err(fault)
        }
    }
}

fn lock_ticket(view: &EntryWriter, locks: &LockFile, lease_end: u64) -> Result<Ticket, Fault> {
    let mut last = 0;
    for _ in 0..TICKETS {
        let ticket = Ticket::new(lease_end, random()?);
        let byte = view.reader().locks().ticket(ticket.0);
        if locks.try_lock(byte)? {
            return Ok(ticket);
        }
        last = byte;
    }
    let holder = locks.holder(last)?.unwrap_or(0);
    let text = format!(
        "process {holder} has locked bytes of the session's lock file that are none of its own"
    );
    Err(Fault::new(ErrorKind::System, text))
}

/// Exchanges the word for `ticket` if it is vacant; says then whether it was left by a dead process.
fn exchange(
    view: &EntryWriter,
    locks: &LockFile,
    now: u64,
    ticket: Ticket,
) -> Result<Result<bool, Holder>, Fault> {
    loop {
        let seen = view.election().load(Ordering::Relaxed);
        if let Some(holder) = holder_of(Ticket(seen), view.reader(), locks, now)? {
            return Ok(Err(holder));
        }
        // Acquire pairs with the release of the one who resigned: its set or failure is visible,
        // so that nobody calls the source for what is there already. After a death the kernel's
        // lock table has ordered the two.
        let exchanged =
            view.election().compare_exchange(seen, ticket.0, Ordering::AcqRel, Ordering::Relaxed);
        if exchanged.is_ok() {
            return Ok(Ok(seen != 0));
        }
    }
}

/// 64 random bits from the kernel: no seed that a fork could copy.
pub(crate) fn random() -> Result<u64, Fault> {
    let mut bytes = [0u8; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(8) => Ok(u64::from_ne_bytes(bytes)),
        Ok(n) => Err(Fault::new(ErrorKind::System, format!("the kernel gave {n} random bytes"))),
        Err(errno) => Err(Fault::system("asking the kernel for random bytes", errno)),
    }
}

/// A chance from 0 to 1, drawn anew each time.
pub(crate) fn chance() -> Result<f64, Fault> {
    Ok((random()? >> 11) as f64 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_carries_its_lease() {
        for end in [0, 1_000_000, 987_654_321_000_000, 3 << 60] {
            for random in [0, u64::MAX] {
                let ticket = Ticket::new(end, random);
                assert_eq!(ticket.lease_end(), end / MILLISECOND * MILLISECOND);
            }
        }
    }
}
