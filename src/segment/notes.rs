//! Notes of processes about themselves in the entry: which one is elected, asks the source, or writes a slot.
//!
//! A process loses its byte locks when any of its code closes the lock file. The marks here remain.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    entry::{Entry, EntryWriter},
    layout::{self, entry as field},
};
use crate::sys::task::TaskMark;

/// The note of the last elected process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElectedNote {
    /// In nanoseconds since boot.
    pub(crate) since: u64,
    pub(crate) pid: u32,
    /// Made for the ticket. If the word holds another ticket, this is the note of a predecessor.
    pub(crate) mark: TaskMark,
}

/// A call of the source that has begun and has no known result yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The ticket of the process that asked.
    pub(crate) ticket: u64,
    /// The generation that was newest at the start.
    pub(crate) generation: u64,
}

impl Entry<'_> {
    /// The process that was elected last, and since when.
    pub(crate) fn last_elected(self) -> ElectedNote {
        let mut values = self.part(field::ELECTION, 4).values().skip(1);
        let [since, pid, mark] = std::array::from_fn(|_| values.next().unwrap_or(0));
        ElectedNote { since, pid: u32::try_from(pid).unwrap_or(0), mark: TaskMark::from_word(mark) }
    }
}

impl EntryWriter {
    /// Notes which process was elected last, and since when.
    pub(crate) fn note_elected(&self, note: ElectedNote) {
        // Relaxed: the checksum in the mark names its thread and ticket, so an older pid or time does no harm.
        let words = self.election_words();
        words[1].store(note.since, Ordering::Relaxed);
        words[2].store(note.pid.into(), Ordering::Relaxed);
        words[3].store(note.mark.word(), Ordering::Relaxed);
    }

    /// Notes that the elected process is about to ask the source.
    pub(crate) fn begin_attempt(&self, attempt: Attempt) {
        let words = self.election_words();
        words[5].store(attempt.generation, Ordering::Relaxed);
        // Release pairs with the acquire in `attempt`: a process that sees the ticket sees its generation.
        words[4].store(attempt.ticket, Ordering::Release);
    }

    /// Notes that the result is known. Leaves a later attempt of another process unchanged.
    pub(crate) fn end_attempt(&self, ticket: u64) {
        let word = &self.election_words()[4];
        // Release pairs with the acquire in `attempt`: the result was published before.
        let _ = word.compare_exchange(ticket, 0, Ordering::Release, Ordering::Relaxed);
    }

    /// The attempt that has no result yet.
    pub(crate) fn attempt(&self) -> Option<Attempt> {
        let words = self.election_words();
        // Pairs with the release in `begin_attempt`.
        let ticket = words[4].load(Ordering::Acquire);
        let generation = words[5].load(Ordering::Relaxed);
        (ticket != 0).then_some(Attempt { ticket, generation })
    }

    /// The word on the Regions of the source that have failed lately. The source decides what it means.
    pub(crate) fn failed_regions(&self) -> &AtomicU64 {
        &self.election_words()[6]
    }

    /// The word with the mark of the writer of a slot. Set slots come first.
    pub(crate) fn claim(&self, place: usize) -> &AtomicU64 {
        &self.words(field::CLAIMS, layout::SLOTS)[place]
    }

    fn election_words(&self) -> &[AtomicU64] {
        self.words(field::ELECTION, 7)
    }
}
