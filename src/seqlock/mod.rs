//! The publication protocol: a latch of seqlock slots over atomic words.
//!
//! ```text
//! version ──▶ generation 7, slot 1          the newest record and its slot
//! slot 0: 5 │ length │ words …               an older record, still complete
//! slot 1: 7 │ length │ words …               the newest
//! slot 2: 0 │ length │ words …               a write in progress, or the rest of one that died
//! ```
//!
//! A writer fills a slot that is not published, and then changes the version with a compare-and-swap. If it dies at any
//! store, the newest record stays complete. A reader never waits for a writer. The first word of a slot is its
//! *sequence*: the generation of its record, or 0 during a write.
//!
//! | step | writer | reader |
//! | --- | --- | --- |
//! | 1 | load version (acquire): the own slot is not published | load version; fence (acquire) |
//! | 2 | sequence = 0; fence (release) | sequence must be the version's generation |
//! | 3 | store the words | load the words |
//! | 4 | sequence = generation + 1 | fence (acquire); sequence must not have changed |
//! | 5 | compare-and-swap of the version (release) | |
//!
//! * The reader's first fence pairs with the writer's compare-and-swap: a reader that sees the version sees the words of
//!   its record, or later words.
//! * The reader's second fence pairs with the writer's fence: a reader that sees one word of a later write of the slot
//!   also sees its sequence 0, or a later generation, and tries again.
//!
//! Readers use only relaxed loads and fences, because their mapping is read-only. Rust guarantees no other atomic
//! access there.
//!
//! A slot has one writer at a time. The caller ensures that: it holds a lock on the slot, which the kernel frees when the
//! process dies. The compare-and-swap expects the version that the writer started from. A writer that was stopped for
//! long finds another version and publishes nothing.

use crate::{
    atomic::{AtomicU64, Ordering, fence},
    shared_words::{ReadWord, ReadWords},
};

mod slots;

use slots::Slots;
pub(crate) use slots::{Cells, wipe};

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(test)]
impl Room for Vec<u64> {
    fn hold(&mut self, words: impl ExactSizeIterator<Item = u64>) -> bool {
        self.clear();
        self.extend(words);
        true
    }
}

/// The number of words of a slot before the record.
pub(crate) const HEAD: usize = 2;
const SEQUENCE: usize = 0;
const LENGTH: usize = 1;
/// A reader gives up after this many tries. A try fails when the slot is written again during the read.
const TRIES: usize = if cfg!(loom) { 2 } else { 64 };

const SLOT_BITS: u32 = 8;
const REJECTED_BIT: u64 = 1 << SLOT_BITS;
const GENERATION_SHIFT: u32 = SLOT_BITS + 1;
/// The slot of a version without a record: the last record was retired.
const NO_SLOT: usize = (1 << SLOT_BITS) - 1;

/// The newest record: its generation, its slot, and whether it was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    fn new(generation: u64, slot: usize) -> Self {
        Version(generation << GENERATION_SHIFT | slot as u64)
    }

    /// The newest version. The load is relaxed and orders nothing: use the result for comparisons only.
    #[inline]
    pub(crate) fn load(word: ReadWord<'_>) -> Self {
        Version(word.load())
    }

    /// The version as a number: a later one is greater. 0 means none.
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// The version with that number.
    pub(crate) fn of_word(word: u64) -> Self {
        Version(word)
    }

    /// The number of published records; 0 means none.
    pub(crate) fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    /// The slot of the record.
    pub(crate) fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    /// Whether there is no record: none was published yet, or the last one was [retired](Latch::retire).
    pub(crate) fn is_empty(self) -> bool {
        self.generation() == 0 || self.slot() == NO_SLOT
    }

    /// Whether AWS rejected the record.
    pub(crate) fn is_rejected(self) -> bool {
        self.0 & REJECTED_BIT != 0
    }

    /// The same record, rejected.
    fn rejected(self) -> Self {
        Version(self.0 | REJECTED_BIT)
    }
}

/// Another writer published after the version that this writer started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superseded;

/// The buffer to which a reader copies a record.
pub(crate) trait Room {
    /// Replaces the contents by `words`. False when there are too many.
    fn hold(&mut self, words: impl ExactSizeIterator<Item = u64>) -> bool;
}

/// A latch, for reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatchReader<'a> {
    version: ReadWord<'a>,
    slots: Slots<ReadWords<'a>>,
    tag: u64,
}

impl<'a> LatchReader<'a> {
    /// The latch of `version` and `slots`. Each slot has `slot_words` words.
    pub(crate) fn new(version: ReadWord<'a>, slots: ReadWords<'a>, slot_words: usize) -> Self {
        LatchReader { version, slots: Slots::Row(slots, slot_words), tag: 0 }
    }

    /// The latch of `version` whose slots are in `cells`. `tag` distinguishes it from all other latches that use the same
    /// cells: it makes the sequences of a cell different for each of them.
    pub(crate) fn in_cells(version: ReadWord<'a>, cells: Cells<ReadWords<'a>>, tag: u64) -> Self {
        LatchReader { version, slots: Slots::Cells(cells), tag }
    }

    /// The newest version. Orders nothing: use it for comparisons only.
    #[inline]
    pub(crate) fn version(&self) -> Version {
        Version::load(self.version)
    }

    /// Copies the newest record to `out` and returns its version.
    ///
    /// `None` when nothing is published, when all tries failed, or when the words are invalid. Then the contents of `out`
    /// have no meaning.
    pub(crate) fn read(&self, out: &mut impl Room) -> Option<Version> {
        (0..TRIES).find_map(|_| self.try_read(out))
    }

    fn try_read(&self, out: &mut impl Room) -> Option<Version> {
        let version = self.version();
        // Acquire pairs with the release compare-and-swap in `Writing::publish`.
        fence(Ordering::Acquire);
        if version.is_empty() {
            return None;
        }
        let slot = self.slots.slot(version.slot())?;
        let (head, length) = (slot.word(SEQUENCE)?, slot.word(LENGTH)?);
        let sequence = head.load();
        if sequence != version.generation() ^ self.tag {
            return None;
        }
        // The length may be torn or forged. `part` checks that it stays inside the slot.
        let words = slot.part(HEAD, usize::try_from(length.load()).ok()?)?;
        if !out.hold(words.values()) {
            return None;
        }
        // Acquire pairs with the release fence in `begin`.
        fence(Ordering::Acquire);
        (head.load() == sequence).then_some(version)
    }
}

/// A latch, for reading and writing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latch<'a> {
    version: &'a AtomicU64,
    slots: Slots<&'a [AtomicU64]>,
    tag: u64,
}

impl<'a> Latch<'a> {
    /// See [`LatchReader::new`].
    pub(crate) fn new(version: &'a AtomicU64, slots: &'a [AtomicU64], slot_words: usize) -> Self {
        Latch { version, slots: Slots::Row(slots, slot_words), tag: 0 }
    }

    /// See [`LatchReader::in_cells`].
    pub(crate) fn in_cells(
        version: &'a AtomicU64,
        cells: Cells<&'a [AtomicU64]>,
        tag: u64,
    ) -> Self {
        Latch { version, slots: Slots::Cells(cells), tag }
    }

    /// The same latch, for reading.
    pub(crate) fn reader(&self) -> LatchReader<'a> {
        let slots = match self.slots {
            Slots::Row(words, slot_words) => Slots::Row(ReadWords::new(words), slot_words),
            Slots::Cells(cells) => Slots::Cells(cells.reader()),
        };
        LatchReader { version: ReadWord::new(self.version), slots, tag: self.tag }
    }

    /// Starts to write `slot`. The caller must be its only writer. `None` when the slot is published: readers may read it.
    pub(crate) fn begin(&self, slot: usize) -> Option<Writing<'a>> {
        // Acquire pairs with the release compare-and-swap of the last publisher: the earlier words of the slot come
        // before the words of this write. An outdated version can only name a slot that was published earlier. This
        // slot cannot have become published, since this is its only writer.
        let version = Version(self.version.load(Ordering::Acquire));
        if !version.is_empty() && version.slot() == slot {
            return None;
        }
        let (head, words) = self.slots.slot(slot)?.split_at_checked(HEAD)?;
        head[SEQUENCE].store(0, Ordering::Relaxed);
        // Release pairs with the second acquire fence in `try_read`: a reader that sees a word of this write sees the 0.
        fence(Ordering::Release);
        let tag = self.tag;
        Some(Writing { version: self.version, slot, head, words, length: 0, tag })
    }

    /// Publishes that there is no record any more, as the successor of `from`: readers find none, and a write that
    /// started from `from` is superseded.
    pub(crate) fn retire(&self, from: Version) -> Result<Version, Superseded> {
        let next = Version::new(from.generation() + 1, NO_SLOT);
        exchange(self.version, from, next)
    }

    /// Marks the record of `version` as rejected. False when another record is published by now, or the mark is already
    /// set.
    pub(crate) fn mark_rejected(&self, version: Version) -> bool {
        let marked = version.rejected();
        // A reader that sees the mark must also see the words of the record. That holds: a compare-and-swap continues
        // the release sequence of the publication. AcqRel also orders this process's earlier accesses before the mark.
        marked != version
            && self
                .version
                .compare_exchange(version.0, marked.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }
}

/// A write in progress. Dropping it leaves the slot unpublished.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    version: &'a AtomicU64,
    slot: usize,
    head: &'a [AtomicU64],
    words: &'a [AtomicU64],
    length: usize,
    tag: u64,
}

impl Writing<'_> {
    /// Appends one word.
    ///
    /// # Panics
    /// When the slot is full. The encoder of the records checks their length.
    pub(crate) fn word(&mut self, word: u64) {
        self.words[self.length].store(word, Ordering::Relaxed);
        self.length += 1;
    }

    /// Publishes the record as the successor of `from`.
    ///
    /// # Errors
    /// [`Superseded`] when another record has replaced `from` in the meantime.
    pub(crate) fn publish(self, from: Version) -> Result<Version, Superseded> {
        let next = Version::new(from.generation() + 1, self.slot);
        self.head[LENGTH].store(self.length as u64, Ordering::Relaxed);
        self.head[SEQUENCE].store(next.generation() ^ self.tag, Ordering::Relaxed);
        exchange(self.version, from, next)
    }
}

/// Replaces the version `from` by `next`.
fn exchange(version: &AtomicU64, from: Version, next: Version) -> Result<Version, Superseded> {
    let mut seen = from;
    loop {
        // Release pairs with the first acquire fence in `try_read` and with the acquire load in `begin`.
        match version.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Ok(next),
            // Only the rejected bit was set in the meantime: publish anyway.
            Err(found) if Version(found) == from.rejected() => seen = from.rejected(),
            Err(_) => return Err(Superseded),
        }
    }
}
