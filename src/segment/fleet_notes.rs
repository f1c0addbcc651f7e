//! Notes about the fleet: what the processes that refresh know of the store that the hosts share. Without a fleet all are 0.
//!
//! They are hints and counts: any value is valid, and no other memory depends on them. So all accesses are relaxed.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    entry::{Entry, EntryWriter},
    layout::{self, entry as field},
};

/// The notes, in the order of the layout.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "fleet"), allow(dead_code))]
#[repr(usize)]
pub(crate) enum FleetNote {
    /// Permits that the store granted.
    Granted,
    /// Permits that the store, or the local share, refused.
    Refused,
    /// Calls that were made by the local share, because the store gave no answer.
    LocalShare,
    /// When the local share allows the next call, in nanoseconds since boot.
    NextLocal,
    /// The last answer of the store: its kind in bits 0 to 7, its microseconds in the others.
    Answer,
    /// When the store was asked last, in nanoseconds since boot.
    AskedAt,
    /// The expiry of the newest set as its source gave it, in milliseconds since 1970.
    SetExpiry,
    /// The generation of that set.
    SetGeneration,
    /// Sets taken from the store.
    Taken,
    /// Sets given to the store.
    Given,
    /// Sets of the store that could not be used.
    Unusable,
    /// Whether this host fetched the newest set, or took it from the store.
    Role,
}

impl Entry<'_> {
    /// The notes, in the order of the layout.
    pub(crate) fn fleet(self) -> [u64; layout::FLEET_NOTES] {
        let mut values = self.part(field::FLEET, layout::FLEET_NOTES).values();
        std::array::from_fn(|_| values.next().unwrap_or(0))
    }
}

impl EntryWriter {
    /// The notes, for writing.
    pub(crate) fn fleet(&self) -> FleetNotes<'_> {
        FleetNotes(self.words(field::FLEET, layout::FLEET_NOTES))
    }
}

/// The notes, for writing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FleetNotes<'a>(&'a [AtomicU64]);

#[cfg_attr(not(feature = "fleet"), allow(dead_code))]
impl FleetNotes<'_> {
    pub(crate) fn get(self, note: FleetNote) -> u64 {
        self.0[note as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn set(self, note: FleetNote, value: u64) {
        self.0[note as usize].store(value, Ordering::Relaxed);
    }

    pub(crate) fn count(self, note: FleetNote) {
        self.0[note as usize].fetch_add(1, Ordering::Relaxed);
    }
}
