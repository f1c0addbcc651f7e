use std::thread;

use super::*;

const SLOTS: usize = 3;
const SLOT_WORDS: usize = HEAD + 8;

struct Memory {
    version: AtomicU64,
    words: Vec<AtomicU64>,
}

impl Memory {
    fn new() -> Self {
        let words = (0..SLOTS * SLOT_WORDS).map(|_| AtomicU64::new(0)).collect();
        Memory { version: AtomicU64::new(0), words }
    }

    fn latch(&self) -> Latch<'_> {
        Latch::new(&self.version, &self.words, SLOT_WORDS)
    }

    fn publish(&self, slot: usize, from: Version, words: &[u64]) -> Result<Version, Superseded> {
        let mut writing = self.latch().begin(slot).expect("the slot is not published");
        words.iter().for_each(|word| writing.word(*word));
        writing.publish(from)
    }

    fn read(&self) -> Option<(u64, Vec<u64>)> {
        let mut out = Vec::new();
        self.latch().reader().read(&mut out).map(|version| (version.generation(), out))
    }
}

#[test]
fn the_newest_record_is_read() {
    let memory = Memory::new();
    assert_eq!(memory.read(), None);
    let first = memory.publish(0, memory.latch().reader().version(), &[1, 2, 3]).unwrap();
    assert_eq!(memory.read(), Some((1, vec![1, 2, 3])));
    memory.publish(2, first, &[4]).unwrap();
    assert_eq!(memory.read(), Some((2, vec![4])));
}

#[test]
fn the_published_slot_is_not_written() {
    let memory = Memory::new();
    memory.publish(1, memory.latch().reader().version(), &[1]).unwrap();
    assert!(memory.latch().begin(1).is_none());
}

#[test]
fn a_writer_that_was_overtaken_publishes_nothing() {
    let memory = Memory::new();
    let start = memory.latch().reader().version();
    let mut late = memory.latch().begin(1).unwrap();
    late.word(9);
    memory.publish(2, start, &[7]).unwrap();
    assert_eq!(late.publish(start), Err(Superseded));
    assert_eq!(memory.read(), Some((1, vec![7])));
}

#[test]
fn a_writer_that_dies_at_any_word_does_no_harm() {
    for died_after in 0..8 {
        let memory = Memory::new();
        let first = memory.publish(0, memory.latch().reader().version(), &[1, 1]).unwrap();
        let mut dead = memory.latch().begin(1).unwrap();
        (0..died_after).for_each(|_| dead.word(666));
        assert_eq!(memory.read(), Some((1, vec![1, 1])));
        memory.publish(2, first, &[2, 2]).unwrap();
        assert_eq!(memory.read(), Some((2, vec![2, 2])));
    }
}

#[test]
fn a_rejected_record_can_be_read_and_succeeded() {
    let memory = Memory::new();
    let first = memory.publish(0, memory.latch().reader().version(), &[1]).unwrap();
    assert!(memory.latch().mark_rejected(first));
    assert!(!memory.latch().mark_rejected(first), "marked once");
    let marked = memory.latch().reader().version();
    assert!(!memory.latch().mark_rejected(marked), "the mark is not taken back");
    assert!(memory.latch().reader().version().is_rejected());
    assert_eq!(memory.read(), Some((1, vec![1])));
    let second = memory.publish(1, first, &[2]).unwrap();
    assert!(!second.is_rejected());
    assert!(!memory.latch().mark_rejected(first), "another one is newest");
}

#[test]
fn invalid_words_are_refused() {
    for (word, value) in [(0, 99), (1, 9), (1, u64::MAX)] {
        let memory = Memory::new();
        memory.publish(0, memory.latch().reader().version(), &[1]).unwrap();
        memory.words[word].store(value, Ordering::Relaxed);
        assert_eq!(memory.read(), None);
    }
    let memory = Memory::new();
    memory.version.store(Version::new(1, 200).0, Ordering::Relaxed);
    assert_eq!(memory.read(), None);
}

#[test]
fn readers_during_writes_see_whole_records_in_order() {
    let rounds = if cfg!(miri) { 30 } else { 20_000 };
    let memory = Memory::new();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while last < rounds {
                    let Some((generation, words)) = memory.read() else {
                        thread::yield_now();
                        continue;
                    };
                    assert!(words.iter().all(|word| *word == generation), "torn: {words:?}");
                    assert!(generation >= last, "{generation} after {last}");
                    last = generation;
                }
            });
        }
        let mut version = memory.latch().reader().version();
        for round in 1..=rounds {
            let slot = (version.slot() + 1) % SLOTS;
            version = memory.publish(slot, version, &[round; 8]).unwrap();
        }
    });
}
