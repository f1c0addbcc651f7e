//! A shelf: which of the entries, or of the cells of one size, are free. All changes are under the pool's lock.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{PoolFile, layout::STEP};
use crate::{error::Fault, sys::mapping::WriteMapping};

/// The items of one kind: so many, one after the other in the file, and a list of the free ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shelf<'a> {
    /// How many items were ever taken, how many of them are in the list, and how many bytes have memory.
    counts: &'a [AtomicU64],
    /// The numbers of the free ones.
    list: &'a [AtomicU64],
    /// The offset of the first item in the file.
    first: usize,
    item_bytes: usize,
    file: &'a PoolFile,
}

impl<'a> Shelf<'a> {
    pub(super) fn new(
        (file, memory): (&'a PoolFile, &'a WriteMapping),
        counts: usize,
        (list, items): (usize, usize),
        (first, item_bytes): (usize, usize),
    ) -> Self {
        let (counts, list) = (memory.words(counts, 3), memory.words(list, items));
        Shelf { counts, list, first, item_bytes, file }
    }

    /// The number of items that were ever taken.
    pub(super) fn made(&self) -> usize {
        self.count(0)
    }

    /// Another program may have written any number there.
    // Relaxed, here and below: the pool's lock orders these words.
    fn count(&self, which: usize) -> usize {
        let count = self.counts[which].load(Ordering::Relaxed);
        usize::try_from(count).map_or(self.list.len(), |count| count.min(self.list.len()))
    }

    fn set_count(&self, which: usize, count: usize) {
        self.counts[which].store(count as u64, Ordering::Relaxed);
    }

    /// Takes a free item; `None` when there is none.
    ///
    /// # Errors
    /// `NoSpace` when the kernel has no memory for another one.
    pub(super) fn take(&self) -> Result<Option<usize>, Fault> {
        if let Some(last) = self.count(1).checked_sub(1) {
            self.set_count(1, last);
            let number = usize::try_from(self.list[last].load(Ordering::Relaxed)).ok();
            if let Some(number) = number.filter(|number| *number < self.made()) {
                return Ok(Some(number));
            }
        }
        let next = self.made();
        if next == self.list.len() {
            return Ok(None);
        }
        self.reserve(next + 1)?;
        self.set_count(0, next + 1);
        Ok(Some(next))
    }

    /// Puts a free item into the list.
    pub(super) fn put(&self, number: usize) {
        let free = self.count(1);
        if let Some(place) = self.list.get(free) {
            place.store(number as u64, Ordering::Relaxed);
            self.set_count(1, free + 1);
        }
    }

    /// Makes the list again: of all items that were ever taken and are not in use.
    pub(super) fn rebuild(&self, is_used: impl Fn(usize) -> bool) {
        self.set_count(1, 0);
        (0..self.made()).filter(|number| !is_used(*number)).for_each(|number| self.put(number));
    }

    /// Makes sure that the first `items` have memory.
    fn reserve(&self, items: usize) -> Result<(), Fault> {
        // A number of bytes, so not limited by the number of items.
        let reserved = usize::try_from(self.counts[2].load(Ordering::Relaxed)).unwrap_or(0);
        let needed = items * self.item_bytes;
        if needed <= reserved {
            return Ok(());
        }
        let end = (needed.next_multiple_of(STEP)).min(self.list.len() * self.item_bytes);
        let reserve =
            |end| self.file.reserve(self.first + reserved, self.first + end).map(|()| end);
        // Where there is no memory for a whole step, there may be for the item.
        let end = reserve(end).or_else(|_| reserve(needed))?;
        self.counts[2].store(end as u64, Ordering::Relaxed);
        Ok(())
    }
}
