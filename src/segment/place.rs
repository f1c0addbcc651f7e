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

    /// The offset of a field from the base. In a pool, where few processes use the same entry, the lines are half as long.
    pub(super) fn offset(&self, field: usize) -> usize {
        match self {
            Place::Alone => field,
            Place::InPool { .. } => field / 2,
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

const _: () = {
    // All fields before the failures begin at a line.
    assert!((field::ELECTION / 2).is_multiple_of(64) && (field::CLAIMS / 2).is_multiple_of(64));
    assert!(field::FAILURES / 2 == pool::FAILURES);
};
