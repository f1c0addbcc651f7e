//! Read sections: how a thread that takes something away knows when no other thread reads it any more.
//!
//! This is userspace RCU (read-copy-update), as liburcu has it. A reader stores to a record of its own only, and makes
//! no locked instruction. A thread that retires items pays for it.
//!
//! | step | reader | thread that retires |
//! | --- | --- | --- |
//! | 1 | count becomes odd; light barrier | removes the item from its place; heavy barrier |
//! | 2 | loads the item from its place, and uses it | loads all counts; drops the item if all are even |
//! | 3 | count becomes even; light barrier | else: says in an odd record that it is awaited; heavy barrier |
//! | 4 | loads whether it is awaited; if so, drops what nobody reads any more | loads the count again; from the start if it has changed |
//!
//! * Steps 1 and 2: a reader that gets the item has a count that the other thread sees as odd.
//! * Steps 3 and 4: a reader that ends its section unseen sees that it is awaited. So the item is dropped as soon as its
//!   last reader has left, also if none of the threads reads again.
//!
//! A thread is in no section before it has a record. So where no other thread has one, the heavy barrier of step 1 is not
//! needed: a fence is enough, which pairs with that of a thread that gets its record.
//!
//! Nobody waits. A thread that was stopped in the middle of a section keeps only what it was reading.

use std::{iter, marker::PhantomData, ptr::null_mut, sync::Arc};

use crossbeam_utils::CachePadded;

use super::super::barrier::{self, Light};
use crate::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};

/// What is dropped when nobody reads it.
pub(super) type Item = Arc<dyn Send + Sync>;

/// The records of all threads, and what waits for readers to leave.
#[derive(Debug)]
pub(crate) struct Sections {
    first: AtomicPtr<CachePadded<Record>>,
    retired: AtomicPtr<Retired>,
    /// How many places there are for copies of one thing, besides that of the first record.
    places: fn() -> usize,
}

/// The record of one thread, which no other thread uses meanwhile. Later threads use it again. It is never freed.
#[derive(Debug)]
pub(crate) struct Record {
    /// Odd while the thread is in a section.
    count: AtomicUsize,
    /// Another thread waits for the end of the section.
    is_awaited: AtomicBool,
    is_taken: AtomicBool,
    /// How many records are before this one.
    index: usize,
    sections: &'static Sections,
    next: AtomicPtr<CachePadded<Record>>,
}

/// Items that were in reach of readers, and the sections that may still read them.
struct Retired {
    _items: Vec<Item>,
    readers: Vec<Reader>,
    next: *mut Retired,
}

/// A section: its thread is in it while the count is that.
#[derive(Clone, Copy)]
struct Reader {
    record: &'static Record,
    count: usize,
}

impl Reader {
    fn is_inside(&self) -> bool {
        // Acquire pairs with the release in `Section::drop`: the reader's accesses come before the drop of the item.
        self.record.count.load(Ordering::Acquire) == self.count
    }
}

/// A section of the calling thread. It ends when this is dropped.
pub(super) struct Section {
    record: &'static Record,
    /// The count at its end. Inside another section, which a signal handler has interrupted, it is the count of that one.
    after: usize,
    fence: Light,
    /// The record is that of this thread, so the section stays on it.
    _on_this_thread: PhantomData<*const ()>,
}

impl Section {
    #[inline(always)]
    pub(super) fn enter(record: &'static Record) -> Self {
        // Relaxed: only this thread stores to the count.
        let count = record.count.load(Ordering::Relaxed);
        let odd = count | 1;
        record.count.store(odd, Ordering::Relaxed);
        let fence = Light::new();
        // Pairs with the heavy barrier in `retire`.
        fence.run();
        // As many more as it is now: none inside another section.
        let after = odd.wrapping_add(odd - count);
        Section { record, after, fence, _on_this_thread: PhantomData }
    }
}

impl Drop for Section {
    // Else the section is kept in memory, for a panic in it.
    #[inline(always)]
    fn drop(&mut self) {
        self.record.end(self.after, self.fence);
    }
}

impl Record {
    fn new(index: usize, sections: &'static Sections) -> Self {
        Record {
            count: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            is_taken: AtomicBool::new(true),
            index,
            sections,
            next: AtomicPtr::new(null_mut()),
        }
    }

    /// How many records are before this one.
    #[inline]
    pub(super) fn index(&self) -> usize {
        self.index
    }

    pub(super) fn sections(&self) -> &'static Sections {
        self.sections
    }

    fn take(&self) -> bool {
        // Acquire pairs with the release in `release`.
        let taken =
            self.is_taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok()
    }

    #[inline(always)]
    fn end(&self, count: usize, fence: Light) {
        // Release pairs with the acquire in `Reader::is_inside`.
        self.count.store(count, Ordering::Release);
        // Pairs with the heavy barrier in `drop_unread`.
        fence.run();
        if self.is_awaited.load(Ordering::Relaxed) {
            self.answer();
        }
    }

    #[cold]
    fn answer(&self) {
        self.is_awaited.store(false, Ordering::Relaxed);
        self.sections.drop_unread();
    }

    /// Gives the record to a later thread. The calling thread is in no section.
    pub(crate) fn release(&self) {
        let count = self.count.load(Ordering::Relaxed);
        self.end(count.wrapping_add(2), Light::new());
        // Release pairs with the acquire in `take`.
        self.is_taken.store(false, Ordering::Release);
    }
}

impl Sections {
    #[cfg(not(loom))]
    pub(crate) const fn new(places: fn() -> usize) -> Self {
        Sections { first: AtomicPtr::new(null_mut()), retired: AtomicPtr::new(null_mut()), places }
    }

    #[cfg(loom)]
    pub(crate) fn new(places: fn() -> usize) -> Self {
        Sections { first: AtomicPtr::new(null_mut()), retired: AtomicPtr::new(null_mut()), places }
    }

    pub(super) fn places(&self) -> usize {
        (self.places)()
    }

    /// A record for the calling thread: the first one that no thread has.
    pub(crate) fn claim(&'static self) -> &'static Record {
        let (mut link, mut index) = (&self.first, 0);
        let record = loop {
            match record_at(link) {
                Some(record) if record.take() => break record,
                Some(record) => (link, index) = (&record.next, index + 1),
                None => {
                    if let Some(record) = append(link, index, self) {
                        break record;
                    }
                }
            }
        };
        // Pairs with the fence in `is_alone`, and with that in `barrier::heavy` where it reaches no other thread: a thread
        // that does not see this record as taken has removed its items before this thread reads anything.
        fence(Ordering::SeqCst);
        record
    }

    fn records(&self) -> impl Iterator<Item = &'static Record> {
        iter::successors(record_at(&self.first), |record| record_at(&record.next))
    }

    /// Whether no thread has a record besides the calling one, which has `own`.
    ///
    /// Then no other thread reads what the calling one has removed from its place: it needs a record for that.
    fn is_alone(&self, own: Option<&'static Record>) -> bool {
        // Pairs with the fence in `claim`: a thread whose record is not seen as taken here finds the items removed.
        fence(Ordering::SeqCst);
        self.records()
            .filter(|record| own.is_none_or(|own| !std::ptr::eq(own, *record)))
            // Acquire pairs with the release in `Record::release`: the last owner's accesses come before the drop.
            .all(|record| !record.is_taken.load(Ordering::Acquire))
    }

    /// Drops `items` as soon as no section can read them. They are in no place any more. `own` is the record of the
    /// calling thread.
    pub(super) fn retire(&self, own: Option<&'static Record>, items: Vec<Item>) {
        if items.is_empty() {
            return;
        }
        // Pairs with the light barrier in `Section::enter`. A process with one thread needs no system call for it.
        let reaches_all = self.is_alone(own) || barrier::heavy();
        let readers: Vec<Reader> = self
            .records()
            .map(|record| Reader { record, count: record.count.load(Ordering::Acquire) })
            // Without a barrier for all threads, any of them may be in a section: this waits for their next ones.
            .filter(|reader| match reaches_all {
                true => !reader.count.is_multiple_of(2),
                false => reader.record.is_taken.load(Ordering::Acquire),
            })
            .collect();
        let waits = !readers.is_empty();
        if waits {
            self.push(Retired { _items: items, readers, next: null_mut() });
        } else {
            drop(items);
        }
        // What waits already may have been left behind by a fork.
        // Relaxed: it concerns only whether to look.
        if waits || !self.retired.load(Ordering::Relaxed).is_null() {
            self.drop_unread();
        }
    }

    /// Drops what no section can read any more. For the rest, one of its readers does this when it leaves.
    fn drop_unread(&self) {
        loop {
            let mut awaited = Vec::new();
            for mut retired in self.take_retired() {
                retired.readers.retain(Reader::is_inside);
                let Some(reader) = retired.readers.first().copied() else { continue };
                // Relaxed: ordered by the heavy barrier below.
                reader.record.is_awaited.store(true, Ordering::Relaxed);
                awaited.push(reader);
                self.push(retired);
            }
            if awaited.is_empty() {
                return;
            }
            // Pairs with the light barrier in `Record::end`: a reader that is inside after this sees that it is awaited,
            // and finds the list.
            barrier::heavy();
            if awaited.iter().all(Reader::is_inside) {
                return;
            }
        }
    }

    fn push(&self, retired: Retired) {
        let retired = Box::into_raw(Box::new(retired));
        let mut next = self.retired.load(Ordering::Relaxed);
        loop {
            // SAFETY: the box is this function's until the exchange below succeeds.
            unsafe { (*retired).next = next };
            // Release pairs with the acquire in `take_retired`.
            match self.retired.compare_exchange(next, retired, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(found) => next = found,
            }
        }
    }

    fn take_retired(&self) -> Vec<Retired> {
        // Acquire pairs with the release in `push`. AcqRel: the next `push` goes on with this value.
        let mut next = self.retired.swap(null_mut(), Ordering::AcqRel);
        let mut list = Vec::new();
        while !next.is_null() {
            // SAFETY: `push` made the pointer of a box, and the swap above gave the whole list to this thread alone.
            let retired = unsafe { *Box::from_raw(next) };
            next = retired.next;
            list.push(retired);
        }
        list
    }

    /// Whether nothing waits for a reader.
    #[cfg(all(test, not(loom)))]
    pub(super) fn is_done(&self) -> bool {
        self.retired.load(Ordering::Acquire).is_null()
    }

    /// In a forked child: the other threads are not there, and read nothing any more. `own` is the record of the thread
    /// that forked.
    #[cfg(not(loom))]
    pub(crate) fn forget_others(&self, own: Option<&'static Record>) {
        for record in
            self.records().filter(|record| own.is_none_or(|own| !std::ptr::eq(own, *record)))
        {
            // Relaxed: the child has one thread. The count is even, and another one than before. If the record says
            // that it is awaited, its next thread looks once more than it has to.
            let count = record.count.load(Ordering::Relaxed) | 1;
            record.count.store(count.wrapping_add(1), Ordering::Relaxed);
            record.is_taken.store(false, Ordering::Relaxed);
        }
    }
}

fn record_at(link: &AtomicPtr<CachePadded<Record>>) -> Option<&'static Record> {
    // Acquire pairs with the release in `append`.
    let record = link.load(Ordering::Acquire);
    // SAFETY: the pointer is null, or one of `append`: of a record that is never freed.
    unsafe { record.as_ref() }.map(|record| &**record)
}

/// Adds a record at the end of the list. `None` when another thread was faster.
fn append(
    link: &AtomicPtr<CachePadded<Record>>,
    index: usize,
    sections: &'static Sections,
) -> Option<&'static Record> {
    let record = Box::into_raw(Box::new(CachePadded::new(Record::new(index, sections))));
    // Release pairs with the acquire in `record_at`.
    let appended =
        link.compare_exchange(null_mut(), record, Ordering::Release, Ordering::Relaxed).is_ok();
    if !appended {
        // SAFETY: the pointer is that of the box above, which nobody else has.
        drop(unsafe { Box::from_raw(record) });
        return None;
    }
    // SAFETY: the record is in the list now, and never freed.
    Some(unsafe { &**record })
}
