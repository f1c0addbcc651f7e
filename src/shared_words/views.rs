use crate::atomic::{AtomicU64, Ordering};

/// A word that can be loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadWord<'a>(&'a AtomicU64);

impl<'a> ReadWord<'a> {
    /// The word, for reading alone.
    pub(crate) fn new(word: &'a AtomicU64) -> Self {
        ReadWord(word)
    }

    /// The value. Relaxed: Rust guarantees no stronger load of memory that is mapped for reading. A fence after
    /// it gives the order that a reader needs.
    #[inline]
    pub(crate) fn load(self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Consecutive words that can be loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadWords<'a>(&'a [AtomicU64]);

impl<'a> ReadWords<'a> {
    /// The words, for reading alone.
    pub(crate) fn new(words: &'a [AtomicU64]) -> Self {
        ReadWords(words)
    }

    /// The word at `index`; `None` outside of them.
    pub(crate) fn word(self, index: usize) -> Option<ReadWord<'a>> {
        self.0.get(index).map(ReadWord)
    }

    /// `count` words from `start`; `None` when they are not all there.
    pub(crate) fn part(self, start: usize, count: usize) -> Option<Self> {
        self.0.get(start..start.checked_add(count)?).map(ReadWords)
    }

    /// The values, one after another.
    pub(crate) fn values(self) -> impl ExactSizeIterator<Item = u64> {
        self.0.iter().map(|word| ReadWord(word).load())
    }
}
