//! A shared mapping, seen as atomic words: the only view of shared memory that the crate has.

use std::{
    ffi::c_void,
    io,
    num::NonZeroUsize,
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use nix::sys::mman::{self, MapFlags, MmapAdvise, ProtFlags};

/// Whether a mapping may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Loads only; any store is a SIGSEGV.
    Read,
    /// Loads and stores.
    Write,
}

/// A `MAP_SHARED` mapping, unmapped when dropped. Forked children inherit it.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<c_void>,
    bytes: usize,
    access: Access,
}

// SAFETY: the mapping is memory of the whole process, reached through atomics only.
unsafe impl Send for Mapping {}
// SAFETY: as above; every access goes through `&AtomicU64` or `&AtomicU32`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` of `fd`, kept out of core dumps and, where the limit allows it, in RAM.
    pub(crate) fn new(fd: BorrowedFd<'_>, bytes: usize, access: Access) -> io::Result<Self> {
        let prot = match access {
            Access::Read => ProtFlags::PROT_READ,
            Access::Write => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
        };
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh mapping at an address that the kernel chooses aliases nothing of ours.
        let base = unsafe { mman::mmap(None, length, prot, MapFlags::MAP_SHARED, fd, 0)? };
        let mapping = Mapping { base, bytes, access };
        // SAFETY: the range is the mapping just made. Advice changes no contents.
        unsafe { mman::madvise(base, bytes, MmapAdvise::MADV_DONTDUMP)? };
        Ok(mapping)
    }

    /// The same memory mapped once more, with the same access: no seal stands against that.
    pub(crate) fn again(&self) -> io::Result<Self> {
        // SAFETY: an old size of 0 makes a second mapping of shared pages, at an address that the
        // kernel chooses, and leaves the first alone.
        let base = unsafe {
            mman::mremap(self.base, 0, self.bytes, mman::MRemapFlags::MREMAP_MAYMOVE, None)?
        };
        Ok(Mapping { base, bytes: self.bytes, access: self.access })
    }

    /// A zeroed page of its own that forked children share: for the injected clock of tests.
    #[cfg(feature = "testing")]
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh mapping at an address that the kernel chooses aliases nothing of ours.
        let base = unsafe { mman::mmap_anonymous(None, length, prot, MapFlags::MAP_SHARED)? };
        Ok(Mapping { base, bytes, access: Access::Write })
    }

    /// Says whether children that are forked from now on have the mapping.
    pub(crate) fn inherit(&self, inherit: bool) {
        let advice = if inherit { MmapAdvise::MADV_DOFORK } else { MmapAdvise::MADV_DONTFORK };
        // SAFETY: the range is ours and mapped. This process keeps its contents either way; a child without the
        // mapping has no reference into it, since it leaves what it has inherited alone.
        let _ = unsafe { mman::madvise(self.base, self.bytes, advice) };
    }

    /// Locks the pages in RAM, so that they never reach swap. False where the limit forbids it.
    /// Not inherited by fork: each process asks for itself.
    pub(crate) fn lock_in_ram(&self) -> bool {
        // SAFETY: the range is ours and mapped. Locking changes no contents.
        unsafe { mman::mlock(self.base, self.bytes).is_ok() }
    }

    /// `count` words from byte `offset`.
    ///
    /// # Panics
    /// When the range is not aligned or leaves the mapping: offsets are constants of the layout.
    #[inline]
    pub(crate) fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        let end = offset.checked_add(count * 8);
        assert!(offset.is_multiple_of(8) && end.is_some_and(|end| end <= self.bytes));
        // SAFETY: in bounds and 8-aligned (asserted; the base is page-aligned), mapped as long as
        // `self`, initialised by the kernel. Every party uses atomics, so there is no data race. On
        // a read-only mapping callers use relaxed loads only, which Rust permits there.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().byte_add(offset).cast(), count) }
    }

    /// The word at byte `offset`.
    #[inline]
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words(offset, 1)[0]
    }

    /// The 32-bit futex word at byte `offset`.
    pub(crate) fn futex_word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.bytes);
        // SAFETY: as in `words`; nothing accesses this word in another width.
        unsafe { &*self.base.as_ptr().byte_add(offset).cast::<AtomicU32>() }
    }

    /// Whether stores are allowed.
    pub(crate) fn access(&self) -> Access {
        self.access
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by us, and no reference into it outlives `self`.
        let _ = unsafe { mman::munmap(self.base, self.bytes) };
    }
}
