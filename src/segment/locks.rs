//! The bytes of the lock file that an entry locks. Two entries never share a byte.

/// The byte that the owner of the session keeps locked, so that processes in other pid namespaces see that it lives. It
/// belongs to no entry. The kernel frees it when other code of the owner's process closes the lock file.
pub(crate) const OWNER: i64 = 1;

/// Bytes for one entry. The offsets of a file have space for 16,383 entries, and the lock of a pool.
const SPAN: i64 = 1 << 49;
/// The offset of the first ticket byte from the first byte of the entry, and the number of ticket bytes.
const TICKETS: i64 = 1 << 48;

/// The byte of a pool's lock: after those of all entries.
pub(super) const POOL: i64 = SPAN * 16_383;

/// The lock bytes of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryLocks {
    first: i64,
}

impl EntryLocks {
    /// The lock bytes of the entry at `index`.
    pub(super) fn of(index: usize) -> Self {
        EntryLocks { first: SPAN * index as i64 }
    }

    /// The byte that the writer of a slot for sets locks. Byte 0 of the first entry is the presence lock.
    pub(crate) fn set_slot(self, slot: usize) -> i64 {
        self.first + super::layout::SET_SLOT_LOCKS + slot as i64
    }

    /// The byte that the writer of a slot for failures locks.
    pub(crate) fn failure_slot(self, slot: usize) -> i64 {
        self.first + super::layout::FAILURE_SLOT_LOCKS + slot as i64
    }

    /// The byte that the owner of a ticket locks: the lowest 48 bits of the ticket. 21 of these bits are random, and 27
    /// count milliseconds up to 37 hours.
    pub(crate) fn ticket(self, ticket: u64) -> i64 {
        self.first + TICKETS + (ticket & (TICKETS as u64 - 1)) as i64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::layout, *};
    use crate::sys::lock::CREATOR;

    proptest! {
        #[test]
        fn the_bytes_of_two_entries_never_meet(
            index in 0usize..16_383, ticket in any::<u64>(), set in 0..layout::SET_SLOTS,
            failure in 0..layout::FAILURE_SLOTS,
        ) {
            let locks = EntryLocks::of(index);
            let bytes = [locks.set_slot(set), locks.failure_slot(failure), locks.ticket(ticket)];
            for byte in bytes {
                prop_assert!(byte > CREATOR && byte / SPAN == index as i64 && byte < POOL, "{byte}");
            }
            prop_assert!(bytes[0] != bytes[1] && bytes[1] != bytes[2] && bytes[0] != bytes[2]);
        }
    }

    /// Another program, or another version, locks the same bytes: `docs/PROTOCOL.md` has these numbers.
    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let (locks, first) = (EntryLocks::of(2), 2 << 49);
        for slot in 0..layout::SET_SLOTS {
            assert_eq!(locks.set_slot(slot), first + layout::SET_SLOT_LOCKS + slot as i64);
        }
        for slot in 0..layout::FAILURE_SLOTS {
            assert_eq!(locks.failure_slot(slot), first + layout::FAILURE_SLOT_LOCKS + slot as i64);
        }
        assert_eq!(locks.ticket((7 << 48) + 5), first + (1 << 48) + 5);
    }

    #[test]
    fn slots_have_bytes_of_their_own() {
        let locks = EntryLocks::of(3);
        let sets = (0..layout::SET_SLOTS).map(|slot| locks.set_slot(slot));
        let failures = (0..layout::FAILURE_SLOTS).map(|slot| locks.failure_slot(slot));
        let all: std::collections::BTreeSet<i64> = sets.chain(failures).collect();
        assert_eq!(all.len(), layout::SLOTS);
    }
}
