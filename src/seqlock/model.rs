//! The protocol under the model checker: it runs the real code with every interleaving, and with every value that the
//! memory model allows for a load.

use loom::{sync::Arc, thread};

use super::*;

const SLOT_WORDS: usize = HEAD + 2;

struct Memory {
    version: AtomicU64,
    words: Vec<AtomicU64>,
}

impl Memory {
    /// `slots` slots. Slot 0 holds generation 1.
    fn new(slots: usize) -> Arc<Self> {
        let words = (0..slots * SLOT_WORDS).map(|_| AtomicU64::new(0)).collect();
        let memory = Memory { version: AtomicU64::new(0), words };
        memory.publish(0, Version(0), 1).unwrap();
        Arc::new(memory)
    }

    fn latch(&self) -> Latch<'_> {
        Latch::new(&self.version, &self.words, SLOT_WORDS)
    }

    fn publish(&self, slot: usize, from: Version, value: u64) -> Result<Version, Superseded> {
        let mut writing = self.latch().begin(slot).expect("not the published slot");
        writing.word(value);
        writing.word(value);
        writing.publish(from)
    }

    /// The newest value, unless all tries fail. Panics when it is torn.
    fn read(&self) -> Option<(u64, u64)> {
        let mut out = Vec::new();
        let version = self.latch().reader().read(&mut out)?;
        assert!(out.len() == 2 && out[0] == out[1], "torn: {out:?}");
        Some((version.generation(), out[0]))
    }
}

fn reader(memory: &Arc<Memory>, reads: usize) -> thread::JoinHandle<()> {
    let memory = Arc::clone(memory);
    thread::spawn(move || {
        let mut last = 0;
        for (generation, value) in (0..reads).filter_map(|_| memory.read()) {
            assert_eq!(generation, value, "the record of another generation");
            assert!(generation >= last, "generation went back");
            last = generation;
        }
    })
}

/// With two slots the second publication writes a slot that readers may still read.
#[test]
fn two_readers_during_writes() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let memory = Memory::new(2);
        let readers = [reader(&memory, 1), reader(&memory, 1)];
        let second = memory.publish(1, memory.latch().reader().version(), 2).unwrap();
        memory.publish(0, second, 3).unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(memory.read(), Some((3, 3)));
    });
}

#[test]
fn a_reader_during_writes_in_all_interleavings() {
    loom::model(|| {
        let memory = Memory::new(2);
        let reader = reader(&memory, 2);
        let second = memory.publish(1, memory.latch().reader().version(), 2).unwrap();
        memory.publish(0, second, 3).unwrap();
        reader.join().unwrap();
    });
}

/// The writer of slot 1 dies after 0, 1 or 2 words; the next one takes another slot.
#[test]
fn a_writer_dies_at_any_store() {
    for stores in 0..=2 {
        loom::model(move || {
            let memory = Memory::new(3);
            let reader = reader(&memory, 2);
            let dying = Arc::clone(&memory);
            let death = thread::spawn(move || {
                let mut writing = dying.latch().begin(1).unwrap();
                (0..stores).for_each(|_| writing.word(666));
            });
            death.join().unwrap();
            memory.publish(2, memory.latch().reader().version(), 2).unwrap();
            reader.join().unwrap();
            assert_eq!(memory.read(), Some((2, 2)));
        });
    }
}

/// The writer of slot 1 may be stopped at any point, and continues at any point of the other publication.
#[test]
fn a_stopped_writer_wakes_up() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let memory = Memory::new(3);
        let start = memory.latch().reader().version();
        let reader = reader(&memory, 1);
        let sleeper = Arc::clone(&memory);
        let stopped = thread::spawn(move || {
            let mut writing = sleeper.latch().begin(1).unwrap();
            writing.word(2);
            writing.word(2);
            writing.publish(start).is_ok()
        });
        let overtook = memory.publish(2, start, 2).is_ok();
        assert!(overtook != stopped.join().unwrap(), "exactly one writer publishes generation 2");
        reader.join().unwrap();
        assert_eq!(memory.read(), Some((2, 2)));
    });
}

/// Two latches that share one cell, as two entries of a pool do.
struct Shared {
    versions: [AtomicU64; 2],
    owned: [Vec<AtomicU64>; 2],
    cells: Vec<AtomicU64>,
}

impl Shared {
    /// The first latch has the cell and holds a record.
    fn new() -> Arc<Self> {
        let words = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let versions = [AtomicU64::new(0), AtomicU64::new(0)];
        let shared = Shared { versions, owned: [words(1), words(1)], cells: words(SLOT_WORDS) };
        shared.own(0);
        shared.publish(0, Version(0)).unwrap();
        Arc::new(shared)
    }

    fn latch(&self, entry: usize) -> Latch<'_> {
        let cells = Cells {
            owned: &self.owned[entry][..],
            small: &self.cells[..],
            small_words: SLOT_WORDS,
            small_count: 1,
            large: &[][..],
            large_words: SLOT_WORDS,
        };
        Latch::in_cells(&self.versions[entry], cells, (entry as u64) << 48)
    }

    fn own(&self, entry: usize) {
        self.owned[entry][0].store(1, Ordering::Relaxed);
    }

    /// A record of the entry: its number plus 1, twice.
    fn publish(&self, entry: usize, from: Version) -> Result<Version, Superseded> {
        let mut writing = self.latch(entry).begin(0).expect("the entry owns the cell");
        writing.word(entry as u64 + 1);
        writing.word(entry as u64 + 1);
        writing.publish(from)
    }

    /// Takes the cell from the entry.
    fn evict(&self, entry: usize) {
        let latch = self.latch(entry);
        latch.retire(latch.reader().version()).expect("nobody else publishes");
        wipe(&self.cells);
        self.owned[entry][0].store(0, Ordering::Relaxed);
    }

    /// Panics when the record is torn, or that of the other entry.
    fn read(&self, entry: usize) -> Option<u64> {
        let mut out = Vec::new();
        let version = self.latch(entry).reader().read(&mut out)?;
        let expected = entry as u64 + 1;
        assert!(out == [expected, expected], "torn or foreign: {out:?}");
        Some(version.generation())
    }
}

/// The cell goes from the first to the second entry. Both have the same generation, so only the tag tells their records
/// apart.
#[test]
fn a_cell_goes_to_another_entry() {
    for entry in [0, 1] {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(move || {
            let shared = Shared::new();
            let reader = Arc::clone(&shared);
            let reader = thread::spawn(move || reader.read(entry));
            shared.evict(0);
            shared.own(1);
            shared.publish(1, Version(0)).unwrap();
            reader.join().unwrap();
            assert_eq!((shared.read(0), shared.read(1)), (None, Some(1)));
        });
    }
}

/// The cell goes to the second entry and comes back: the first one has another generation by then.
#[test]
fn a_cell_comes_back() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let shared = Shared::new();
        let reader = Arc::clone(&shared);
        let reader = thread::spawn(move || reader.read(0));
        shared.evict(0);
        shared.own(1);
        shared.publish(1, Version(0)).unwrap();
        shared.evict(1);
        shared.own(0);
        shared.publish(0, shared.latch(0).reader().version()).unwrap();
        let generation = reader.join().unwrap();
        assert!(generation.is_none_or(|seen| seen == 1 || seen == 3), "{generation:?}");
        assert_eq!((shared.read(0), shared.read(1)), (Some(3), None));
    });
}

/// A writer that was stopped before its publication goes on after its entry was evicted: it publishes nothing.
#[test]
fn a_late_publication_after_an_eviction() {
    loom::model(|| {
        let shared = Shared::new();
        let start = shared.latch(0).reader().version();
        let late = Arc::clone(&shared);
        let late = thread::spawn(move || {
            let next = Version::new(start.generation() + 1, 0);
            exchange(&late.versions[0], start, next).is_ok()
        });
        let retired = shared.latch(0).retire(start).is_ok();
        assert!(late.join().unwrap() != retired, "exactly one of them is the successor");
    });
}
