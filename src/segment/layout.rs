//! Where everything stands in the segment. `docs/PROTOCOL.md` says the same for other languages.

use std::mem::{offset_of, size_of};

use crossbeam_utils::CachePadded;

/// The first word of every finished segment: `SHMCREDS` in memory.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"SHMCREDS");
/// The version of this layout. Any change of an offset, a width or a meaning is a new one.
pub(crate) const VERSION: u64 = 2;

/// The control page. Never built: it gives the fields their offsets, and `CachePadded` keeps what
/// different parties touch on lines of their own.
#[repr(C)]
#[allow(dead_code)]
struct Control {
    header: CachePadded<[u64; 16]>,
    /// The version of the newest set.
    published: CachePadded<u64>,
    /// Counts events; the futex that waiters sleep on. Its upper half is unused.
    event: CachePadded<u64>,
    /// The ticket of the elected process, 0 when there is none; since when, its pid, and the mark of its thread. Then
    /// the ticket of the process that asks the source, and the generation that was newest when it did.
    election: CachePadded<[u64; 6]>,
    /// The version of the newest failure.
    failed: CachePadded<u64>,
    /// Source calls, publications, takeovers, invalidations, and failures by class.
    counters: CachePadded<[u64; 8]>,
    /// Whether the session was ended on purpose; the pid and the mark of the process that it belongs to.
    ended: CachePadded<[u64; 3]>,
    /// For each slot, sets first, the mark of the thread that writes it; 0 when there is none.
    claims: CachePadded<[u64; SLOTS]>,
}

pub(crate) const PUBLISHED: usize = offset_of!(Control, published);
pub(crate) const EVENT: usize = offset_of!(Control, event);
pub(crate) const ELECTION: usize = offset_of!(Control, election);
pub(crate) const FAILED: usize = offset_of!(Control, failed);
pub(crate) const COUNTERS: usize = offset_of!(Control, counters);
pub(crate) const ENDED: usize = offset_of!(Control, ended);
pub(crate) const CLAIMS: usize = offset_of!(Control, claims);
/// Slots of both kinds.
pub(crate) const SLOTS: usize = SET_SLOTS + FAILURE_SLOTS;
pub(crate) const COUNTERS_LEN: usize = 8;
/// The first of the counters of failures.
pub(crate) const FAILURE_COUNTERS: usize = 4;

/// What the source is: the length of the text in bytes, and the text.
pub(crate) const DESCRIPTION: usize = 1024;
/// Its room: the rest of the control page.
pub(crate) const DESCRIPTION_BYTES: usize = CONTROL_BYTES - DESCRIPTION - 8;

/// Bytes before the first slot.
pub(crate) const CONTROL_BYTES: usize = 4096;
/// Slots for sets. One is published; each process killed or stopped in the middle of writing
/// blocks one more until it is gone or goes on.
pub(crate) const SET_SLOTS: usize = 4;
/// Words of a slot for a set: two of the latch and the largest record, rounded up to lines of 128.
pub(crate) const SET_SLOT_WORDS: usize = 1104;
pub(crate) const SETS: usize = CONTROL_BYTES;
/// Slots for failures.
pub(crate) const FAILURE_SLOTS: usize = 3;
/// Words of a slot for a failure.
pub(crate) const FAILURE_SLOT_WORDS: usize = 128;
/// Bytes of all slots for sets: of the memory apart that a secret segment has for them, too.
pub(crate) const SETS_BYTES: usize = SET_SLOTS * SET_SLOT_WORDS * 8;
pub(crate) const FAILURES: usize = SETS + SETS_BYTES;

/// Bytes of the whole segment.
pub(crate) const TOTAL_BYTES: usize =
    (FAILURES + FAILURE_SLOTS * FAILURE_SLOT_WORDS * 8).next_multiple_of(4096);

const _: () = {
    // The padding is part of the layout: it must be 128 bytes wherever this compiles.
    assert!(PUBLISHED == 128 && EVENT == 256 && ELECTION == 384 && FAILED == 512);
    assert!(COUNTERS == 640 && ENDED == 768 && CLAIMS == 896);
    assert!(size_of::<Control>() <= DESCRIPTION);
    assert!(TOTAL_BYTES <= 64 * 1024);
};

/// The lock file's page of requests.
pub(crate) const REQUESTS_BYTES: usize = 4096;
pub(crate) const BELL: usize = 0;
pub(crate) const WANTED: usize = 8;
pub(crate) const REJECTED: usize = 16;

/// The locked bytes of the lock file, whatever they hold. Byte 0 is the presence lock.
pub(crate) const SET_SLOT_LOCKS: i64 = 16;
pub(crate) const FAILURE_SLOT_LOCKS: i64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// The document for readers in other languages says what the code does.
    #[test]
    fn the_document_agrees() {
        let document = include_str!("../../docs/PROTOCOL.md");
        let thousands = |n: usize| format!("{},{:03}", n / 1000, n % 1000);
        for line in [
            format!("Layout version {VERSION}."),
            format!("control page: {} |", thousands(CONTROL_BYTES)),
            format!("number of set slots: {SET_SLOTS} |"),
            format!("bytes of a set slot: {} |", thousands(SET_SLOT_WORDS * 8)),
            format!("number of failure slots: {FAILURE_SLOTS} |"),
            format!("bytes of a failure slot: {} |", thousands(FAILURE_SLOT_WORDS * 8)),
            format!("| {PUBLISHED} | 8 | *published*"),
            format!("| {EVENT} | 4 | *event*"),
            format!("| {ELECTION} | 8 | *election*"),
            format!("| {} | 8 | since when", ELECTION + 8),
            format!("| {} | 8 | its pid", ELECTION + 16),
            format!("| {} | 8 | the mark of its thread", ELECTION + 24),
            format!("| {} | 8 | *attempt*", ELECTION + 32),
            format!("| {} | 8 | the generation that was newest", ELECTION + 40),
            format!("| {ENDED} | 8 | *ended*"),
            format!("| {} | 8 | the pid of the owner", ENDED + 8),
            format!("| {} | 8 | the mark of the owner", ENDED + 16),
            format!("| {CLAIMS} | {SLOTS} × 8 | *claims*"),
            format!("| {FAILED} | 8 | *failed*"),
            format!("| {COUNTERS} | {COUNTERS_LEN} × 8 | counters"),
            format!("| {DESCRIPTION} | 8 | length of the description"),
            format!("| {} | ≤ {} | description", DESCRIPTION + 8, thousands(DESCRIPTION_BYTES)),
            format!("| {BELL} | 4 | *bell*"),
            format!("| {WANTED} | 8 | *wanted*"),
            format!("| {REJECTED} | 8 | *rejected*"),
            format!("{SET_SLOT_LOCKS} + *slot* (set) or {FAILURE_SLOT_LOCKS} + *slot* (failure)"),
        ] {
            assert!(document.contains(&line), "{line}");
        }
    }
}
