//! Where the slots of a latch are: in a row, or in cells that many latches share.

use crate::{
    atomic::{AtomicU64, Ordering, fence},
    shared_words::ReadWords,
};

/// Words that can be cut into parts: read-only views, or the atomics themselves.
pub(crate) trait Words: Copy {
    fn cut(self, start: usize, count: usize) -> Option<Self>;
    fn value(self, index: usize) -> Option<u64>;
}

impl Words for ReadWords<'_> {
    fn cut(self, start: usize, count: usize) -> Option<Self> {
        self.part(start, count)
    }

    fn value(self, index: usize) -> Option<u64> {
        self.word(index).map(|word| word.load())
    }
}

impl Words for &[AtomicU64] {
    fn cut(self, start: usize, count: usize) -> Option<Self> {
        self.get(start..start.checked_add(count)?)
    }

    fn value(self, index: usize) -> Option<u64> {
        // Relaxed: the words of a latch are ordered by its version.
        self.get(index).map(|word| word.load(Ordering::Relaxed))
    }
}

/// The slots of a latch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slots<W> {
    /// One after the other, each with so many words.
    Row(W, usize),
    Cells(Cells<W>),
}

impl<W: Words> Slots<W> {
    /// The words of the slot `index`; `None` when there is no such slot.
    pub(super) fn slot(&self, index: usize) -> Option<W> {
        match self {
            Slots::Row(words, slot_words) => {
                words.cut(index.checked_mul(*slot_words)?, *slot_words)
            }
            Slots::Cells(cells) => cells.slot(index),
        }
    }
}

/// Cells of two sizes that many latches share. A latch owns a cell for a slot only while it needs one. A cell has at most
/// one owner: the caller ensures that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cells<W> {
    /// For each slot of the latch the number of its cell plus 1; 0 when it has none.
    pub(crate) owned: W,
    /// The small cells, which have the lower numbers.
    pub(crate) small: W,
    pub(crate) small_words: usize,
    pub(crate) small_count: usize,
    pub(crate) large: W,
    pub(crate) large_words: usize,
}

impl<W: Words> Cells<W> {
    fn slot(&self, index: usize) -> Option<W> {
        // The word may be forged: `cell` checks that the cell exists.
        let number = self.owned.value(index)?.checked_sub(1)?;
        self.cell(usize::try_from(number).ok()?)
    }

    /// The words of the cell `number`.
    pub(crate) fn cell(&self, number: usize) -> Option<W> {
        match number.checked_sub(self.small_count) {
            None => self.small.cut(number.checked_mul(self.small_words)?, self.small_words),
            Some(large) => self.large.cut(large.checked_mul(self.large_words)?, self.large_words),
        }
    }
}

impl<'a> Cells<&'a [AtomicU64]> {
    /// The same cells, for reading.
    pub(super) fn reader(self) -> Cells<ReadWords<'a>> {
        Cells {
            owned: ReadWords::new(self.owned),
            small: ReadWords::new(self.small),
            small_words: self.small_words,
            small_count: self.small_count,
            large: ReadWords::new(self.large),
            large_words: self.large_words,
        }
    }
}

/// Overwrites a cell that no latch publishes and no thread writes. A reader of an older version notices: the first word is
/// the sequence.
pub(crate) fn wipe(cell: &[AtomicU64]) {
    let Some((sequence, rest)) = cell.split_first() else { return };
    sequence.store(0, Ordering::Relaxed);
    // Release pairs with the second acquire fence of a reader, as in `Latch::begin`.
    fence(Ordering::Release);
    rest.iter().for_each(|word| word.store(0, Ordering::Relaxed));
}
