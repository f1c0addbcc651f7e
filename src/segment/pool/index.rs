//! The index: from a key to the number of its entry. A hash table with linear probing, at most half full.
//!
//! A word is 0, or the low 48 bits of the key's first word and the number of the entry plus 1 in the low 16 bits. The key
//! is a SHA-256, so its bits are the hash. A word is a hint only: the key in the entry decides.

use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::PoolLayout;
use crate::segment::key::Key;

const ENTRY_BITS: u32 = 16;
const ENTRY_MASK: u64 = (1 << ENTRY_BITS) - 1;

fn word_of(key: &Key, entry: usize) -> u64 {
    key[0] << ENTRY_BITS | (entry as u64 + 1)
}

/// The entry in a word, if it exists.
fn entry_of(layout: PoolLayout, word: u64) -> Option<usize> {
    let entry = usize::try_from(word & ENTRY_MASK).ok()?.checked_sub(1)?;
    (entry < layout.capacity).then_some(entry)
}

/// Where the search for a word begins.
fn home(layout: PoolLayout, word: u64) -> usize {
    (word >> ENTRY_BITS) as usize & (layout.index_words() - 1)
}

/// The entry of `key`. `word` reads a word of the index, and `is_it` tells whether an entry has the key.
pub(super) fn find(
    layout: PoolLayout,
    word: impl Fn(usize) -> u64,
    key: &Key,
    is_it: impl Fn(usize) -> bool,
) -> Option<usize> {
    let (mask, wanted) = (layout.index_words() - 1, word_of(key, 0) & !ENTRY_MASK);
    let start = home(layout, wanted);
    // At most half of the words are used. More only if another program has written here.
    (0..layout.index_words())
        .map(|step| word((start + step) & mask))
        .take_while(|seen| *seen != 0)
        .filter(|seen| seen & !ENTRY_MASK == wanted)
        .filter_map(|seen| entry_of(layout, seen))
        .find(|entry| is_it(*entry))
}

/// Adds `entry` with `key`. Under the pool's lock, as each change.
pub(super) fn add(layout: PoolLayout, words: &[AtomicU64], key: &Key, entry: usize) {
    let (mask, word) = (words.len() - 1, word_of(key, entry));
    let start = home(layout, word);
    for step in 0..words.len() {
        let place = &words[(start + step) & mask];
        // Relaxed, here and below: readers check what the word leads to.
        if place.load(Ordering::Relaxed) == 0 {
            return place.store(word, Ordering::Relaxed);
        }
    }
}

/// Removes the word of `entry` with `key`, and moves the words after it that would not be found any more.
pub(super) fn remove(layout: PoolLayout, words: &[AtomicU64], key: &Key, entry: usize) {
    let (mask, word) = (words.len() - 1, word_of(key, entry));
    let load = |at: usize| words[at].load(Ordering::Relaxed);
    let start = home(layout, word);
    let places = (0..words.len()).map(|step| (start + step) & mask);
    let found = places.take_while(|at| load(*at) != 0).find(|at| load(*at) == word);
    let Some(mut gap) = found else { return };
    let first = gap;
    for step in 1..words.len() {
        let at = (first + step) & mask;
        let seen = load(at);
        if seen == 0 {
            break;
        }
        // It stays if its search begins after the gap.
        let from_home = at.wrapping_sub(home(layout, seen)) & mask;
        if from_home >= at.wrapping_sub(gap) & mask {
            words[gap].store(seen, Ordering::Relaxed);
            gap = at;
        }
    }
    words[gap].store(0, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The index finds what a map of the standard library finds, whatever is added and removed. Few homes, so that the
        /// words push each other away, also across the end of the table.
        #[test]
        fn it_finds_what_a_map_finds(steps in prop::collection::vec((any::<bool>(), 0u64..12), 1..200)) {
            let layout = PoolLayout::new(8);
            let words: Vec<AtomicU64> = (0..layout.index_words()).map(|_| AtomicU64::new(0)).collect();
            let key = |n: u64| [14 + n % 4 + (n << 20), n, 7, 7];
            let mut map = HashMap::new();
            for (add, n) in steps {
                if add && !map.contains_key(&n) && map.len() < 8 {
                    let free = (0..8).find(|e| !map.values().any(|used| used == e)).unwrap();
                    super::add(layout, &words, &key(n), free);
                    map.insert(n, free);
                } else if !add && let Some(entry) = map.remove(&n) {
                    remove(layout, &words, &key(n), entry);
                }
                for n in 0..12 {
                    let is_it = |entry: usize| map.get(&n) == Some(&entry);
                    let found = find(layout, |at| words[at].load(Ordering::Relaxed), &key(n), is_it);
                    prop_assert_eq!(found, map.get(&n).copied());
                }
            }
        }

        #[test]
        fn forged_words_lead_to_no_entry_beyond_the_end(forged in prop::collection::vec(any::<u64>(), 16)) {
            let layout = PoolLayout::new(8);
            let key = [forged[0] >> ENTRY_BITS, 0, 0, 0];
            let found = find(layout, |at| forged[at], &key, |_| true);
            prop_assert!(found.is_none_or(|entry| entry < 8));
        }
    }
}
