//! The layout of the segment. `docs/PROTOCOL.md` describes the same for other languages.

use std::mem::{offset_of, size_of};

use crossbeam_utils::CachePadded;

/// The first word of every finished segment: `SHMCREDS` in memory.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"SHMCREDS");
/// The version of this layout. Any change of an offset, a width or a meaning needs a new version.
pub(crate) const VERSION: u64 = 2;

/// The header page, which a file has once. This type is never constructed: it only gives the fields their offsets.
/// `CachePadded` puts fields that different processes write on different cache lines.
#[repr(C)]
#[allow(dead_code)]
struct HeaderPage {
    facts: CachePadded<[u64; 32]>,
    /// Whether the session was ended on purpose, then the pid and the mark of its owner.
    ended: CachePadded<[u64; 3]>,
}

pub(crate) const ENDED: usize = offset_of!(HeaderPage, ended);
/// The description of the source: the length of the text in bytes, then the text.
pub(crate) const DESCRIPTION: usize = 512;
/// The space for the text: the rest of the header page.
pub(crate) const DESCRIPTION_BYTES: usize = HEADER_BYTES - DESCRIPTION - 8;
/// Bytes before the first entry.
pub(crate) const HEADER_BYTES: usize = 4096;

/// An entry. Never constructed, as the header page.
#[repr(C)]
#[allow(dead_code)]
struct EntryFields {
    /// The version of the newest set.
    published: CachePadded<u64>,
    /// The number of events, and the futex that waiters sleep on. The upper half is unused.
    event: CachePadded<u64>,
    /// Four words on the election: the ticket of the elected process (0 when there is none), since when it is elected, its
    /// pid, and the mark of its thread. Two words on the attempt: the ticket of the process that asks the source, and the
    /// generation that was newest at that time. One word on the Regions of the source that have failed lately.
    election: CachePadded<[u64; 7]>,
    /// The version of the newest failure, then what the refreshers note about the fleet.
    failed: CachePadded<[u64; 1 + FLEET_NOTES]>,
    /// Source calls, publications, takeovers, rejections, failures by class, and early refreshes.
    counters: CachePadded<[u64; COUNTERS]>,
    /// For each slot, the mark of the thread that writes it; 0 when there is none. Set slots come first.
    claims: CachePadded<[u64; SLOTS]>,
    failures: [[u64; FAILURE_SLOT_WORDS]; FAILURE_SLOTS],
    sets: [[u64; SET_SLOT_WORDS]; SET_SLOTS],
}

/// The offsets of the fields of an entry, from its base.
pub(crate) mod entry {
    use super::{EntryFields, offset_of};

    pub(crate) const PUBLISHED: usize = offset_of!(EntryFields, published);
    pub(crate) const EVENT: usize = offset_of!(EntryFields, event);
    pub(crate) const ELECTION: usize = offset_of!(EntryFields, election);
    pub(crate) const FAILED: usize = offset_of!(EntryFields, failed);
    pub(crate) const FLEET: usize = FAILED + 8;
    pub(crate) const COUNTERS: usize = offset_of!(EntryFields, counters);
    pub(crate) const CLAIMS: usize = offset_of!(EntryFields, claims);
    pub(crate) const FAILURES: usize = offset_of!(EntryFields, failures);
    pub(crate) const SETS: usize = offset_of!(EntryFields, sets);
}

pub(crate) const COUNTERS: usize = 9;
/// Notes about the fleet.
pub(crate) const FLEET_NOTES: usize = 12;
/// The indices of the failure counters.
pub(crate) const FAILURE_COUNTERS: std::ops::Range<usize> = 4..8;
/// Slots for sets. One is published. A process that is stopped during a write blocks another one until it continues or
/// is killed.
pub(crate) const SET_SLOTS: usize = 3;
/// Words of a set slot: two words of the latch and the largest record, rounded up to lines of 128 bytes.
pub(crate) const SET_SLOT_WORDS: usize = 2128;
/// Slots for failures.
pub(crate) const FAILURE_SLOTS: usize = 3;
/// Words of a failure slot.
pub(crate) const FAILURE_SLOT_WORDS: usize = 128;
/// Slots of both kinds.
pub(crate) const SLOTS: usize = SET_SLOTS + FAILURE_SLOTS;
/// All set slots of one entry. A secret segment has them in secret memory.
pub(crate) const SETS_WORDS: usize = SET_SLOTS * SET_SLOT_WORDS;
pub(crate) const SETS_BYTES: usize = SETS_WORDS * 8;

/// Bytes from one entry to the next: whole pages.
pub(crate) const ENTRY_BYTES: usize = size_of::<EntryFields>().next_multiple_of(4096);
/// Entries of a segment.
pub(crate) const ENTRIES: usize = 1;
/// Bytes of the whole segment.
pub(crate) const TOTAL_BYTES: usize = entry_base(ENTRIES);

/// The offset of the entry at `index`.
pub(crate) const fn entry_base(index: usize) -> usize {
    HEADER_BYTES + index * ENTRY_BYTES
}

const _: () = {
    // The padding is part of the layout: it must be 128 bytes on every target.
    assert!(ENDED == 256 && size_of::<HeaderPage>() <= DESCRIPTION);
    assert!(entry::PUBLISHED == 0 && entry::EVENT == 128 && entry::ELECTION == 256);
    assert!(entry::FAILED == 384 && entry::COUNTERS == 512 && entry::CLAIMS == 640);
    assert!(entry::FAILURES == 768 && entry::SETS == 3840);
    // A container often has an RLIMIT_MEMLOCK of 64 KiB.
    assert!(TOTAL_BYTES <= 64 * 1024);
};

/// The lock file's page of requests.
pub(crate) const REQUESTS_BYTES: usize = 4096;
/// Bytes of the requests of one entry.
pub(crate) const REQUEST_BYTES: usize = 64;
pub(crate) const NOTIFIED: usize = 0;
pub(crate) const WANTED: usize = 8;
pub(crate) const REJECTED: usize = 16;
pub(crate) const SHORT: usize = 24;

/// The lock bytes of the slots in the lock file, from the first lock byte of the entry. Byte 0 of the first entry is the
/// presence lock.
pub(crate) const SET_SLOT_LOCKS: i64 = 16;
pub(crate) const FAILURE_SLOT_LOCKS: i64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// The document for other languages matches the code.
    #[test]
    fn the_document_agrees() {
        let document = include_str!("../../docs/PROTOCOL.md");
        let thousands = |n: usize| format!("{},{:03}", n / 1000, n % 1000);
        for line in [
            format!("Layout version {VERSION}."),
            format!("bytes of the header page: {} |", thousands(HEADER_BYTES)),
            format!("bytes from one entry to the next: {} |", thousands(ENTRY_BYTES)),
            format!("number of set slots: {SET_SLOTS} |"),
            format!("bytes of a set slot: {} |", thousands(SET_SLOT_WORDS * 8)),
            format!("number of failure slots: {FAILURE_SLOTS} |"),
            format!("bytes of a failure slot: {} |", thousands(FAILURE_SLOT_WORDS * 8)),
            format!("| {ENDED} | 8 | *ended*"),
            format!("| {} | 8 | the pid of the owner", ENDED + 8),
            format!("| {} | 8 | the mark of the owner", ENDED + 16),
            format!("| {DESCRIPTION} | 8 | length of the description"),
            format!("| {} | ≤ {} | description", DESCRIPTION + 8, thousands(DESCRIPTION_BYTES)),
            format!("| {} | 8 | *published*", entry::PUBLISHED),
            format!("| {} | 4 | *event*", entry::EVENT),
            format!("| {} | 8 | *election*", entry::ELECTION),
            format!("| {} | 8 | since when", entry::ELECTION + 8),
            format!("| {} | 8 | its pid", entry::ELECTION + 16),
            format!("| {} | 8 | the mark of its thread", entry::ELECTION + 24),
            format!("| {} | 8 | *attempt*", entry::ELECTION + 32),
            format!("| {} | 8 | the generation that was newest", entry::ELECTION + 40),
            format!("| {} | 8 | the Regions of the source that have failed", entry::ELECTION + 48),
            format!("| {} | {SLOTS} × 8 | *claims*", entry::CLAIMS),
            format!("| {} | 8 | *failed*", entry::FAILED),
            format!("| {} | {FLEET_NOTES} × 8 | notes about the fleet", entry::FLEET),
            format!("| {} | {COUNTERS} × 8 | counters", entry::COUNTERS),
            format!(
                "| {} | {FAILURE_SLOTS} × {} | failure slots",
                entry::FAILURES,
                thousands(FAILURE_SLOT_WORDS * 8)
            ),
            format!(
                "| {} | {SET_SLOTS} × {} | set slots",
                thousands(entry::SETS),
                thousands(SET_SLOT_WORDS * 8)
            ),
            format!("| {NOTIFIED} | 4 | *notified*"),
            format!("| {WANTED} | 8 | *wanted*"),
            format!("| {REJECTED} | 8 | *rejected*"),
            format!("| {SHORT} | 8 | *short*"),
            format!("{SET_SLOT_LOCKS} + *slot* (set) or {FAILURE_SLOT_LOCKS} + *slot* (failure)"),
        ] {
            assert!(document.contains(&line), "{line}");
        }
    }
}
