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
#[derive(Debug)]
pub(crate) struct Copies<T> {
    sections: &'static Sections,
    /// Each is null or the pointer of an `Arc`. Their number is a power of two. They change only with the version.
    places: Box<[AtomicPtr<T>]>,
    /// The newest version of which there was a copy.
    seen: AtomicU64,
}

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

impl<T: Send + Sync + 'static> Copies<T> {
    pub(crate) fn with_places(sections: &'static Sections, places: usize) -> Self {
        let places = (0..places.next_power_of_two()).map(|_| AtomicPtr::new(null_mut())).collect();
        Copies { sections, places, seen: AtomicU64::new(0) }
    }

    /// Always one, as their number is a power of two. An `Option`, so that a read has no way to panic.
    #[inline(always)]
    fn place(&self, record: &Record) -> Option<&AtomicPtr<T>> {
        self.places.get(record.index() & (self.places.len() - 1))
    }

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
        let Some(own) = self.place(record) else { return };
        let mut old = Vec::new();
        old.extend(swap(own, Some(copy)));
        if is_first {
            let others = self.places.iter().filter(|place| !std::ptr::eq(*place, own));
            old.extend(others.filter_map(|place| swap(place, None)));
        }
        // Another thread may have seen a newer version and taken all copies away before the swap of `own`. That swap
        // has read the other thread's, so this look sees the newer version, too.
        if !is_newest() {
            old.extend(swap(own, None));
        }
        self.retire(old);
    }

    /// Takes all copies away.
    pub(crate) fn clear(&self) {
        self.retire(self.places.iter().filter_map(|place| swap(place, None)).collect());
    }

    /// The newest version of which there was a copy; 0 before the first.
    pub(crate) fn seen(&self) -> u64 {
        // Relaxed: the number orders nothing.
        self.seen.load(Ordering::Relaxed)
    }

    fn retire(&self, old: Vec<Arc<T>>) {
        self.sections.retire(old.into_iter().map(|copy| copy as Item).collect());
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

impl<T> Drop for Copies<T> {
    fn drop(&mut self) {
        // Nobody borrows a copy: that would borrow `self`.
        self.places.iter().for_each(|place| drop(swap(place, None)));
    }
}
