//! Shared mappings. One that was made for reading gives views that can only load; one that may be written
//! gives atomics.

use std::{
    ffi::c_void,
    io,
    num::NonZeroUsize,
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64},
    },
};

use nix::sys::mman::{self, MapFlags, MmapAdvise, ProtFlags};

use super::futex::{Futex, ReadFutex};
use crate::shared_words::{ReadWord, ReadWords};

const READ: ProtFlags = ProtFlags::PROT_READ;
const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// A `MAP_SHARED` mapping, unmapped when dropped. Forked children inherit it.
#[derive(Debug)]
struct Region {
    base: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: the mapping is memory of the whole process, reached through atomics only.
unsafe impl Send for Region {}
// SAFETY: as above; every access goes through `&AtomicU64` or `&AtomicU32`.
unsafe impl Sync for Region {}

impl Region {
    /// Maps the first `bytes` of `fd`, kept out of core dumps.
    fn new(fd: BorrowedFd<'_>, bytes: usize, prot: ProtFlags) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh mapping at an address that the kernel chooses aliases nothing of ours.
        let base = unsafe { mman::mmap(None, length, prot, MapFlags::MAP_SHARED, fd, 0) }?;
        let region = Region { base, bytes };
        region.advise(MmapAdvise::MADV_DONTDUMP)?;
        Ok(region)
    }

    /// The same memory mapped once more, with the same access: no seal stands against that.
    fn again(&self) -> io::Result<Self> {
        let flags = mman::MRemapFlags::MREMAP_MAYMOVE;
        // SAFETY: an old size of 0 makes a second mapping of shared pages, at an address that the
        // kernel chooses, and leaves the first alone.
        let base = unsafe { mman::mremap(self.base, 0, self.bytes, flags, None) }?;
        Ok(Region { base, bytes: self.bytes })
    }

    /// Gives advice that changes no contents.
    fn advise(&self, advice: MmapAdvise) -> io::Result<()> {
        // SAFETY: the range is ours and mapped. None of the advice that this file gives changes contents.
        Ok(unsafe { mman::madvise(self.base, self.bytes, advice) }?)
    }

    /// `count` words from byte `offset`.
    ///
    /// # Panics
    /// When the range is not aligned or leaves the mapping: offsets are constants of the layout.
    #[inline]
    fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        let end = offset.checked_add(count * 8);
        assert!(offset.is_multiple_of(8) && end.is_some_and(|end| end <= self.bytes));
        // SAFETY: in bounds, as asserted.
        let start = unsafe { self.base.byte_add(offset) };
        // SAFETY: in bounds and 8-aligned (asserted; the base is page-aligned), mapped as long as `self`,
        // initialised by the kernel. Every party uses atomics, so there is no data race. Of a read-only mapping
        // `ReadMapping` gives out views that only load, relaxed, which Rust permits there.
        unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), count) }
    }

    /// The 32-bit futex word at byte `offset`.
    fn futex(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.bytes);
        // SAFETY: in bounds, as asserted.
        let word = unsafe { self.base.byte_add(offset) };
        // SAFETY: as in `words`; nothing accesses this word in another width.
        unsafe { word.cast::<AtomicU32>().as_ref() }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by us, and no reference into it outlives `self`.
        let _ = unsafe { mman::munmap(self.base, self.bytes) };
    }
}

/// A mapping for reading. No method of it, and of what it gives, stores.
#[derive(Debug)]
pub(crate) struct ReadMapping(Region);

impl ReadMapping {
    /// Maps the first `bytes` of `fd`.
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        Region::new(fd, bytes, READ).map(ReadMapping)
    }

    /// The same memory mapped once more.
    pub(crate) fn again(&self) -> io::Result<Self> {
        self.0.again().map(ReadMapping)
    }

    /// Locks the pages in RAM, so that they never reach swap. False where the limit forbids it.
    /// Not inherited by fork: each process asks for itself.
    pub(crate) fn lock_in_ram(&self) -> bool {
        // SAFETY: the range is ours and mapped. Locking changes no contents.
        unsafe { mman::mlock(self.0.base, self.0.bytes).is_ok() }
    }

    /// `count` words from byte `offset`.
    ///
    /// # Panics
    /// As all of these: when the range is not aligned or leaves the mapping.
    pub(crate) fn words(&self, offset: usize, count: usize) -> ReadWords<'_> {
        ReadWords::new(self.0.words(offset, count))
    }

    /// The futex word at byte `offset`.
    pub(crate) fn futex(&self, offset: usize) -> ReadFutex<'_> {
        ReadFutex::new(self.0.futex(offset))
    }
}

/// A word of a mapping that is kept together with it: to load it takes one step.
#[derive(Debug)]
pub(crate) struct KeptWord {
    word: NonNull<AtomicU64>,
    _mapping: Arc<ReadMapping>,
}

// SAFETY: it is a `&AtomicU64` into a mapping that it keeps.
unsafe impl Send for KeptWord {}
// SAFETY: as above.
unsafe impl Sync for KeptWord {}

impl KeptWord {
    /// The word at byte `offset`.
    pub(crate) fn new(mapping: &Arc<ReadMapping>, offset: usize) -> Self {
        let word = NonNull::from(&mapping.0.words(offset, 1)[0]);
        KeptWord { word, _mapping: Arc::clone(mapping) }
    }

    #[inline]
    pub(crate) fn get(&self) -> ReadWord<'_> {
        // SAFETY: the word is in the mapping, which is kept, and is accessed by atomics only.
        ReadWord::new(unsafe { self.word.as_ref() })
    }
}

/// A mapping for reading and writing.
#[derive(Debug)]
pub(crate) struct WriteMapping(Region);

impl WriteMapping {
    /// Maps the first `bytes` of `fd`.
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        Region::new(fd, bytes, READ_WRITE).map(WriteMapping)
    }

    /// The same memory mapped once more: no seal stands against that.
    pub(crate) fn again(&self) -> io::Result<Self> {
        self.0.again().map(WriteMapping)
    }

    /// A zeroed page of its own that forked children share: for the injected clock of tests.
    #[cfg(feature = "testing")]
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh mapping at an address that the kernel chooses aliases nothing of ours.
        let base = unsafe { mman::mmap_anonymous(None, length, READ_WRITE, MapFlags::MAP_SHARED) }?;
        Ok(WriteMapping(Region { base, bytes }))
    }

    /// Says whether children that are forked from now on have the mapping.
    pub(crate) fn inherit(&self, inherit: bool) {
        let advice = if inherit { MmapAdvise::MADV_DOFORK } else { MmapAdvise::MADV_DONTFORK };
        // Where the kernel refuses, the child has it. A child without it has no reference into it, since it
        // leaves what it has inherited alone.
        let _ = self.0.advise(advice);
    }

    /// `count` words from byte `offset`.
    ///
    /// # Panics
    /// As all of these: when the range is not aligned or leaves the mapping.
    pub(crate) fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        self.0.words(offset, count)
    }

    /// The word at byte `offset`.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        &self.0.words(offset, 1)[0]
    }

    /// The futex word at byte `offset`.
    pub(crate) fn futex(&self, offset: usize) -> Futex<'_> {
        Futex::new(self.0.futex(offset))
    }
}
