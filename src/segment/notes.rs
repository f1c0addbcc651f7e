//! What processes note of themselves in the control page: who is elected, who asks the source, who writes a slot,
//! whose the session is.
//!
//! Locks of bytes are lost when anything in their process closes the lock file. The marks beside them are not.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    entry::{Entry, EntryWriter},
    layout::{self, entry as field},
};
use crate::sys::task::TaskMark;

/// What the last elected process has noted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElectedNote {
    /// In nanoseconds since boot.
    pub(crate) since: u64,
    pub(crate) pid: u32,
    /// Made for its ticket: with another one the note is that of a predecessor.
    pub(crate) mark: TaskMark,
}

/// A call of the source that has begun and of whose outcome nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// The ticket of the process that asked.
    pub(crate) ticket: u64,
    /// The generation that was newest.
    pub(crate) generation: u64,
}

impl Entry<'_> {
    /// Which process was elected last, and since when.
    pub(crate) fn last_elected(self) -> ElectedNote {
        let mut values = self.part(field::ELECTION, 4).values().skip(1);
        let [since, pid, mark] = std::array::from_fn(|_| values.next().unwrap_or(0));
        ElectedNote { since, pid: u32::try_from(pid).unwrap_or(0), mark: TaskMark::from_word(mark) }
    }
}

impl EntryWriter {
    /// Notes which process was elected last, and since when.
    pub(crate) fn note_elected(&self, note: ElectedNote) {
        // Relaxed: the mark says by its checksum whose it is, and misleads nobody when another word is older.
        let words = self.election_words();
        words[1].store(note.since, Ordering::Relaxed);
        words[2].store(note.pid.into(), Ordering::Relaxed);
        words[3].store(note.mark.word(), Ordering::Relaxed);
    }

    /// Notes that the elected process is about to ask the source.
    pub(crate) fn begin_attempt(&self, attempt: Attempt) {
        let words = self.election_words();
        words[5].store(attempt.generation, Ordering::Relaxed);
        // Release pairs with the acquire in `attempt`: who sees the ticket sees its generation.
        words[4].store(attempt.ticket, Ordering::Release);
    }

    /// Notes that the outcome is known. Of another's attempt that has begun since nothing is changed.
    pub(crate) fn end_attempt(&self, ticket: u64) {
        let word = &self.election_words()[4];
        // Release: the outcome has been published before.
        let _ = word.compare_exchange(ticket, 0, Ordering::Release, Ordering::Relaxed);
    }

    /// The attempt without an outcome.
    pub(crate) fn attempt(&self) -> Option<Attempt> {
        let words = self.election_words();
        // Pairs with the release in `begin_attempt`.
        let ticket = words[4].load(Ordering::Acquire);
        let generation = words[5].load(Ordering::Relaxed);
        (ticket != 0).then_some(Attempt { ticket, generation })
    }

    /// The word in which the writer of a slot has put its mark; the slots of sets come first.
    pub(crate) fn claim(&self, place: usize) -> &AtomicU64 {
        &self.words(field::CLAIMS, layout::SLOTS)[place]
    }

    fn election_words(&self) -> &[AtomicU64] {
        self.words(field::ELECTION, 6)
    }
}
