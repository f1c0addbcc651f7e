//! The election: it decides which process may call the source.
//!
//! The election word of the entry holds a *ticket*, or 0. A ticket stands for a byte of the lock file. The owner of
//! the ticket keeps that byte locked. So the word tells which process is elected, and the kernel tells whether that
//! process still lives:
//!
//! | word | its byte | marked thread | lease | meaning |
//! | --- | --- | --- | --- | --- |
//! | 0 | - | - | - | vacant |
//! | ticket | locked by another | - | running | held |
//! | ticket | free | alive | running | the owner lives and has lost its lock: held |
//! | ticket | free | gone, not seen, or no mark | - | the owner died: vacant |
//! | ticket | locked, or marked thread alive | | over | the owner hangs: vacant |
//!
//! The kernel frees a process's locks on a file when any code in the process closes that file: another copy of this
//! library, or an agent that reads `/dev/shm`. So the winner also stores the mark of its thread, made for its ticket.
//! If the lock is lost in the microseconds before the mark is stored, another process may be elected, too. That costs
//! one extra call of the source.
//!
//! A candidate first locks the byte of a new ticket. Then it puts the ticket into the word with a compare-and-swap, from
//! the value that it found vacant. One candidate wins; the others find a changed word and check it again. A ticket
//! contains the end of its lease, so one compare-and-swap sets both. Tickets do not repeat: a byte has only one owner at
//! a time, and a millisecond is too short to use up 2^21 random numbers.
//!
//! What the winner does first: `predecessor.rs`. The call of the source: `fetch.rs`.
//!
//! An owner that was stopped and continues after its lease may still consider itself elected. That is harmless: it
//! publishes with a compare-and-swap from the version that it saw before it asked the source.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::election_lock::ElectionGuard;
use crate::{
    clock::as_nanos,
    error::{ErrorKind, Fault},
    fault_point::{FaultPoint, hit},
    segment::{
        Entry, EntryWriter,
        notes::{Attempt, ElectedNote},
    },
    sys::{
        lock::LockFile,
        random,
        task::{Presence, TaskMark},
    },
};

const RANDOM_BITS: u32 = 21;
const MILLISECOND: u64 = 1_000_000;
/// How many tickets a candidate draws at most. Two candidates draw the same one once in two million times. If so many
/// bytes in a row are taken, a process has locked whole ranges of the lock file.
const TICKETS: usize = 8;

/// Identifies one candidacy, and the byte that it locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticket(u64);

impl Ticket {
    fn new(lease_end: u64, random: u64) -> Self {
        // The highest bit stays clear. The rest is enough for 139 years.
        let millisecond = (lease_end / MILLISECOND) & ((1 << (63 - RANDOM_BITS)) - 1);
        Ticket(millisecond << RANDOM_BITS | random >> (64 - RANDOM_BITS))
    }

    fn lease_end(self) -> u64 {
        (self.0 >> RANDOM_BITS) * MILLISECOND
    }
}

/// The elected process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// 0 when the process is in a pid namespace that this process cannot see.
    pub(crate) pid: u32,
    /// When its lease ends, in nanoseconds since boot.
    pub(crate) lease_end: u64,
    ticket: Ticket,
}

/// The elected process at `now`, if it is another process: a process cannot see its own locks.
pub(crate) fn holder(
    entry: Entry<'_>,
    locks: &LockFile,
    now: u64,
) -> Result<Option<Holder>, Fault> {
    // The word alone decides nothing: the locks and the compare-and-swap do.
    holder_of(Ticket(entry.election()), entry, locks, now)
}

/// The last election, for the status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastElection {
    pub(crate) pid: u32,
    /// In nanoseconds since boot, as is `lease_end`.
    pub(crate) since: u64,
    pub(crate) lease_end: u64,
    /// Whether the elected process lives. False also when it is this process. If this process cannot see it, whether its
    /// lock says so, or else its lease.
    pub(crate) alive: bool,
    /// Whether this process can see it: not if it is in another pid namespace.
    pub(crate) visible: bool,
}

/// The process that was elected and has not resigned, dead or alive. `locks` is `None` in a process that may not open the
/// lock file.
pub(crate) fn last(
    entry: Entry<'_>,
    locks: Option<&LockFile>,
    now: u64,
) -> Result<Option<LastElection>, Fault> {
    let word = || Ticket(entry.election());
    let mut ticket = word();
    let holder = loop {
        if ticket.0 == 0 {
            return Ok(None);
        }
        let holder = locks.map(|locks| owner(ticket, entry, locks)).transpose()?.flatten();
        // A free byte means a dead owner only if the word still holds the ticket: an owner that renews its lease
        // frees the old byte.
        let now = word();
        if holder.is_some() || now == ticket {
            break holder;
        }
        ticket = now;
    };
    let ElectedNote { since, pid: noted, mark } = entry.last_elected();
    let presence = mark.presence(ticket.0);
    let (alive, visible) = match (locks, presence) {
        // `/proc` may hide the processes of other users.
        (None, presence) => {
            let seen = presence == Presence::Alive;
            (seen || now < ticket.lease_end(), seen)
        }
        (Some(_), Presence::Unseen) => (holder.is_some(), false),
        (Some(_), _) => (holder.is_some(), holder != Some(0)),
    };
    // The note is written after the election. Its writer may have been killed before that.
    let pid = holder.filter(|&pid| pid != 0).unwrap_or(noted);
    Ok(Some(LastElection { pid, since, lease_end: ticket.lease_end(), alive, visible }))
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

/// The pid of the process that locks the byte of the ticket, or that lost this lock and still lives. 0 when it is in a
/// pid namespace that this process cannot see.
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
    /// Another process is elected. Returns the guard of the election lock.
    Held(ElectionGuard, Holder),
}

/// Proof that this process is elected. Dropping it resigns.
#[derive(Debug)]
pub(crate) struct Elected {
    ticket: Ticket,
    view: Arc<EntryWriter>,
    guard: ElectionGuard,
    /// The predecessor died or hung instead of resigning, and this is not counted yet.
    pub(crate) takeover: bool,
    /// The pid of the process that was elected before.
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

    /// Whether a process has requested a successor of `generation` that is valid for longer.
    pub(crate) fn is_longer_requested(&self, generation: u64) -> bool {
        self.guard.is_longer_requested(generation)
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

    /// Stores the mark of the calling thread: it does the work of the elected process.
    pub(crate) fn mark_thread(&self) {
        let mark = TaskMark::of_this_thread(self.ticket.0);
        self.view.note_elected(ElectedNote { mark, ..self.view.reader().last_elected() });
    }

    /// Stores the mark of this process: any of its threads may do the work.
    pub(crate) fn mark_process(&self) {
        let mark = TaskMark::of_this_process(self.ticket.0);
        self.view.note_elected(ElectedNote { mark, ..self.view.reader().last_elected() });
    }

    /// Extends the lease: from `now` for `lease`. False when the election was lost in the meantime.
    ///
    /// It locks the byte of the new ticket before the word holds that ticket, and frees the old byte after. So the
    /// word never holds a ticket with a free byte.
    pub(crate) fn renew(&mut self, now: u64, lease: Duration) -> Result<bool, Fault> {
        let next = lock_ticket(&self.view, self.locks(), now.saturating_add(as_nanos(lease)))?;
        // AcqRel as in `exchange`: the word keeps releasing what earlier elections released.
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

    /// Whether this process is still elected. False when another process was elected in the meantime, after this one
    /// was stopped for longer than its lease.
    pub(crate) fn holds(&self) -> bool {
        // Relaxed: this only avoids a needless call. The compare-and-swap of the version decides whether a set may
        // be published.
        self.view.election().load(Ordering::Relaxed) == self.ticket.0
    }

    fn byte(&self, ticket: Ticket) -> i64 {
        self.view.reader().locks().ticket(ticket.0)
    }

    /// Resigns, frees the election lock and wakes the waiters.
    pub(crate) fn resign(self) {}
}

impl Drop for Elected {
    fn drop(&mut self) {
        // First the word, then the lock: a ticket in the word with a free byte would count as a death. If the word
        // holds another ticket by now, the lease was over.
        // Release pairs with the acquire in the next winner's `exchange`: it sees what this process published.
        let _ = self.view.election().compare_exchange(
            self.ticket.0,
            0,
            Ordering::Release,
            Ordering::Relaxed,
        );
        // The guard of the election lock is dropped after this. Before that, no other thread of this process can
        // stand for election. It would not see this process's own byte lock, and would find the word vacant.
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
    hit(FaultPoint::Candidate);
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
        let ticket = Ticket::new(lease_end, random::number()?);
        let byte = view.reader().locks().ticket(ticket.0);
        if locks.try_lock(byte)? {
            return Ok(ticket);
        }
        last = byte;
    }
    let holder = locks.holder(last)?.unwrap_or(0);
    let text = format!(
        "process {holder} has locked bytes of the session's lock file that it does not own; end that process"
    );
    Err(Fault::new(ErrorKind::System, text))
}

/// Puts `ticket` into the word, if the election is vacant. Then `Ok(true)` means that the predecessor died or hung.
/// `Err` is the process that holds the election.
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
        // Acquire pairs with the release in `drop` when the predecessor resigned: its set or failure is visible, so
        // this process does not call the source again. After a death the kernel's lock table has ordered the two.
        let exchanged =
            view.election().compare_exchange(seen, ticket.0, Ordering::AcqRel, Ordering::Relaxed);
        if exchanged.is_ok() {
            return Ok(Ok(seen != 0));
        }
    }
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
