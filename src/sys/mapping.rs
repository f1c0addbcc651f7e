//! Shared mappings. A read-only mapping gives views that can only load. A writable mapping gives atomics.

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

// SAFETY: the mapping is memory of the whole process, and every access goes through atomics.
unsafe impl Send for Region {}
// SAFETY: as above; every access goes through `&AtomicU64` or `&AtomicU32`.
unsafe impl Sync for Region {}

impl Region {
    /// Maps the first `bytes` of `fd`. Core dumps leave them out.
    fn new(fd: BorrowedFd<'_>, bytes: usize, prot: ProtFlags) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel chooses a free address, so the new mapping overlaps no other memory.
        let base = unsafe { mman::mmap(None, length, prot, MapFlags::MAP_SHARED, fd, 0) }?;
        let region = Region { base, bytes };
        region.advise(MmapAdvise::MADV_DONTDUMP)?;
        Ok(region)
    }

    /// Maps the same memory again, with the same access. A seal does not prevent that.
    fn again(&self) -> io::Result<Self> {
        let flags = mman::MRemapFlags::MREMAP_MAYMOVE;
        // SAFETY: with an old size of 0, `mremap` makes a second mapping of the shared pages and keeps the first.
        // The kernel chooses a free address for it.
        let base = unsafe { mman::mremap(self.base, 0, self.bytes, flags, None) }?;
        Ok(Region { base, bytes: self.bytes })
    }

    /// Gives the kernel advice that changes no contents.
    fn advise(&self, advice: MmapAdvise) -> io::Result<()> {
        // SAFETY: `self` owns the range, and it is mapped. No advice that this file gives changes contents.
        Ok(unsafe { mman::madvise(self.base, self.bytes, advice) }?)
    }

    /// `count` words from byte `offset`.
    ///
    /// # Panics
    /// When the range is not aligned or not inside the mapping. Offsets are constants of the layout.
    #[inline]
    fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        let end = offset.checked_add(count * 8);
        assert!(offset.is_multiple_of(8) && end.is_some_and(|end| end <= self.bytes));
        // SAFETY: the assertion keeps the pointer inside the mapping.
        let start = unsafe { self.base.byte_add(offset) };
        // SAFETY: the range is inside the mapping and 8-aligned (asserted; the base is page-aligned). It is mapped
        // as long as `self` lives, and the kernel initialised it. Every process uses atomics, so there is no data
        // race. For a read-only mapping, `ReadMapping` returns only views with relaxed loads, which Rust permits
        // on read-only memory.
        unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), count) }
    }

    /// The 32-bit futex word at byte `offset`.
    fn futex(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.bytes);
        // SAFETY: the assertion keeps the pointer inside the mapping.
        let word = unsafe { self.base.byte_add(offset) };
        // SAFETY: as in `words`, with 4-byte alignment. Nothing accesses this word with another width.
        unsafe { word.cast::<AtomicU32>().as_ref() }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `self` owns the range, and no reference into it outlives `self`.
        let _ = unsafe { mman::munmap(self.base, self.bytes) };
    }
}

/// A read-only mapping. Neither its methods nor its views can store.
#[derive(Debug)]
pub(crate) struct ReadMapping(Region);

impl ReadMapping {
    /// Maps the first `bytes` of `fd`.
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        Region::new(fd, bytes, READ).map(ReadMapping)
    }

    /// Maps the same memory again.
    pub(crate) fn again(&self) -> io::Result<Self> {
        self.0.again().map(ReadMapping)
    }

    /// Locks the pages in RAM, so that they never reach swap. False when `RLIMIT_MEMLOCK` forbids it.
    /// A forked child does not inherit the lock: each process must call this itself.
    pub(crate) fn lock_in_ram(&self) -> bool {
        // SAFETY: `self` owns the range, and it is mapped. `mlock` changes no contents.
        unsafe { mman::mlock(self.0.base, self.0.bytes).is_ok() }
    }

    /// `count` words from byte `offset`.
    ///
    /// # Panics
    /// When the range is not aligned or not inside the mapping. So do all accessors.
    pub(crate) fn words(&self, offset: usize, count: usize) -> ReadWords<'_> {
        ReadWords::new(self.0.words(offset, count))
    }

    /// The futex word at byte `offset`.
    pub(crate) fn futex(&self, offset: usize) -> ReadFutex<'_> {
        ReadFutex::new(self.0.futex(offset))
    }
}

/// A word of a mapping, together with the mapping. A load needs one pointer only.
#[derive(Clone, Debug)]
pub(crate) struct KeptWord {
    word: NonNull<AtomicU64>,
    mapping: Arc<ReadMapping>,
}

// SAFETY: it acts as a `&AtomicU64` into a mapping that it keeps alive.
unsafe impl Send for KeptWord {}
// SAFETY: as above.
unsafe impl Sync for KeptWord {}

impl KeptWord {
    /// The word at byte `offset`.
    pub(crate) fn new(mapping: &Arc<ReadMapping>, offset: usize) -> Self {
        let word = NonNull::from(&mapping.0.words(offset, 1)[0]);
        KeptWord { word, mapping: Arc::clone(mapping) }
    }

    #[inline]
    pub(crate) fn get(&self) -> ReadWord<'_> {
        // SAFETY: the word is inside the mapping, which `self` keeps alive. All accesses are atomic.
        ReadWord::new(unsafe { self.word.as_ref() })
    }

    /// The offset of the word in the mapping.
    pub(crate) fn offset(&self) -> usize {
        self.word.addr().get() - self.mapping.0.base.addr().get()
    }
}

/// A writable mapping.
#[derive(Debug)]
pub(crate) struct WriteMapping(Region);

impl WriteMapping {
    /// Maps the first `bytes` of `fd`.
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        Region::new(fd, bytes, READ_WRITE).map(WriteMapping)
    }

    /// Maps the same memory again. A seal does not prevent that.
    pub(crate) fn again(&self) -> io::Result<Self> {
        self.0.again().map(WriteMapping)
    }

    /// New zeroed memory that forked children share, for the clock of tests.
    #[cfg(feature = "testing")]
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel chooses a free address, so the new mapping overlaps no other memory.
        let base = unsafe { mman::mmap_anonymous(None, length, READ_WRITE, MapFlags::MAP_SHARED) }?;
        Ok(WriteMapping(Region { base, bytes }))
    }

    /// Maps the same file again through `fd`, in place of the mapping that is there. So the mapping no longer keeps the
    /// old open file alive. `fd` must be an open file of the same inode.
    pub(crate) fn move_to(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let length = NonZeroUsize::new(self.0.bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let (place, flags) = (Some(self.0.base.addr()), MapFlags::MAP_SHARED | MapFlags::MAP_FIXED);
        // SAFETY: `self` owns the range, so no other memory is replaced. References into it stay valid: the kernel
        // exchanges the mapping while it holds the lock of the address space, so another thread finds the old pages or
        // the new ones, and both are those of the same file.
        unsafe { mman::mmap(place, length, READ_WRITE, flags, fd, 0) }?;
        self.0.advise(MmapAdvise::MADV_DONTDUMP)
    }

    /// Sets whether children that are forked from now on inherit the mapping.
    pub(crate) fn inherit(&self, inherit: bool) {
        let advice = if inherit { MmapAdvise::MADV_DOFORK } else { MmapAdvise::MADV_DONTFORK };
        // If the kernel refuses, the child inherits the mapping. A child without it never uses it: it does not
        // touch the values that it inherited.
        let _ = self.0.advise(advice);
    }

    /// `count` words from byte `offset`.
    ///
    /// # Panics
    /// When the range is not aligned or not inside the mapping. So do all accessors.
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
