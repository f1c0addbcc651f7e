//! Copies of one thing for the threads of a process, so that no two of them write to the same cache line when they read.
//!
//! There are places for copies: several for each CPU, whatever the number of threads. A thread uses the place of its
//! record ([`sections`]). It borrows the copy there without counting. Any thread can take all copies away: the owner of a
//! copy may sleep for hours, or may have ended.

mod sections;
#[cfg(not(loom))]
mod thread;

#[cfg(all(test, loom))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

use std::{
    marker::PhantomData,
    ops::Deref,
    ptr::{NonNull, null_mut},
    sync::Arc,
};

use sections::{Item, Section};
pub(crate) use sections::{Record, Sections};
#[cfg(not(loom))]
pub(crate) use thread::{after_fork_in_child, claimed, known};

use crate::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Copies of the newest version of something.
///
/// One place is here, for the thread with the first record. The others are allocated when another thread needs one: a
/// process may have thousands of these, and a single thread that reads them.
#[derive(Debug)]
pub(crate) struct Copies<T> {
    /// As each of `others`.
    first: AtomicPtr<T>,
    others: AtomicPtr<Places<T>>,
    /// The newest version of which there was a copy.
    seen: AtomicU64,
}

/// Each is null or the pointer of an `Arc`. Their number is a power of two. They change only with the version.
type Places<T> = Box<[AtomicPtr<T>]>;

/// A thread's copy, borrowed.
pub(crate) struct Lent<'a, T> {
    /// No reference: the copy may be dropped as soon as the section ends, while a function that was given this, and drops
    /// it, still runs. A reference must be valid until that function returns.
    copy: NonNull<T>,
    /// Ends after the last use of the copy.
    _section: Section,
    _copies: PhantomData<&'a T>,
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the copy is not dropped before the section ends, and the section outlives this borrow.
        unsafe { self.copy.as_ref() }
    }
}

impl<T> Copies<T> {
    /// Without any copy yet.
    pub(crate) fn new() -> Self {
        let (first, others) = (AtomicPtr::new(null_mut()), AtomicPtr::new(null_mut()));
        Copies { first, others, seen: AtomicU64::new(0) }
    }

    /// The other places, if there are any.
    #[inline(always)]
    fn others(&self) -> Option<&Places<T>> {
        // Acquire pairs with the release in `place_for`.
        let others = self.others.load(Ordering::Acquire);
        // SAFETY: null, or the pointer of a box of `place_for`, which stays until `self` is dropped.
        unsafe { others.as_ref() }
    }

    /// The place of the thread with that record, if it is there already. A read has no way to panic.
    #[inline(always)]
    fn place(&self, record: &Record) -> Option<&AtomicPtr<T>> {
        match record.index() {
            0 => Some(&self.first),
            index => {
                let others = self.others()?;
                others.get((index - 1) & others.len().wrapping_sub(1))
            }
        }
    }

    /// The place of the thread with that record.
    fn place_for(&self, record: &Record) -> &AtomicPtr<T> {
        if let Some(place) = self.place(record) {
            return place;
        }
        let count = record.sections().places().next_power_of_two();
        let places: Places<T> = (0..count).map(|_| AtomicPtr::new(null_mut())).collect();
        let places = Box::into_raw(Box::new(places));
        // Release pairs with the acquire in `others`. Acquire pairs with the release in `take_all`, which found no places:
        // what that thread has seen before, this one sees after.
        let added =
            self.others.compare_exchange(null_mut(), places, Ordering::AcqRel, Ordering::Acquire);
        if added.is_err() {
            // SAFETY: the pointer is that of the box above, which nobody else has.
            drop(unsafe { Box::from_raw(places) });
        }
        match self.place(record) {
            Some(place) => place,
            None => unreachable!("the places were added above, by this thread or by another one"),
        }
    }
}

impl<T: Send + Sync + 'static> Copies<T> {
    /// The copy of the thread with that record, which is the calling one.
    #[inline(always)]
    pub(crate) fn lend(&self, record: &'static Record) -> Option<Lent<'_, T>> {
        let section = Section::enter(record);
        // Acquire pairs with the release in `swap`.
        let copy = self.place(record)?.load(Ordering::Acquire);
        // Null, or the pointer of an `Arc`. Who takes it from its place, drops the `Arc` after the section.
        let copy = NonNull::new(copy)?;
        Some(Lent { copy, _section: section, _copies: PhantomData })
    }

    /// The same, to keep.
    pub(crate) fn get(&self, record: &'static Record) -> Option<Arc<T>> {
        let lent = self.lend(record)?;
        let pointer: *const T = lent.copy.as_ptr();
        // SAFETY: the pointer is that of an `Arc`, which is not dropped while `lent` lives.
        unsafe { Arc::increment_strong_count(pointer) };
        // SAFETY: this takes over the reference that was added above.
        Some(unsafe { Arc::from_raw(pointer) })
    }

    /// Keeps `copy`, which is one of `version`, for the thread with that record. The first copy of a version ends all
    /// copies of earlier ones. `is_newest` looks whether `version` is still the newest one.
    pub(crate) fn renew(
        &self,
        record: &'static Record,
        version: u64,
        copy: Arc<T>,
        is_newest: impl FnOnce() -> bool,
    ) {
        // Relaxed: it only chooses one thread. The swaps below order the rest.
        let is_first = self.seen.fetch_max(version, Ordering::Relaxed) < version;
        let own = self.place_for(record);
        let mut old = Vec::new();
        old.extend(taken(own, Some(copy)));
        if is_first {
            self.take_all(Some(own), &mut old);
        }
        // Another thread may have seen a newer version and taken all copies away before the swap of `own`. That swap
        // has read the other thread's, or `place_for` has. So this look sees the newer version, too.
        if !is_newest() {
            old.extend(taken(own, None));
        }
        record.sections().retire(Some(record), old);
    }

    /// Takes all copies away. `own` is the record of the calling thread.
    pub(crate) fn clear_in(&self, sections: &'static Sections, own: Option<&'static Record>) {
        let mut old = Vec::new();
        self.take_all(None, &mut old);
        sections.retire(own, old);
    }

    /// Adds all copies to `old`, besides that in the place `but`.
    fn take_all(&self, but: Option<&AtomicPtr<T>>, old: &mut Vec<Item>) {
        // A thread may be adding the other places. Release pairs with the acquire in `place_for`, when that comes later;
        // acquire, as in `others`, when it came before.
        let none = self.others.compare_exchange(
            null_mut(),
            null_mut(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        let others = none.is_err().then(|| self.others()).flatten().into_iter().flatten();
        let places = others.chain([&self.first]);
        let places = places.filter(|place| !but.is_some_and(|but| std::ptr::eq(*place, but)));
        old.extend(places.filter_map(|place| taken(place, None)));
    }

    /// The newest version of which there was a copy; 0 before the first.
    pub(crate) fn seen(&self) -> u64 {
        // Relaxed: the number orders nothing.
        self.seen.load(Ordering::Relaxed)
    }
}

/// Replaces the copy in a place.
fn swap<T>(place: &AtomicPtr<T>, copy: Option<Arc<T>>) -> Option<Arc<T>> {
    let copy = copy.map_or(null_mut(), |copy| Arc::into_raw(copy).cast_mut());
    // Release pairs with the acquire in `lend`, and with that of the next swap of the place: what this thread has seen
    // before, that one's thread sees after.
    let old = place.swap(copy, Ordering::AcqRel);
    // SAFETY: null, or the pointer of an `Arc` that was in the place, and is now of this thread alone.
    (!old.is_null()).then(|| unsafe { Arc::from_raw(old) })
}

/// The same, for a copy that others may read.
fn taken<T: Send + Sync + 'static>(place: &AtomicPtr<T>, copy: Option<Arc<T>>) -> Option<Item> {
    swap(place, copy).map(|old| old as Item)
}

impl<T> Drop for Copies<T> {
    fn drop(&mut self) {
        // Nobody borrows a copy: that would borrow `self`.
        drop(swap(&self.first, None));
        let others = self.others.swap(null_mut(), Ordering::Acquire);
        if others.is_null() {
            return;
        }
        // SAFETY: the pointer of a box of `place_for`. Nobody borrows the places: that would borrow `self`.
        let others = unsafe { Box::from_raw(others) };
        others.iter().for_each(|place| drop(swap(place, None)));
    }
}
