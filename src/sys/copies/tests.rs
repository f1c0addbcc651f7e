use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
    mpsc::channel,
};

use super::*;

/// Counts its drops.
struct Copy(Arc<AtomicUsize>);

impl Drop for Copy {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn sections() -> &'static Sections {
    // Within reach for ever, so that a leak detector does not count them.
    static ALL: Mutex<Vec<&Sections>> = Mutex::new(Vec::new());
    crate::sys::barrier::prepare();
    let sections: &'static Sections = Box::leak(Box::new(Sections::new(|| 4)));
    ALL.lock().unwrap().push(sections);
    sections
}

struct World {
    copies: Copies<Copy>,
    sections: &'static Sections,
    drops: Arc<AtomicUsize>,
    own: &'static Record,
    other: &'static Record,
}

impl World {
    fn new() -> Self {
        let sections = sections();
        let copies = Copies::new();
        let (own, other) = (sections.claim(), sections.claim());
        World { copies, sections, drops: Arc::default(), own, other }
    }

    fn renew(&self, record: &'static Record, version: u64) {
        self.copies.renew(record, version, Arc::new(Copy(Arc::clone(&self.drops))), || true);
    }

    fn drops(&self) -> usize {
        self.drops.load(Ordering::SeqCst)
    }
}

#[test]
fn a_new_version_ends_the_copies_of_all_threads() {
    let world = World::new();
    world.renew(world.own, 1);
    world.renew(world.other, 1);
    assert_eq!(world.drops(), 0);
    world.renew(world.own, 2);
    assert_eq!(world.drops(), 2);
    assert!(world.copies.lend(world.other).is_none());
    assert!(world.copies.lend(world.own).is_some());
    assert_eq!(world.copies.seen(), 2);
    world.copies.clear_in(world.sections, Some(world.own));
    assert_eq!(world.drops(), 3);
}

/// A second copy of the same version leaves the first alone.
#[test]
fn each_place_has_a_copy() {
    let world = World::new();
    world.renew(world.own, 1);
    world.renew(world.other, 1);
    let [own, other] = [world.own, world.other].map(|record| world.copies.get(record).unwrap());
    assert!(!Arc::ptr_eq(&own, &other));
    drop(world.copies);
    assert_eq!(world.drops.load(Ordering::SeqCst), 0);
    drop((own, other));
    assert_eq!(world.drops.load(Ordering::SeqCst), 2);
}

/// A thread stands still in the middle of a read. It never reads again.
#[test]
fn a_copy_that_is_read_is_dropped_when_its_reader_leaves() {
    let world = World::new();
    world.renew(world.other, 1);
    let (inside, is_inside) = channel();
    let (go, may_go) = channel();
    std::thread::scope(|scope| {
        let (copies, other) = (&world.copies, world.other);
        scope.spawn(move || {
            let lent = copies.lend(other).unwrap();
            inside.send(()).unwrap();
            may_go.recv().unwrap();
            assert_eq!(lent.0.load(Ordering::SeqCst), 0);
        });
        is_inside.recv().unwrap();
        world.renew(world.own, 2);
        // Another version, so that more than one waits for the same reader.
        world.renew(world.own, 3);
        assert_eq!(world.drops(), 0, "it is read, and so waits what was taken away meanwhile");
        go.send(()).unwrap();
    });
    assert_eq!(world.drops(), 2);
}

/// What a signal handler does that interrupts a read: it reads itself, and its reads end before.
#[test]
fn a_read_inside_a_read_does_not_end_it() {
    let world = World::new();
    world.renew(world.own, 1);
    let outer = world.copies.lend(world.own).unwrap();
    let inner = world.copies.lend(world.own).unwrap();
    drop(inner);
    world.renew(world.other, 2);
    assert_eq!(world.drops(), 0);
    // Also the handler may see a new version first.
    world.renew(world.own, 3);
    assert_eq!(world.drops(), 0);
    drop(outer);
    assert_eq!(world.drops(), 2);
}

#[test]
fn the_record_of_a_thread_that_ended_is_used_again() {
    let sections = sections();
    let (first, second) = (sections.claim(), sections.claim());
    assert_eq!((first.index(), second.index()), (0, 1));
    first.release();
    let again = sections.claim();
    assert!(std::ptr::eq(first, again));
    assert_eq!(sections.claim().index(), 2);
}

/// A fork happens while other threads read, and while something waits for them.
#[test]
fn a_child_does_not_wait_for_threads_that_it_has_not() {
    let world = World::new();
    world.renew(world.other, 1);
    // The thread that forks does not have it.
    let lent = world.copies.lend(world.other).unwrap();
    world.renew(world.own, 2);
    assert_eq!(world.drops(), 0);
    world.sections.forget_others(Some(world.own));
    world.renew(world.own, 3);
    assert_eq!(world.drops(), 2, "both of the former versions");
    assert!(std::ptr::eq(world.sections.claim(), world.other));
    std::mem::forget(lent);
}

/// Copies of many versions, while threads read as fast as they can.
#[test]
fn readers_and_renewers_side_by_side() {
    const READERS: usize = 3;
    // Miri is some hundred times slower.
    const LAST: usize = if cfg!(miri) { 20 } else { 300 };
    let sections = sections();
    let copies = Copies::<Mutex<u64>>::new();
    let newest = AtomicUsize::new(1);
    std::thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let record = sections.claim();
                loop {
                    let version = newest.load(Ordering::SeqCst) as u64;
                    match copies.lend(record) {
                        Some(copy) if *copy.lock().unwrap() == version => {}
                        _ => copies.renew(record, version, Arc::new(Mutex::new(version)), || {
                            newest.load(Ordering::SeqCst) as u64 == version
                        }),
                    }
                    if version == LAST as u64 {
                        return record.release();
                    }
                }
            });
        }
        for version in 2..=LAST {
            newest.store(version, Ordering::SeqCst);
            std::thread::yield_now();
        }
    });
    copies.clear_in(sections, None);
    assert!(sections.is_done(), "something waits for a reader, and none is there");
}
