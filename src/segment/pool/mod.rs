//! The pool: the parts of a file with many entries that the entries share. Which role has which entry, which cell belongs
//! to which entry, and how many calls of STS are left.
//!
//! Entries and cells change hands under one lock, and nothing else happens under it. Reads take no lock: a reader checks
//! the key in each record, so whatever it finds through the index, it never takes the set of another role.

mod budget;
mod index;
pub(crate) mod layout;
mod lock;
mod refusals;
mod shelf;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

pub(crate) use budget::{Budget, Reserved};
use layout::PoolLayout;
pub(crate) use refusals::Refusal;

use super::{
    key::Key,
    layout::{COUNTERS as ENTRY_COUNTERS, SET_SLOTS},
};
use crate::{
    error::Fault,
    seqlock::Cells,
    sys::{
        descriptor::Descriptor,
        mapping::{ReadMapping, WriteMapping},
        object,
    },
};

/// What a process knows of a pool's file.
#[derive(Debug)]
pub(crate) struct PoolFile {
    pub(crate) layout: PoolLayout,
    /// The process in which a thread holds the pool's lock; 0 when none does. See `lock`.
    holder: AtomicU64,
    fd: Arc<Descriptor>,
    /// Where the refresher of a pool without a name is asked: inherited by fork, or across `exec`.
    asks: OnceLock<Descriptor>,
}

/// The counters of a pool.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(crate) enum PoolCounter {
    Insertions,
    Evictions,
    Rebuilds,
    Throttles,
    Refusals,
    /// Messages to the refresher that were not obeyed.
    RefusedRequests,
    /// Calls of STS.
    Calls,
}

pub(crate) const POOL_COUNTERS: usize = 7;

impl PoolFile {
    pub(super) fn new(layout: PoolLayout, fd: Arc<Descriptor>) -> Arc<Self> {
        Arc::new(PoolFile { layout, holder: AtomicU64::new(0), fd, asks: OnceLock::new() })
    }

    /// Keeps the socket through which the refresher is asked.
    pub(super) fn set_asks(&self, socket: Descriptor) {
        // A pool gets one, when it is made or opened.
        let _ = self.asks.set(socket);
    }

    pub(super) fn asks(&self) -> Option<&Descriptor> {
        self.asks.get()
    }

    /// Reserves the memory from `offset` to `end` of the file.
    fn reserve(&self, offset: usize, end: usize) -> Result<(), Fault> {
        object::reserve_range("the pool", self.fd.get()?, offset, end - offset)
    }

    /// The cells, for an entry at `base`. `words` gives words of the mapping, from an offset.
    pub(super) fn cells<W>(&self, base: usize, words: impl Fn(usize, usize) -> W) -> Cells<W> {
        let layout = self.layout;
        Cells {
            owned: words(base + layout::OWNED_CELLS, SET_SLOTS),
            small: words(layout.small(), layout.small_cells() * layout::SMALL_WORDS),
            small_words: layout::SMALL_WORDS,
            small_count: layout.small_cells(),
            large: words(layout.large(), layout.large_cells() * layout::LARGE_WORDS),
            large_words: layout::LARGE_WORDS,
        }
    }
}

/// The pool, for reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolReader<'a> {
    file: &'a PoolFile,
    memory: &'a ReadMapping,
}

impl<'a> PoolReader<'a> {
    pub(super) fn new(file: &'a PoolFile, memory: &'a ReadMapping) -> Self {
        PoolReader { file, memory }
    }

    pub(crate) fn capacity(self) -> usize {
        self.file.layout.capacity
    }

    /// The entry of `key`, if the index leads to one. While another process changes the index, it may be missed.
    pub(crate) fn find(self, key: &Key) -> Option<usize> {
        let layout = self.file.layout;
        let words = self.memory.words(layout.index(), layout.index_words());
        let word = |at: usize| words.word(at).map_or(0, |word| word.load());
        index::find(layout, word, key, |entry| self.key_of(entry) == *key)
    }

    /// The key of an entry; zeros for a free one. Orders nothing: records have keys of their own.
    pub(crate) fn key_of(self, entry: usize) -> Key {
        let words = self.memory.words(self.file.layout.head(entry) + layout::KEY, 4);
        let mut values = words.values();
        std::array::from_fn(|_| values.next().unwrap_or(0))
    }

    /// How many entries were ever used: those after them are free, and may have no memory.
    pub(crate) fn made(self) -> usize {
        let made = self.memory.words(layout::ENTRIES_SHELF, 1).values().next().unwrap_or(0);
        usize::try_from(made).map_or(self.capacity(), |made| made.min(self.capacity()))
    }

    /// The counters, in the order of [`PoolCounter`].
    pub(crate) fn counters(self) -> [u64; POOL_COUNTERS] {
        let mut values = self.memory.words(layout::COUNTERS, POOL_COUNTERS).values();
        std::array::from_fn(|_| values.next().unwrap_or(0))
    }

    /// The word of the budget, for a look.
    pub(crate) fn budget(self) -> u64 {
        self.memory.words(layout::BUDGET, 1).values().next().unwrap_or(0)
    }
}

/// The pool, for writing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolWriter<'a> {
    file: &'a PoolFile,
    memory: &'a WriteMapping,
}

impl<'a> PoolWriter<'a> {
    pub(super) fn new(file: &'a PoolFile, memory: &'a WriteMapping) -> Self {
        PoolWriter { file, memory }
    }

    /// The word of the budget.
    pub(crate) fn budget(self) -> &'a AtomicU64 {
        self.memory.word(layout::BUDGET)
    }

    /// Counts one event.
    pub(crate) fn count(self, counter: PoolCounter) {
        let words = self.memory.words(layout::COUNTERS, POOL_COUNTERS);
        // Relaxed: the counters order no other memory.
        words[counter as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an event in each entry that is in use: who waits there looks at the state again.
    pub(crate) fn announce_all(self, entries: usize) {
        for entry in (0..entries).filter(|entry| self.key_of(*entry) != Key::default()) {
            self.memory.futex(self.file.layout.head(entry) + layout::EVENT).notify();
        }
    }

    fn head(self, entry: usize, offset: usize, count: usize) -> &'a [AtomicU64] {
        self.memory.words(self.file.layout.head(entry) + offset, count)
    }

    fn key_of(self, entry: usize) -> Key {
        let words = self.head(entry, layout::KEY, 4);
        // Relaxed, here and in `set_key`: keys change under the pool's lock, and readers check those of the records.
        std::array::from_fn(|word| words[word].load(Ordering::Relaxed))
    }

    fn set_key(self, entry: usize, key: &Key) {
        for (word, value) in self.head(entry, layout::KEY, 4).iter().zip(key) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    /// The counters of an entry begin anew with each role.
    fn reset_counters(self, entry: usize) {
        let counters = self.head(entry, layout::ENTRY_COUNTERS, ENTRY_COUNTERS);
        // Relaxed: the counters order no other memory.
        counters.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
    }

    /// Whether the slot of an entry has a cell, for a look.
    pub(crate) fn has_cell(self, entry: usize, slot: usize) -> bool {
        // Relaxed: under the lock the word is looked at again.
        self.owned(entry)[slot].load(Ordering::Relaxed) != 0
    }

    fn owned(self, entry: usize) -> &'a [AtomicU64] {
        self.head(entry, layout::OWNED_CELLS, SET_SLOTS)
    }
}
