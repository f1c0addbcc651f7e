//! The publication protocol: a latch of seqlock slots over atomic words.
//!
//! ```text
//! version ──▶ generation 7, slot 1          what is newest, and where
//! slot 0: 5 │ length │ words …               an older record, still whole
//! slot 1: 7 │ length │ words …               the newest
//! slot 2: 0 │ length │ words …               being written, or left by a writer that died
//! ```
//!
//! A writer fills a slot that is not the published one and then exchanges the version. So its death
//! at any store leaves the newest record whole, and a reader never waits for a writer. The first
//! word of a slot is its *sequence*: the generation that it holds, or 0 while it is being written.
//!
//! | step | writer | reader |
//! | --- | --- | --- |
//! | 1 | load version (acquire): my slot is not published | load version; fence (acquire) |
//! | 2 | sequence = 0; fence (release) | sequence must be the version's generation |
//! | 3 | store the words | load the words |
//! | 4 | sequence = generation + 1 | fence (acquire); sequence must not have changed |
//! | 5 | exchange the version (release) | |
//!
//! * The reader's first fence pairs with the writer's exchange: who sees the version sees the words
//!   that it stands for, or later ones.
//! * The reader's second fence pairs with the writer's fence: who sees one word of a later writing
//!   of the slot also sees its sequence 0, or a later generation, and tries again.
//!
//! Readers use relaxed loads and fences only, because their mapping is read-only: Rust guarantees
//! no other atomic access there.
//!
//! A slot has one writer at a time, whatever happens to it: that is the refresh loop of the caller, who
//! holds a lock on the slot that the kernel frees when the process dies. The exchange is from the
//! version that the writer based its work on: a writer that was stopped for long finds another one
//! there and has published nothing.

use crate::{
    atomic::{AtomicU64, Ordering, fence},
    shared_words::{ReadWord, ReadWords},
};

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

/// Words of a slot before the record.
const HEAD: usize = 2;
const SEQUENCE: usize = 0;
const LENGTH: usize = 1;
/// A reader gives up after so many tries; each lost one means that the slot was published, left and
/// written again while it was being read.
const TRIES: usize = if cfg!(loom) { 2 } else { 64 };

const SLOT_BITS: u32 = 8;
const REJECTED_BIT: u64 = 1 << SLOT_BITS;
const GENERATION_SHIFT: u32 = SLOT_BITS + 1;

/// What is newest: its generation, its slot, and whether somebody had it rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    fn new(generation: u64, slot: usize) -> Self {
        Version(generation << GENERATION_SHIFT | slot as u64)
    }

    /// What is newest now. Relaxed, it orders nothing: for comparing only.
    #[inline]
    pub(crate) fn load(word: ReadWord<'_>) -> Self {
        Version(word.load())
    }

    /// How many records have been published; 0 is none.
    pub(crate) fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    /// Where the record is.
    pub(crate) fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    /// Whether the record was rejected by those it was meant for.
    pub(crate) fn is_rejected(self) -> bool {
        self.0 & REJECTED_BIT != 0
    }

    fn same_record(self, other: Version) -> bool {
        self.0 | REJECTED_BIT == other.0 | REJECTED_BIT
    }
}

/// Somebody published since the version that the writer based its work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superseded;

/// Where a reader copies a record to.
pub(crate) trait Room {
    /// Holds `words` from now on, in place of what it held. False when they are too many.
    fn hold(&mut self, words: impl ExactSizeIterator<Item = u64>) -> bool;
}

/// A latch that is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LatchReader<'a> {
    version: ReadWord<'a>,
    slots: ReadWords<'a>,
    slot_words: usize,
}

impl<'a> LatchReader<'a> {
    /// The latch of `version` and as many slots of `slot_words` words as `slots` holds.
    pub(crate) fn new(version: ReadWord<'a>, slots: ReadWords<'a>, slot_words: usize) -> Self {
        LatchReader { version, slots, slot_words }
    }

    /// What is newest now. Orders nothing: for comparing only.
    #[inline]
    pub(crate) fn version(&self) -> Version {
        Version::load(self.version)
    }

    /// Copies the newest record to `out` and says its version. `None` when nothing is published,
    /// when writers left no time in all tries, or when the words make no sense: then what `out` holds
    /// means nothing.
    pub(crate) fn read(&self, out: &mut impl Room) -> Option<Version> {
        (0..TRIES).find_map(|_| self.try_read(out))
    }

    fn try_read(&self, out: &mut impl Room) -> Option<Version> {
        let version = self.version();
        // Pairs with the release exchange in `Writing::publish`.
        fence(Ordering::Acquire);
        if version.generation() == 0 {
            return None;
        }
        let slot =
            self.slots.part(version.slot().checked_mul(self.slot_words)?, self.slot_words)?;
        let (head, length) = (slot.word(SEQUENCE)?, slot.word(LENGTH)?);
        let sequence = head.load();
        if sequence != version.generation() {
            return None;
        }
        // The length may be torn, or forged: it never leads outside of the slot.
        let words = slot.part(HEAD, usize::try_from(length.load()).ok()?)?;
        if !out.hold(words.values()) {
            return None;
        }
        // Pairs with the release fence in `begin`.
        fence(Ordering::Acquire);
        (head.load() == sequence).then_some(version)
    }
}

/// A latch that is read and written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latch<'a> {
    version: &'a AtomicU64,
    slots: &'a [AtomicU64],
    slot_words: usize,
}

impl<'a> Latch<'a> {
    /// See [`LatchReader::new`].
    pub(crate) fn new(version: &'a AtomicU64, slots: &'a [AtomicU64], slot_words: usize) -> Self {
        Latch { version, slots, slot_words }
    }

    /// The same latch, for reading alone.
    #[cfg(test)]
    pub(crate) fn reader(&self) -> LatchReader<'a> {
        let (version, slots) = (ReadWord::new(self.version), ReadWords::new(self.slots));
        LatchReader::new(version, slots, self.slot_words)
    }

    fn slot(&self, index: usize) -> Option<&'a [AtomicU64]> {
        let start = index.checked_mul(self.slot_words)?;
        self.slots.get(start..start + self.slot_words)
    }

    /// Starts writing in `slot`, of which the caller is the only writer. `None` for the slot that is
    /// published: its readers must not be disturbed.
    pub(crate) fn begin(&self, slot: usize) -> Option<Writing<'a>> {
        // Acquire pairs with the release exchange of whoever published last: the slot's words of
        // long ago come before ours. A version that is out of date can only name a slot that was
        // published before; ours cannot have become published, since we are its only writer.
        let version = Version(self.version.load(Ordering::Acquire));
        if version.generation() != 0 && version.slot() == slot {
            return None;
        }
        let (head, words) = self.slot(slot)?.split_at_checked(HEAD)?;
        head[SEQUENCE].store(0, Ordering::Relaxed);
        // Pairs with the second acquire fence in `try_read`: who sees a word of ours sees the 0.
        fence(Ordering::Release);
        Some(Writing { version: self.version, slot, head, words, length: 0 })
    }

    /// Marks the record of `version` as rejected. False when another one is published by now, or
    /// somebody marked it first.
    pub(crate) fn mark_rejected(&self, version: Version) -> bool {
        let marked = version.0 | REJECTED_BIT;
        // AcqRel keeps the release of the publication for those who see the mark: an exchange
        // continues the release sequence that it replaces.
        marked != version.0
            && self
                .version
                .compare_exchange(version.0, marked, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }
}

/// A slot in the middle of being written. Dropping it leaves the slot unpublished.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    version: &'a AtomicU64,
    slot: usize,
    head: &'a [AtomicU64],
    words: &'a [AtomicU64],
    length: usize,
}

impl Writing<'_> {
    /// Appends one word.
    ///
    /// # Panics
    /// When the slot is full: records are checked against their room when they are encoded.
    pub(crate) fn word(&mut self, word: u64) {
        self.words[self.length].store(word, Ordering::Relaxed);
        self.length += 1;
    }

    /// Publishes the record as the successor of `from`.
    ///
    /// # Errors
    /// [`Superseded`] when another record succeeded `from` meanwhile.
    pub(crate) fn publish(self, from: Version) -> Result<Version, Superseded> {
        let next = Version::new(from.generation() + 1, self.slot);
        self.head[LENGTH].store(self.length as u64, Ordering::Relaxed);
        self.head[SEQUENCE].store(next.generation(), Ordering::Relaxed);
        let mut seen = from;
        loop {
            // Release pairs with the first acquire fence in `try_read` and with `begin`.
            match self.version.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Ok(next),
                // Somebody had the record rejected: all the more reason to succeed it.
                Err(found) if Version(found).same_record(from) => seen = Version(found),
                Err(_) => return Err(Superseded),
            }
        }
    }
}
