//! Why roles got no entry. A process that asks the refresher for an entry gets no answer but the entry. Without one there is
//! no place for a failure either. So the refresher notes the reason in one of a few words of the pool, by the key.
//!
//! A word has 48 bits of the key, a number that changes with each refusal, and the reason. Another key may take the word:
//! then the process that waits is told nothing, and asks again.

use std::sync::atomic::Ordering;

use super::{PoolReader, PoolWriter, layout};
use crate::segment::key::Key;

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full = 1,
    NoSpace,
    NotAllowed,
    Invalid,
    /// The refresher computes another key.
    OtherKey,
    /// The entry is being refreshed.
    Busy,
    Failed,
}

const ALL: [Refusal; 7] = [
    Refusal::Full,
    Refusal::NoSpace,
    Refusal::NotAllowed,
    Refusal::Invalid,
    Refusal::OtherKey,
    Refusal::Busy,
    Refusal::Failed,
];

const REASON_BITS: u32 = 4;
const KEY_BITS: u32 = 16;

fn place(key: &Key) -> usize {
    layout::REFUSALS + key[1] as usize % layout::REFUSAL_WORDS * 8
}

impl Refusal {
    /// The reason in a word.
    pub(crate) fn of_word(word: u64) -> Option<Self> {
        let reason = word & ((1 << REASON_BITS) - 1);
        ALL.into_iter().find(|one| *one as u64 == reason)
    }
}

impl PoolWriter<'_> {
    /// Notes that the role with `key` got no entry. Only the refresher does so.
    pub(crate) fn refuse(self, key: &Key, refusal: Refusal) {
        let word = self.memory.word(place(key));
        // Relaxed, here and below: the word orders no other memory.
        let number = (word.load(Ordering::Relaxed) >> REASON_BITS).wrapping_add(1);
        let number = number & ((1 << (KEY_BITS - REASON_BITS)) - 1);
        let own = key[0] >> KEY_BITS << KEY_BITS;
        word.store(own | number << REASON_BITS | refusal as u64, Ordering::Relaxed);
    }
}

impl PoolReader<'_> {
    /// The word of the newest refusal of `key`; 0 if there is none.
    pub(crate) fn refusal(self, key: &Key) -> u64 {
        let word = self.memory.words(place(key), 1).values().next().unwrap_or(0);
        if word >> KEY_BITS == key[0] >> KEY_BITS { word } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_read_again() {
        for refusal in ALL {
            assert_eq!(Refusal::of_word(0xabcd_0000 | refusal as u64), Some(refusal));
        }
        assert_eq!((Refusal::of_word(0), Refusal::of_word(15)), (None, None));
    }
}
