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
    key::Key,
    layout::{self, entry as field},
    locks::EntryLocks,
    place::Place,
    pool::PoolWriter,
};
use crate::{
    error::Fault,
    fault_point::{FaultPoint, hit},
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
}

impl ReadMemory {
    /// Maps `bytes` of the file.
    pub(super) fn map(
        fd: BorrowedFd<'_>,
        bytes: usize,
        secret: Option<BorrowedFd<'_>>,
    ) -> Result<Self, Fault> {
        let file = ReadMapping::new(fd, bytes).map_err(mapping)?;
        let secret = secret.map(|fd| ReadMapping::new(fd, layout::SETS_BYTES)).transpose();
        Ok(ReadMemory::new(file, secret.map_err(mapping_secret)?))
    }

    pub(super) fn again(&self) -> Result<Self, Fault> {
        let file = self.file.again().map_err(mapping)?;
        let secret = self.secret.as_ref().map(ReadMapping::again).transpose();
        Ok(ReadMemory::new(file, secret.map_err(mapping_secret)?))
    }

    fn new(file: ReadMapping, secret: Option<ReadMapping>) -> Self {
        ReadMemory { file: Arc::new(file), secret }
    }

    /// The word with the version of the newest set of the entry at `place`.
    pub(super) fn published(&self, place: &Place) -> Published {
        self.published_at(place.base() + place.offset(field::PUBLISHED))
    }

    /// The same, at an offset of the file.
    pub(super) fn published_at(&self, offset: usize) -> Published {
        Published(KeptWord::new(&self.file, offset))
    }

    /// The entry at `place`.
    pub(super) fn entry<'a>(&'a self, place: &'a Place) -> Entry<'a> {
        let base = place.base();
        let words = self.file.words(base, place.bytes() / 8);
        let published = word_of(words, place.offset(field::PUBLISHED));
        let sets = match (place.pool(), &self.secret) {
            (Some(pool), _) => {
                let cells = pool.cells(base, |at, count| self.file.words(at, count));
                LatchReader::in_cells(published, cells, place.tag())
            }
            (None, Some(secret)) => in_row(published, secret.words(0, layout::SETS_WORDS)),
            (None, None) => {
                in_row(published, self.file.words(base + field::SETS, layout::SETS_WORDS))
            }
        };
        let event = self.file.futex(base + place.offset(field::EVENT));
        Entry { place, words, event, sets }
    }
}

/// The version of the newest set of an entry. Most reads load nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Published(KeptWord);

impl Published {
    #[inline]
    pub(crate) fn version(&self) -> Version {
        Version::load(self.0.get())
    }

    /// Its offset in the file.
    pub(super) fn offset(&self) -> usize {
        self.0.offset()
    }
}

fn in_row<'a>(version: ReadWord<'a>, sets: ReadWords<'a>) -> LatchReader<'a> {
    LatchReader::new(version, sets, layout::SET_SLOT_WORDS)
}

fn word_of(words: ReadWords<'_>, offset: usize) -> ReadWord<'_> {
    match words.word(offset / 8) {
        Some(word) => word,
        None => unreachable!("a field is inside its entry"),
    }
}

/// An entry, for reading. It has no method that stores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    place: &'a Place,
    words: ReadWords<'a>,
    event: ReadFutex<'a>,
    sets: LatchReader<'a>,
}

impl<'a> Entry<'a> {
    /// The bytes of the lock file that belong to the entry.
    pub(crate) fn locks(self) -> EntryLocks {
        EntryLocks::of(self.place.index())
    }

    /// The key that each record must have, for an entry of a pool.
    pub(crate) fn key(self) -> Option<&'a Key> {
        self.place.key()
    }

    /// The version of the newest set.
    pub(crate) fn published(self) -> Version {
        Version::load(self.word(field::PUBLISHED))
    }

    /// The sets.
    pub(crate) fn sets(self) -> LatchReader<'a> {
        self.sets
    }

    /// The failures.
    pub(crate) fn failures(self) -> LatchReader<'a> {
        let slot_words = self.place.failure_slot_words();
        let slots = self.part(field::FAILURES, layout::FAILURE_SLOTS * slot_words);
        LatchReader::new(self.word(field::FAILED), slots, slot_words)
    }

    /// Words of a failure slot.
    pub(crate) fn failure_slot_words(self) -> usize {
        self.place.failure_slot_words()
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
        hit(FaultPoint::Woken);
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

    pub(super) fn word(self, field: usize) -> ReadWord<'a> {
        word_of(self.words, self.place.offset(field))
    }

    pub(super) fn part(self, field: usize, count: usize) -> ReadWords<'a> {
        match self.words.part(self.place.offset(field) / 8, count) {
            Some(words) => words,
            None => unreachable!("a field is inside its entry"),
        }
    }
}

/// An entry, for writing. The elected process has it while it works.
#[derive(Debug)]
pub(crate) struct EntryWriter {
    place: Place,
    pub(super) file: WriteMapping,
    secret: Option<WriteMapping>,
}

impl EntryWriter {
    pub(super) fn map(
        place: Place,
        fd: BorrowedFd<'_>,
        bytes: usize,
        secret: Option<BorrowedFd<'_>>,
    ) -> Result<Self, Fault> {
        let file = WriteMapping::new(fd, bytes).map_err(mapping)?;
        let secret = secret.map(|fd| WriteMapping::new(fd, layout::SETS_BYTES)).transpose();
        Ok(EntryWriter { place, file, secret: secret.map_err(mapping_secret)? })
    }

    /// Maps the same memory again, for the entry at `place`.
    pub(super) fn again(&self, place: Place) -> Result<Self, Fault> {
        let file = self.file.again().map_err(mapping)?;
        let secret = self.secret.as_ref().map(WriteMapping::again).transpose();
        Ok(EntryWriter { place, file, secret: secret.map_err(mapping_secret)? })
    }

    /// The pool of the entry; `None` for the entry of a session.
    pub(crate) fn pool(&self) -> Option<PoolWriter<'_>> {
        self.place.pool().map(|pool| PoolWriter::new(pool, &self.file))
    }

    /// The number of the entry in its file.
    pub(crate) fn index(&self) -> usize {
        self.place.index()
    }

    /// The same entry, for reading.
    pub(crate) fn reader(&self) -> Entry<'_> {
        let base = self.place.base();
        let words = self.file.words(base, self.place.bytes() / 8);
        Entry {
            place: &self.place,
            words: ReadWords::new(words),
            event: self.event().reader(),
            sets: self.sets().reader(),
        }
    }

    /// The sets.
    pub(crate) fn sets(&self) -> Latch<'_> {
        let published = self.word(field::PUBLISHED);
        match self.place.pool() {
            Some(pool) => {
                let base = self.place.base();
                let cells = pool.cells(base, |at, count| self.file.words(at, count));
                Latch::in_cells(published, cells, self.place.tag())
            }
            None => Latch::new(published, self.set_slots(), layout::SET_SLOT_WORDS),
        }
    }

    /// The failures.
    pub(crate) fn failures(&self) -> Latch<'_> {
        let slot_words = self.place.failure_slot_words();
        let slots = self.words(field::FAILURES, layout::FAILURE_SLOTS * slot_words);
        Latch::new(self.word(field::FAILED), slots, slot_words)
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
        self.file.futex(self.at(field::EVENT))
    }

    /// The offset of a field in the file.
    fn at(&self, field: usize) -> usize {
        self.place.base() + self.place.offset(field)
    }

    fn set_slots(&self) -> &[AtomicU64] {
        match &self.secret {
            Some(secret) => secret.words(0, layout::SETS_WORDS),
            None => self.words(field::SETS, layout::SETS_WORDS),
        }
    }

    pub(super) fn word(&self, field: usize) -> &AtomicU64 {
        self.file.word(self.at(field))
    }

    pub(super) fn words(&self, field: usize, count: usize) -> &[AtomicU64] {
        self.file.words(self.at(field), count)
    }
}

fn mapping(error: std::io::Error) -> Fault {
    Fault::system("mapping the segment", error)
}

fn mapping_secret(error: std::io::Error) -> Fault {
    Fault::system("mapping the secret memory", error)
}
