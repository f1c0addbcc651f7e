//! The pool's lock: under it entries and cells change hands.
//!
//! It has three parts, as the right to write a slot has:
//! * A word of this process keeps its threads apart. It holds the token of the process, so a forked child finds it free.
//! * A byte of the lock file. The kernel frees it when the process dies, and when any code in the process closes the file.
//! * The *keeper*: a word of the pool with the mark of the thread that holds the lock, for the second case. It is 0 when
//!   the lock is free. So it is also the sign that a change was not finished: a process that gets the byte and finds the
//!   mark of a dead thread makes the index and the lists again, from the entries.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{PoolCounter, PoolWriter, index, layout, shelf::Shelf};
use crate::{
    error::{ErrorKind, Fault},
    fault_point::{FaultPoint, hit},
    segment::{key::Key, locks},
    seqlock::wipe,
    sys::{
        lock::LockFile,
        process_token::ProcessToken,
        task::{Presence, TaskMark},
    },
};

/// How long a thread waits for the lock. It is held for microseconds, unless the process that holds it is stopped.
const LIMIT: Duration = Duration::from_secs(5);
/// How long it pauses between two attempts: there is no event to wait for.
const PAUSE: Duration = Duration::from_micros(50);
/// The purpose of the keeper's mark.
const PURPOSE: u64 = u64::from_le_bytes(*b"pool lck");

/// A key that no role has: that of a free entry.
const FREE: Key = [0; 4];

/// The right to move entries and cells.
#[derive(Debug)]
pub(crate) struct PoolGuard<'a> {
    pool: PoolWriter<'a>,
    locks: &'a LockFile,
    mark: u64,
}

/// The lock in this process.
struct ThisProcess<'a>(&'a AtomicU64);

impl<'a> ThisProcess<'a> {
    fn try_take(holder: &'a AtomicU64) -> Option<Self> {
        let us = ProcessToken::current().word();
        let seen = holder.load(Ordering::Relaxed);
        // Acquire pairs with the release in `drop`: this thread sees what the last one did under the lock.
        let free = seen != us
            && holder.compare_exchange(seen, us, Ordering::Acquire, Ordering::Relaxed).is_ok();
        free.then_some(ThisProcess(holder))
    }
}

impl Drop for ThisProcess<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Release);
    }
}

impl<'a> PoolWriter<'a> {
    /// Takes the pool's lock.
    ///
    /// # Errors
    /// `Timeout` when another process holds it for seconds: it is stopped.
    pub(crate) fn lock(self, locks: &'a LockFile) -> Result<PoolGuard<'a>, Fault> {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(guard) = self.try_lock(locks)? {
                return Ok(guard);
            }
            if Instant::now() >= end {
                // One whose code has closed the lock file has lost the byte, and one in another pid namespace has no number
                // here.
                let holder = match locks.holder(locks::POOL)? {
                    Some(pid) if pid != 0 => format!("process {pid}"),
                    _ => "a process".to_owned(),
                };
                let text =
                    format!("{holder} has held the pool's lock for {LIMIT:?}; resume or kill it");
                return Err(Fault::new(ErrorKind::Timeout, text));
            }
            thread::sleep(PAUSE);
        }
    }

    fn try_lock(self, locks: &'a LockFile) -> Result<Option<PoolGuard<'a>>, Fault> {
        let Some(here) = ThisProcess::try_take(&self.file.holder) else { return Ok(None) };
        if !locks.try_lock(locks::POOL)? {
            return Ok(None);
        }
        let word = self.memory.word(layout::KEEPER);
        let seen = word.load(Ordering::Relaxed);
        // With a free byte, a thread that this process cannot see counts as dead.
        let is_held = TaskMark::from_word(seen).presence(PURPOSE) == Presence::Alive;
        // 1: a mark in case `/proc` cannot be read. It marks no thread.
        let mark = TaskMark::of_this_thread(PURPOSE).word().max(1);
        // Acquire pairs with the release in `drop`. After a death the kernel's lock table has ordered the two.
        let taken = !is_held
            && word.compare_exchange(seen, mark, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !taken {
            locks.unlock(locks::POOL);
            return Ok(None);
        }
        // The guard frees it.
        std::mem::forget(here);
        let guard = PoolGuard { pool: self, locks, mark };
        if seen != 0 {
            guard.rebuild();
        }
        Ok(Some(guard))
    }
}

impl Drop for PoolGuard<'_> {
    fn drop(&mut self) {
        let PoolWriter { file, memory } = self.pool;
        // Release pairs with the acquire in `try_lock`. The word holds another mark only if this thread looked dead.
        let keeper = memory.word(layout::KEEPER);
        let _ = keeper.compare_exchange(self.mark, 0, Ordering::Release, Ordering::Relaxed);
        self.locks.unlock(locks::POOL);
        drop(ThisProcess(&file.holder));
    }
}

impl<'a> PoolGuard<'a> {
    fn index(&self) -> &'a [AtomicU64] {
        let layout = self.pool.file.layout;
        self.pool.memory.words(layout.index(), layout.index_words())
    }

    fn entries(&self) -> Shelf<'a> {
        let PoolWriter { file, memory } = self.pool;
        let layout = file.layout;
        let (list, items) = (layout.free_entries(), layout.capacity);
        let counts = layout::ENTRIES_SHELF;
        Shelf::new((file, memory), counts, (list, items), (layout.heads(), layout::HEAD_BYTES))
    }

    fn small_cells(&self) -> Shelf<'a> {
        let PoolWriter { file, memory } = self.pool;
        let layout = file.layout;
        let list = (layout.free_small(), layout.small_cells());
        let items = (layout.small(), layout::SMALL_WORDS * 8);
        Shelf::new((file, memory), layout::SMALL_SHELF, list, items)
    }

    fn large_cells(&self) -> Shelf<'a> {
        let PoolWriter { file, memory } = self.pool;
        let layout = file.layout;
        let list = (layout.free_large(), layout.large_cells());
        let items = (layout.large(), layout::LARGE_WORDS * 8);
        Shelf::new((file, memory), layout::LARGE_SHELF, list, items)
    }

    /// The entry of `key`.
    pub(crate) fn find(&self, key: &Key) -> Option<usize> {
        let (pool, words) = (self.pool, self.index());
        let word = |at: usize| words[at].load(Ordering::Relaxed);
        index::find(pool.file.layout, word, key, |entry| self.key_of(entry) == Some(*key))
    }

    /// The key of an entry that was ever used.
    fn key_of(&self, entry: usize) -> Option<Key> {
        (entry < self.entries().made()).then(|| self.pool.key_of(entry))
    }

    /// Gives a free entry to `key`, which has none. `None` when no entry is free.
    ///
    /// # Errors
    /// `NoSpace` when the kernel has no memory for another entry.
    pub(crate) fn insert(&self, key: &Key) -> Result<Option<usize>, Fault> {
        let Some(entry) = self.entries().take()? else { return Ok(None) };
        hit(FaultPoint::PoolEntryTaken);
        self.pool.reset_counters(entry);
        self.pool.set_key(entry, key);
        hit(FaultPoint::PoolKeyWritten);
        index::add(self.pool.file.layout, self.index(), key, entry);
        self.pool.count(PoolCounter::Insertions);
        Ok(Some(entry))
    }

    /// Takes the entry from `key`. False when it is that of another key. The caller is elected for the entry, and has
    /// retired its set.
    pub(crate) fn remove(&self, entry: usize, key: &Key) -> bool {
        if self.key_of(entry).as_ref() != Some(key) {
            return false;
        }
        index::remove(self.pool.file.layout, self.index(), key, entry);
        hit(FaultPoint::PoolUnindexed);
        self.pool.set_key(entry, &FREE);
        self.entries().put(entry);
        self.pool.count(PoolCounter::Evictions);
        true
    }

    /// Makes sure that `slot` of the entry owns a cell for `words` words. The caller has the right to write the slot.
    ///
    /// # Errors
    /// `NoSpace` when the kernel has no memory for another cell, or all cells of the size are in use.
    pub(crate) fn provide(&self, entry: usize, slot: usize, words: usize) -> Result<(), Fault> {
        let owned = &self.pool.owned(entry)[slot];
        let is_large = words > layout::SMALL_WORDS;
        let count = self.pool.file.layout.small_cells();
        if let Some(cell) = self.cell_of(owned) {
            if !is_large || cell >= count {
                return Ok(());
            }
            self.release(entry, slot);
        }
        let (shelf, first) =
            if is_large { (self.large_cells(), count) } else { (self.small_cells(), 0) };
        let taken = match shelf.take()? {
            None => {
                // Unless another program has damaged the lists, this finds nothing.
                self.rebuild();
                shelf.take()?
            }
            taken => taken,
        };
        let Some(cell) = taken else {
            let size = if is_large { "large" } else { "small" };
            let text = format!(
                "all {size} cells of the pool are in use; make the pool with a larger capacity"
            );
            return Err(Fault::new(ErrorKind::NoSpace, text));
        };
        hit(FaultPoint::PoolCellTaken);
        // Relaxed: the publication of the slot orders it.
        owned.store((first + cell) as u64 + 1, Ordering::Relaxed);
        Ok(())
    }

    /// Frees the cell of `slot`. The caller has the right to write the slot, which is not published.
    pub(crate) fn release(&self, entry: usize, slot: usize) {
        let owned = &self.pool.owned(entry)[slot];
        let Some(cell) = self.cell_of(owned) else { return };
        let PoolWriter { file, memory } = self.pool;
        let cells = file.cells(file.layout.head(entry), |at, count| memory.words(at, count));
        if let Some(words) = cells.cell(cell) {
            wipe(words);
        }
        owned.store(0, Ordering::Relaxed);
        hit(FaultPoint::PoolCellReleased);
        match cell.checked_sub(file.layout.small_cells()) {
            None => self.small_cells().put(cell),
            Some(large) => self.large_cells().put(large),
        }
    }

    /// The number in an `owned` word, if there is such a cell.
    fn cell_of(&self, owned: &AtomicU64) -> Option<usize> {
        let cell = usize::try_from(owned.load(Ordering::Relaxed)).ok()?.checked_sub(1)?;
        let small = self.pool.file.layout.small_cells();
        let exists = match cell.checked_sub(small) {
            None => cell < self.small_cells().made(),
            Some(large) => large < self.large_cells().made(),
        };
        exists.then_some(cell)
    }

    /// Makes the index and the lists again, from the entries: a process died while it changed them, or another program has
    /// damaged them.
    pub(crate) fn rebuild(&self) {
        let (layout, words) = (self.pool.file.layout, self.index());
        let entries = self.entries();
        words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        let mut used = vec![false; layout.capacity];
        let mut cells = vec![false; layout.small_cells() + layout.large_cells()];
        for (entry, used) in used.iter_mut().enumerate().take(entries.made()) {
            let key = self.pool.key_of(entry);
            *used = key != FREE;
            if *used {
                index::add(layout, words, &key, entry);
            }
            for owned in self.pool.owned(entry) {
                match self.cell_of(owned).filter(|cell| !cells[*cell]) {
                    Some(cell) => cells[cell] = true,
                    // It has no cell, or another entry has it: only another program can have written that.
                    None => owned.store(0, Ordering::Relaxed),
                }
            }
        }
        let (small, large) = cells.split_at(layout.small_cells());
        entries.rebuild(|entry| used[entry]);
        self.small_cells().rebuild(|cell| small[cell]);
        self.large_cells().rebuild(|cell| large[cell]);
        self.pool.count(PoolCounter::Rebuilds);
    }
}
