//! The copies under the model checker: readers beside threads that take copies away.

use loom::thread;

use super::*;
use crate::atomic::AtomicBool;

/// A copy of one version. `is_wiped` outlives it.
struct Copy {
    version: u64,
    is_wiped: Arc<AtomicBool>,
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.is_wiped.store(true, Ordering::Relaxed);
    }
}

/// Copies of what has one version after the other, and all copies that were ever made.
struct World {
    copies: Copies<Copy>,
    sections: &'static Sections,
    newest: AtomicU64,
    made: std::sync::Mutex<Vec<(u64, Arc<AtomicBool>)>>,
}

impl World {
    fn new() -> (Arc<Self>, [&'static Record; 2]) {
        let sections: &'static Sections = Box::leak(Box::new(Sections::new(|| 1)));
        let records = [sections.claim(), sections.claim()];
        let world = World {
            copies: Copies::new(),
            sections,
            newest: AtomicU64::new(1),
            made: std::sync::Mutex::default(),
        };
        (Arc::new(world), records)
    }

    /// What a thread does that finds no current copy.
    fn look(&self, record: &'static Record) {
        let version = self.newest.load(Ordering::Relaxed);
        let is_wiped = Arc::new(AtomicBool::new(false));
        self.made.lock().unwrap().push((version, Arc::clone(&is_wiped)));
        let is_newest = || self.newest.load(Ordering::Relaxed) == version;
        self.copies.renew(record, version, Arc::new(Copy { version, is_wiped }), is_newest);
    }

    fn read(&self, record: &'static Record) {
        let Some(copy) = self.copies.lend(record) else { return };
        let version = copy.version;
        assert!(!copy.is_wiped.load(Ordering::Relaxed), "a lent copy of {version} was dropped");
    }

    /// No thread does anything any more.
    fn check(&self) {
        let newest = self.newest.load(Ordering::Relaxed);
        for (version, is_wiped) in &*self.made.lock().unwrap() {
            let is_wiped = is_wiped.load(Ordering::Relaxed);
            assert!(is_wiped || *version == newest, "a copy of {version} is left beside {newest}");
        }
    }
}

fn explore(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

/// The thread of the second record reads and then sleeps for ever.
#[test]
fn a_copy_is_dropped_after_its_reader_has_left() {
    explore(|| {
        let (world, [own, other]) = World::new();
        world.look(own);
        world.look(other);
        let reader = thread::spawn({
            let world = Arc::clone(&world);
            move || world.read(other)
        });
        world.newest.store(2, Ordering::Relaxed);
        world.look(own);
        reader.join().unwrap();
        world.check();
    });
}

/// A thread needs the other places for the first time, while another one takes all copies away.
#[test]
fn a_late_copy_in_a_new_place_does_not_stay() {
    explore(|| {
        let (world, [own, other]) = World::new();
        world.look(own);
        let late = thread::spawn({
            let world = Arc::clone(&world);
            move || world.look(other)
        });
        world.newest.store(2, Ordering::Relaxed);
        world.look(own);
        late.join().unwrap();
        world.check();
    });
}

/// Two threads need the other places at the same time, for one place.
#[test]
fn two_threads_add_places() {
    explore(|| {
        let (world, [own, other]) = World::new();
        let third = world.sections.claim();
        let adding = thread::spawn({
            let world = Arc::clone(&world);
            move || world.look(other)
        });
        world.look(third);
        adding.join().unwrap();
        world.newest.store(2, Ordering::Relaxed);
        world.look(own);
        world.check();
    });
}

/// The thread of the second record has loaded the old version when the new one is published.
#[test]
fn a_late_copy_of_an_old_version_does_not_stay() {
    explore(|| {
        let (world, [own, other]) = World::new();
        let late = thread::spawn({
            let world = Arc::clone(&world);
            move || world.look(other)
        });
        world.newest.store(2, Ordering::Relaxed);
        world.look(own);
        late.join().unwrap();
        world.check();
    });
}

/// Two threads see two new versions while a third one reads twice.
#[test]
fn two_threads_retire_what_a_third_one_reads() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let (world, [own, other]) = World::new();
        let third = world.sections.claim();
        world.look(third);
        let reader = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.read(third);
                world.read(third);
            }
        });
        let renewer = thread::spawn({
            let world = Arc::clone(&world);
            move || world.look(other)
        });
        world.newest.store(2, Ordering::Relaxed);
        world.look(own);
        reader.join().unwrap();
        renewer.join().unwrap();
        world.check();
    });
}

/// A record goes from one thread to the next, while a third one retires.
#[test]
fn a_record_goes_to_another_thread() {
    explore(|| {
        let (world, [own, other]) = World::new();
        world.look(other);
        let reader = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                world.read(other);
                other.release();
                let again = world.sections.claim();
                world.read(again);
            }
        });
        world.newest.store(2, Ordering::Relaxed);
        world.look(own);
        reader.join().unwrap();
        world.check();
    });
}

/// No other thread has a record when the copies are taken away. One begins to read at that moment.
#[test]
fn a_thread_begins_to_read_beside_a_single_one() {
    explore(|| {
        let (world, [own, other]) = World::new();
        world.look(own);
        world.look(other);
        other.release();
        let reader = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let late = world.sections.claim();
                world.read(late);
                world.read(late);
            }
        });
        world.newest.store(2, Ordering::Relaxed);
        world.look(own);
        reader.join().unwrap();
        world.check();
    });
}

/// A signal handler reads in the middle of a read of the same thread. The read goes on after that.
#[test]
fn a_read_inside_a_read_does_not_end_it() {
    explore(|| {
        let (world, [own, other]) = World::new();
        world.look(own);
        world.look(other);
        let reader = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let Some(outer) = world.copies.lend(other) else { return };
                world.read(other);
                assert!(!outer.is_wiped.load(Ordering::Relaxed), "it was dropped in the middle");
            }
        });
        world.newest.store(2, Ordering::Relaxed);
        world.look(own);
        reader.join().unwrap();
        world.check();
    });
}
