//! The slots that an elected process writes: one at a time, and never the published one. Which slot is free, and who may
//! write it.

use std::sync::atomic::Ordering;

use super::election::Elected;
use crate::{
    error::{ErrorKind, Fault},
    fault_point::{FaultPoint, hit},
    segment::{EntryLocks, layout},
    seqlock::{HEAD as SLOT_HEAD, Latch, Version},
    sys::task::{Presence, TaskMark},
};

/// The slots of one latch, with their lock bytes and their claim words.
pub(super) struct SlotGroup {
    slots: usize,
    byte: fn(EntryLocks, usize) -> i64,
    first_claim: usize,
    /// Gives a slot its memory, in a pool.
    provide: fn(&Elected, usize, usize) -> Result<(), Fault>,
}

pub(super) const SETS: SlotGroup = SlotGroup {
    slots: layout::SET_SLOTS,
    byte: EntryLocks::set_slot,
    first_claim: 0,
    provide: |elected, slot, words| match elected.view().pool() {
        Some(pool) => pool.lock(elected.locks())?.provide(elected.view().index(), slot, words),
        None => Ok(()),
    },
};
pub(super) const FAILURES: SlotGroup = SlotGroup {
    slots: layout::FAILURE_SLOTS,
    byte: EntryLocks::failure_slot,
    first_claim: layout::SET_SLOTS,
    provide: |_, _, _| Ok(()),
};

/// Writes `words` into a free slot and publishes it, if `from` is still the newest version. Then calls `announce` at once:
/// sleepers must not wait until the slot is free again, which takes system calls.
///
/// A slot has one writer at a time. A process that was stopped during a write keeps its slot, and the next writer uses
/// another one.
pub(super) fn store(
    elected: &Elected,
    latch: Latch<'_>,
    group: &SlotGroup,
    from: Version,
    words: &[u64],
    announce: impl FnOnce(),
) -> Result<Option<Version>, Fault> {
    // Use a slot only as a last resort if its last writer is in another pid namespace.
    for unseen in [false, true] {
        for step in 1..=group.slots {
            let slot = (from.slot() + step) % group.slots;
            let Some(_claim) = Claim::take(elected, group, slot, unseen)? else { continue };
            (group.provide)(elected, slot, words.len() + SLOT_HEAD)?;
            if let Some(outcome) = write(latch, slot, from, words) {
                if outcome.is_some() {
                    announce();
                }
                return Ok(outcome);
            }
        }
    }
    let text = "no free slot: stopped processes hold all unpublished slots; resume or kill them";
    Err(Fault::new(ErrorKind::System, text))
}

/// Frees the memory of the slots that are not published, in a pool. A slot that a stopped process may still write keeps it.
pub(super) fn release_others(elected: &Elected, version: Version) -> Result<(), Fault> {
    let (view, locks) = (elected.view(), elected.locks());
    let Some(pool) = view.pool() else { return Ok(()) };
    let unpublished = (0..SETS.slots).filter(|slot| version.is_empty() || *slot != version.slot());
    // Most often none of them has memory. What another process gives one meanwhile is not this one's to free.
    for slot in unpublished.filter(|slot| pool.has_cell(view.index(), *slot)) {
        if let Some(_claim) = Claim::take(elected, &SETS, slot, false)? {
            pool.lock(locks)?.release(view.index(), slot);
        }
    }
    Ok(())
}

/// The right to write a slot, for one thread.
///
/// It consists of a byte lock and a mark. The kernel frees the byte lock when the process dies, but also when any code
/// in the process closes the lock file. In that case the mark in the segment remains, and counts as long as its thread
/// lives.
struct Claim<'a> {
    elected: &'a Elected,
    byte: i64,
    place: usize,
    mark: u64,
}

impl<'a> Claim<'a> {
    /// Claims `slot`. `None` when another thread has it. With `unseen` this also takes a slot with a free byte whose
    /// writer is in another pid namespace: the free byte is then the only sign that the writer died.
    fn take(
        elected: &'a Elected,
        group: &SlotGroup,
        slot: usize,
        unseen: bool,
    ) -> Result<Option<Self>, Fault> {
        let byte = (group.byte)(elected.view().reader().locks(), slot);
        let place = group.first_claim + slot;
        if !elected.locks().try_lock(byte)? {
            return Ok(None);
        }
        let word = elected.view().claim(place);
        let seen = word.load(Ordering::Relaxed);
        let is_free = match TaskMark::from_word(seen).presence(place as u64) {
            Presence::Gone => true,
            Presence::Unseen => unseen,
            Presence::Alive => false,
        };
        let mark = TaskMark::of_this_thread(place as u64).word();
        // Acquire pairs with the release in `drop` of the previous claim: the words of its writer come before the
        // words of this one. After a death the kernel's lock table has ordered the two.
        let taken = is_free
            && word.compare_exchange(seen, mark, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !taken {
            elected.locks().unlock(byte);
        }
        Ok(taken.then_some(Claim { elected, byte, place, mark }))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let word = self.elected.view().claim(self.place);
        // Release pairs with the acquire in `take`. The word holds another mark only if this thread looked dead.
        let _ = word.compare_exchange(self.mark, 0, Ordering::Release, Ordering::Relaxed);
        self.elected.locks().unlock(self.byte);
    }
}

/// `None` when the slot is the published one. `Some(None)` when another process published first.
fn write(latch: Latch<'_>, slot: usize, from: Version, words: &[u64]) -> Option<Option<Version>> {
    let mut writing = latch.begin(slot)?;
    let middle = words.len() / 2;
    for (at, word) in words.iter().enumerate() {
        if at == middle {
            hit(FaultPoint::MidWrite);
        }
        writing.word(*word);
    }
    Some(writing.publish(from).ok())
}
