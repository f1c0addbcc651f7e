use crate::atomic::{AtomicU64, Ordering};

/// A word, for reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadWord<'a>(&'a AtomicU64);

impl<'a> ReadWord<'a> {
    /// A read-only view of the word.
    pub(crate) fn new(word: &'a AtomicU64) -> Self {
        ReadWord(word)
    }

    /// The value. The load is relaxed, because Rust guarantees no stronger load on read-only memory. Readers add a fence
    /// after it.
    #[inline]
    pub(crate) fn load(self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Consecutive words, for reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadWords<'a>(&'a [AtomicU64]);

impl<'a> ReadWords<'a> {
    /// A read-only view of the words.
    pub(crate) fn new(words: &'a [AtomicU64]) -> Self {
        ReadWords(words)
    }

    /// The word at `index`; `None` when out of range.
    pub(crate) fn word(self, index: usize) -> Option<ReadWord<'a>> {
        self.0.get(index).map(ReadWord)
    }

    /// `count` words from `start`; `None` when out of range.
    pub(crate) fn part(self, start: usize, count: usize) -> Option<Self> {
        self.0.get(start..start.checked_add(count)?).map(ReadWords)
    }

    /// The values in order.
    pub(crate) fn values(self) -> impl ExactSizeIterator<Item = u64> {
        self.0.iter().map(|word| ReadWord(word).load())
    }
}
