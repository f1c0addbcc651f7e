//! Where an entry is in its file, and how it is laid out there: alone in the file of a session, or one of many in a pool.

use std::sync::Arc;

use super::{
    key::Key,
    layout::{self, entry as field},
    pool::{PoolFile, layout as pool},
};

/// The place of an entry.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The only entry of a session.
    Alone,
    /// An entry of a pool, as the entry of the role with that key. The entry may belong to another role by now.
    InPool { index: usize, key: Key, file: Arc<PoolFile> },
}

impl Place {
    /// The number of the entry in its file.
    pub(crate) fn index(&self) -> usize {
        match self {
            Place::Alone => 0,
            Place::InPool { index, .. } => *index,
        }
    }

    /// The key that each record of the entry must have.
    pub(crate) fn key(&self) -> Option<&Key> {
        match self {
            Place::Alone => None,
            Place::InPool { key, .. } => Some(key),
        }
    }

    pub(super) fn pool(&self) -> Option<&Arc<PoolFile>> {
        match self {
            Place::Alone => None,
            Place::InPool { file, .. } => Some(file),
        }
    }

    /// The offset of the entry in its file.
    pub(super) fn base(&self) -> usize {
        match self {
            Place::Alone => layout::entry_base(0),
            Place::InPool { index, file, .. } => file.layout.head(*index),
        }
    }

    /// Bytes of the entry. In a pool the sets are in cells elsewhere.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Place::Alone => layout::ENTRY_BYTES,
            Place::InPool { .. } => pool::HEAD_BYTES,
        }
    }

    /// The offset of a field from the base. `field` is its offset in the entry of a session.
    pub(super) fn offset(&self, field: usize) -> usize {
        match self {
            Place::Alone => field,
            Place::InPool { .. } => in_pool(field),
        }
    }

    /// Words of a failure slot.
    pub(crate) fn failure_slot_words(&self) -> usize {
        match self {
            Place::Alone => layout::FAILURE_SLOT_WORDS,
            Place::InPool { .. } => pool::FAILURE_SLOT_WORDS,
        }
    }

    /// What the sequences of this entry's records are combined with: no two entries of a pool have the same sequence.
    pub(super) fn tag(&self) -> u64 {
        // A generation never reaches 2^48.
        (self.index() as u64) << 48
    }
}

/// Bytes of a line in the entry of a session. Each group of fields begins on a line of its own.
const LINE: usize = 128;

/// Where the lines of a session's entry begin in an entry of a pool. The last one is that of the failures.
const LINES: [usize; 7] = [
    pool::PUBLISHED,
    pool::EVENT,
    pool::ELECTION,
    pool::FAILED,
    pool::ENTRY_COUNTERS,
    pool::CLAIMS,
    pool::FAILURES,
];

/// The offset in an entry of a pool of the field with this offset in the entry of a session.
fn in_pool(field: usize) -> usize {
    let line = (field / LINE).min(LINES.len() - 1);
    LINES[line] + field - line * LINE
}

const _: () = {
    // The groups are on the lines that `LINES` has, and each fits before the next one.
    assert!(field::PUBLISHED == 0 && field::EVENT == LINE && field::ELECTION == 2 * LINE);
    assert!(field::FAILED == 3 * LINE && field::COUNTERS == 4 * LINE && field::CLAIMS == 5 * LINE);
    assert!(field::FAILURES == 6 * LINE);
    assert!(pool::KEY + 32 <= pool::EVENT);
    assert!(pool::OWNED_CELLS + layout::SET_SLOTS * 8 <= pool::ELECTION);
    assert!(pool::ELECTION + 7 * 8 <= pool::FAILED);
    assert!(pool::ENTRY_COUNTERS + layout::COUNTERS * 8 <= pool::CLAIMS);
    assert!(pool::CLAIMS + layout::SLOTS * 8 <= pool::FAILURES);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_fields_of_a_pools_entry_share_a_word() {
        let failures = layout::FAILURE_SLOTS * pool::FAILURE_SLOT_WORDS;
        // The words after that of the newest failure are notes.
        let groups = [
            (field::PUBLISHED, 1),
            (field::EVENT, 1),
            (field::ELECTION, 7),
            (field::FAILED, 13),
            (field::COUNTERS, layout::COUNTERS),
            (field::CLAIMS, layout::SLOTS),
            (field::FAILURES, failures),
        ];
        let fields = groups.into_iter().map(|(field, words)| (in_pool(field), words));
        let own = [(pool::KEY, 4), (pool::OWNED_CELLS, layout::SET_SLOTS)];
        let mut used = [false; pool::HEAD_BYTES / 8];
        for (offset, words) in fields.chain(own) {
            for word in &mut used[offset / 8..offset / 8 + words] {
                assert!(!std::mem::replace(word, true), "the field at {offset}");
            }
        }
        assert_eq!(in_pool(field::FAILED + 8), pool::FAILED + 8);
        assert_eq!(in_pool(field::FAILURES + 8), pool::FAILURES + 8);
    }
}
