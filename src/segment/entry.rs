//! An entry: all shared state of one identity. It is at a base offset of the segment and does not depend on the rest of
//! the file, so a segment can hold many entries.
//!
//! [`Entry`] reads and sleeps. [`EntryWriter`] also writes; it needs a writable mapping.

use std::{
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    layout::{self, entry as field},
    locks::EntryLocks,
};
use crate::{
    error::Fault,
    seqlock::{Latch, LatchReader, Version},
    shared_words::{ReadWord, ReadWords},
    sys::{
        futex::{Futex, ReadFutex},
        mapping::{KeptWord, ReadMapping, WriteMapping},
    },
};

/// The counters, in the order of the layout.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum Counter {
    SourceCalls,
    Publications,
    Takeovers,
    Rejections,
    /// After the failures by class.
    EarlyRefreshes = layout::FAILURE_COUNTERS.end,
}

/// The read-only mappings of a segment.
#[derive(Debug)]
pub(super) struct ReadMemory {
    pub(super) file: Arc<ReadMapping>,
    /// The secret memory that holds the sets, for a secret segment. Other segments have the sets in their entries.
    secret: Option<ReadMapping>,
    /// The version of the newest set of the first entry. Most reads load nothing else.
    published: KeptWord,
}

impl ReadMemory {
    pub(super) fn map(fd: BorrowedFd<'_>, secret: Option<BorrowedFd<'_>>) -> Result<Self, Fault> {
        let file = ReadMapping::new(fd, layout::TOTAL_BYTES).map_err(mapping)?;
        let secret = secret.map(|fd| ReadMapping::new(fd, layout::SETS_BYTES)).transpose();
        Ok(ReadMemory::new(file, secret.map_err(mapping_secret)?))
    }

    pub(super) fn again(&self) -> Result<Self, Fault> {
        let file = self.file.again().map_err(mapping)?;
        let secret = self.secret.as_ref().map(ReadMapping::again).transpose();
        Ok(ReadMemory::new(file, secret.map_err(mapping_secret)?))
    }

    fn new(file: ReadMapping, secret: Option<ReadMapping>) -> Self {
        let file = Arc::new(file);
        let published = KeptWord::new(&file, layout::entry_base(0) + field::PUBLISHED);
        ReadMemory { file, secret, published }
    }

    #[inline]
    pub(super) fn published(&self) -> Version {
        Version::load(self.published.get())
    }

    /// The entry at `index`.
    pub(super) fn entry(&self, index: usize) -> Entry<'_> {
        let base = layout::entry_base(index);
        Entry {
            index,
            words: self.file.words(base, layout::ENTRY_BYTES / 8),
            event: self.file.futex(base + field::EVENT),
            sets: match &self.secret {
                Some(secret) => secret.words(index * layout::SETS_BYTES, layout::SETS_WORDS),
                None => self.file.words(base + field::SETS, layout::SETS_WORDS),
            },
        }
    }
}

/// An entry, for reading. It has no method that stores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    index: usize,
    words: ReadWords<'a>,
    event: ReadFutex<'a>,
    sets: ReadWords<'a>,
}

impl<'a> Entry<'a> {
    /// The bytes of the lock file that belong to the entry.
    pub(crate) fn locks(self) -> EntryLocks {
        EntryLocks::of(self.index)
    }

    /// The version of the newest set.
    pub(crate) fn published(self) -> Version {
        Version::load(self.word(field::PUBLISHED))
    }

    /// The sets.
    pub(crate) fn sets(self) -> LatchReader<'a> {
        LatchReader::new(self.word(field::PUBLISHED), self.sets, layout::SET_SLOT_WORDS)
    }

    /// The failures.
    pub(crate) fn failures(self) -> LatchReader<'a> {
        let slots = self.part(field::FAILURES, layout::FAILURE_SLOTS * layout::FAILURE_SLOT_WORDS);
        LatchReader::new(self.word(field::FAILED), slots, layout::FAILURE_SLOT_WORDS)
    }

    /// The ticket of the elected process; 0 when there is none.
    pub(crate) fn election(self) -> u64 {
        self.word(field::ELECTION).load()
    }

    /// The counters, in the order of the layout.
    pub(crate) fn counters(self) -> [u64; layout::COUNTERS] {
        let mut values = self.part(field::COUNTERS, layout::COUNTERS).values();
        std::array::from_fn(|_| values.next().unwrap_or(0))
    }

    /// The number of the latest event. Read it before the state: then [`sleep`](Self::sleep) returns at once if an
    /// event happened in between.
    pub(crate) fn latest_event(self) -> u32 {
        self.event.load()
    }

    /// Sleeps until an event after `seen`, at most `limit`.
    pub(crate) fn sleep(self, seen: u32, limit: Duration) {
        self.event.wait(seen, limit);
    }

    /// As [`sleep`](Self::sleep), for a thread that waits for a refresh of its own process. It wakes after the threads
    /// of other processes, whose wake-up takes longer. If the waker dies in between, the end of the refresh wakes this
    /// thread, or the end of the next election.
    pub(crate) fn sleep_last(self, seen: u32, limit: Duration) {
        self.event.wait_last(seen, limit);
    }

    /// Wakes all sleepers without an event: they check the state and sleep again.
    pub(super) fn wake(self) {
        self.event.wake();
    }

    pub(super) fn word(self, offset: usize) -> ReadWord<'a> {
        match self.words.word(offset / 8) {
            Some(word) => word,
            None => unreachable!("a field is inside its entry"),
        }
    }

    pub(super) fn part(self, offset: usize, count: usize) -> ReadWords<'a> {
        match self.words.part(offset / 8, count) {
            Some(words) => words,
            None => unreachable!("a field is inside its entry"),
        }
    }
}

/// An entry, for writing. The elected process has it while it works.
#[derive(Debug)]
pub(crate) struct EntryWriter {
    index: usize,
    pub(super) file: WriteMapping,
    secret: Option<WriteMapping>,
}

impl EntryWriter {
    pub(super) fn map(
        index: usize,
        fd: BorrowedFd<'_>,
        secret: Option<BorrowedFd<'_>>,
    ) -> Result<Self, Fault> {
        let file = WriteMapping::new(fd, layout::TOTAL_BYTES).map_err(mapping)?;
        let secret = secret.map(|fd| WriteMapping::new(fd, layout::SETS_BYTES)).transpose();
        Ok(EntryWriter { index, file, secret: secret.map_err(mapping_secret)? })
    }

    pub(super) fn again(&self) -> Result<Self, Fault> {
        let file = self.file.again().map_err(mapping)?;
        let secret = self.secret.as_ref().map(WriteMapping::again).transpose();
        Ok(EntryWriter { index: self.index, file, secret: secret.map_err(mapping_secret)? })
    }

    /// The same entry, for reading.
    pub(crate) fn reader(&self) -> Entry<'_> {
        Entry {
            index: self.index,
            words: ReadWords::new(self.words(0, layout::ENTRY_BYTES / 8)),
            event: self.event().reader(),
            sets: ReadWords::new(self.set_slots()),
        }
    }

    /// The sets.
    pub(crate) fn sets(&self) -> Latch<'_> {
        Latch::new(self.word(field::PUBLISHED), self.set_slots(), layout::SET_SLOT_WORDS)
    }

    /// The failures.
    pub(crate) fn failures(&self) -> Latch<'_> {
        let slots = self.words(field::FAILURES, layout::FAILURE_SLOTS * layout::FAILURE_SLOT_WORDS);
        Latch::new(self.word(field::FAILED), slots, layout::FAILURE_SLOT_WORDS)
    }

    /// The word with the ticket of the elected process.
    pub(crate) fn election(&self) -> &AtomicU64 {
        self.word(field::ELECTION)
    }

    /// Counts one event.
    pub(crate) fn count(&self, counter: Counter) {
        self.increment(counter as usize);
    }

    /// Counts a failure of the class with that word of the layout.
    pub(crate) fn count_failure(&self, class: u64) {
        self.increment(layout::FAILURE_COUNTERS.start + class as usize);
    }

    fn increment(&self, place: usize) {
        // Relaxed: the counters order no other memory.
        self.words(field::COUNTERS, layout::COUNTERS)[place].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an event and wakes all sleepers.
    pub(crate) fn announce(&self) {
        self.event().notify_in_turn();
    }

    fn event(&self) -> Futex<'_> {
        self.file.futex(layout::entry_base(self.index) + field::EVENT)
    }

    fn set_slots(&self) -> &[AtomicU64] {
        match &self.secret {
            Some(secret) => secret.words(self.index * layout::SETS_BYTES, layout::SETS_WORDS),
            None => self.words(field::SETS, layout::SETS_WORDS),
        }
    }

    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        self.file.word(layout::entry_base(self.index) + offset)
    }

    pub(super) fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        self.file.words(layout::entry_base(self.index) + offset, count)
    }
}

fn mapping(error: std::io::Error) -> Fault {
    Fault::system("mapping the segment", error)
}

fn mapping_secret(error: std::io::Error) -> Fault {
    Fault::system("mapping the secret memory", error)
}
