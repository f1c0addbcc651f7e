//! The layout of a pool: many entries in one file. `docs/ROLES.md` describes it.
//!
//! ```text
//! header page │ pool page │ index │ free entries, free cells │ entries, the pool's own │ small cells │ large cells
//! ```
//!
//! The file has its whole size from the beginning. The memory of entries and cells is reserved in steps.

use crate::segment::layout::{self, FAILURE_SLOTS, HEADER_BYTES, SET_SLOT_WORDS};

/// The version of this layout. A library that knows sessions only refuses it.
pub(crate) const VERSION: u64 = 1 << 32 | 2;

/// The most entries: the lock bytes of the entries have space for so many.
pub(crate) const MOST_ENTRIES: usize = 16_000;

/// Words of the pool page, each on a line of its own. All but budget, counters and refusals change under the pool's lock only.
pub(crate) const KEEPER: usize = HEADER_BYTES;
pub(crate) const BUDGET: usize = HEADER_BYTES + 128;
pub(crate) const ENTRIES_SHELF: usize = HEADER_BYTES + 256;
pub(crate) const SMALL_SHELF: usize = HEADER_BYTES + 384;
pub(crate) const LARGE_SHELF: usize = HEADER_BYTES + 512;
pub(crate) const COUNTERS: usize = HEADER_BYTES + 640;
/// Why roles got no entry: see `refusals`.
pub(crate) const REFUSALS: usize = HEADER_BYTES + 768;
pub(crate) const REFUSAL_WORDS: usize = 64;
const INDEX: usize = 2 * HEADER_BYTES;

/// Offsets in an entry. The fields are those of a session's entry, in the same order, without most of the padding: few
/// processes use the same entry of a pool.
pub(crate) const PUBLISHED: usize = 0;
pub(crate) const KEY: usize = 8;
pub(crate) const EVENT: usize = 64;
pub(crate) const OWNED_CELLS: usize = 72;
pub(crate) const ELECTION: usize = 128;
pub(crate) const FAILED: usize = 192;
pub(crate) const ENTRY_COUNTERS: usize = 296;
pub(crate) const CLAIMS: usize = 376;
pub(crate) const FAILURES: usize = 424;
/// Words of a failure slot.
pub(crate) const FAILURE_SLOT_WORDS: usize = 40;
/// Bytes of an entry.
pub(crate) const HEAD_BYTES: usize = FAILURES + FAILURE_SLOTS * FAILURE_SLOT_WORDS * 8;

/// Words of a small cell: most sets fit.
pub(crate) const SMALL_WORDS: usize = 256;
/// Words of a large cell: the largest set fits.
pub(crate) const LARGE_WORDS: usize = SET_SLOT_WORDS;

/// The bytes by which memory is reserved.
pub(crate) const STEP: usize = 1 << 20;

const PAGE: usize = 4096;

/// The offsets of a pool with so many entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolLayout {
    pub(crate) capacity: usize,
}

impl PoolLayout {
    pub(crate) fn new(capacity: usize) -> Self {
        PoolLayout { capacity }
    }

    /// The number of words of the index: a power of two, at most half of them are used.
    pub(crate) fn index_words(self) -> usize {
        (self.capacity * 2).next_power_of_two()
    }

    pub(crate) fn index(self) -> usize {
        INDEX
    }

    /// The number of small cells: one for each entry, and some for sets that are being written.
    pub(crate) fn small_cells(self) -> usize {
        self.capacity + self.capacity / 32 + 32
    }

    /// The number of large cells.
    pub(crate) fn large_cells(self) -> usize {
        self.capacity / 16 + 16
    }

    /// The list of free entries.
    pub(crate) fn free_entries(self) -> usize {
        self.index() + self.index_words() * 8
    }

    pub(crate) fn free_small(self) -> usize {
        self.free_entries() + self.capacity * 8
    }

    pub(crate) fn free_large(self) -> usize {
        self.free_small() + self.small_cells() * 8
    }

    /// The first entry. The memory before it is reserved at the creation.
    pub(crate) fn heads(self) -> usize {
        (self.free_large() + self.large_cells() * 8).next_multiple_of(PAGE)
    }

    pub(crate) fn head(self, index: usize) -> usize {
        self.heads() + index * HEAD_BYTES
    }

    /// The number of the entry at an offset.
    pub(crate) fn index_of(self, head: usize) -> usize {
        (head - self.heads()) / HEAD_BYTES
    }

    /// The number of the pool's own entry, after those of the roles. Its election is that of the pool's refresher, and its
    /// event counts what happens to the pool. It has no sets.
    pub(crate) fn own(self) -> usize {
        self.capacity
    }

    pub(crate) fn small(self) -> usize {
        self.head(self.capacity + 1).next_multiple_of(PAGE)
    }

    pub(crate) fn large(self) -> usize {
        (self.small() + self.small_cells() * SMALL_WORDS * 8).next_multiple_of(PAGE)
    }

    /// Bytes of the file.
    pub(crate) fn total(self) -> usize {
        (self.large() + self.large_cells() * LARGE_WORDS * 8).next_multiple_of(PAGE)
    }

    /// The sizes in the header.
    pub(crate) fn sizes(self) -> [usize; 8] {
        [
            self.total(),
            HEADER_BYTES,
            self.capacity,
            HEAD_BYTES,
            layout::SET_SLOTS,
            SMALL_WORDS * 8,
            FAILURE_SLOTS,
            FAILURE_SLOT_WORDS * 8,
        ]
    }

    /// Bytes of the lock file: the page of requests, and a word for each entry with the minute of its last use.
    pub(crate) fn requests_bytes(self) -> usize {
        (layout::REQUESTS_BYTES + self.capacity * 8).next_multiple_of(PAGE)
    }
}
