//! A number that distinguishes this process from the process that it was forked from.
//!
//! A pid is no identity: the kernel reuses pids, and a new pid namespace starts at 1 again. The token is on a page
//! that the kernel wipes in each forked child (`MADV_WIPEONFORK`), even after a raw `clone`. A child that finds 0
//! there draws a new token.

use std::{
    num::NonZeroUsize,
    ptr::null_mut,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use super::random;

/// Distinguishes processes that share a copy of memory. Never 0; the highest bit is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessToken(u64);

impl ProcessToken {
    /// The token of this process.
    pub(crate) fn current() -> Self {
        ProcessToken(page().map_or_else(by_generation, drawn))
    }

    /// The token as a word; see [`ProcessToken`].
    pub(crate) fn word(self) -> u64 {
        self.0
    }
}

/// The page that the kernel wipes in forked children; null when the kernel cannot do that.
static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());

/// The number of forks between the first process and this one.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Makes the page. Runs when the program, or the library that contains this code, is loaded.
pub(super) fn prepare() {
    const BYTES: NonZeroUsize = NonZeroUsize::new(size_of::<AtomicU64>()).unwrap();
    let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the kernel chooses a free address, so the new mapping overlaps no other memory.
    let Ok(page) = (unsafe { mmap_anonymous(None, BYTES, prot, MapFlags::MAP_PRIVATE) }) else {
        return;
    };
    // SAFETY: the range is the mapping made above, and nothing else uses it yet.
    if unsafe { madvise(page, BYTES.get(), MmapAdvise::MADV_WIPEONFORK) }.is_ok() {
        PAGE.store(page.as_ptr().cast(), Ordering::Release);
    } else {
        // SAFETY: the range is the mapping made above, and nothing refers to it.
        let _ = unsafe { munmap(page, BYTES.get()) };
    }
}

/// Counts a fork. The fork handlers call it in each child.
pub(super) fn count_fork() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

fn page() -> Option<&'static AtomicU64> {
    // Acquire pairs with the release in `prepare`.
    let page = PAGE.load(Ordering::Acquire);
    // SAFETY: the pointer is null, or points to a page-aligned mapping that is never unmapped. All accesses are
    // atomic.
    unsafe { page.as_ref() }
}

/// The token on the page. The first thread that calls this draws it.
fn drawn(word: &AtomicU64) -> u64 {
    // Relaxed: the token orders no other memory.
    match word.load(Ordering::Relaxed) {
        0 => {
            let drawn = draw();
            match word.compare_exchange(0, drawn, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => drawn,
                Err(other) => other,
            }
        }
        token => token,
    }
}

fn draw() -> u64 {
    let random = random::bytes().map(u64::from_ne_bytes);
    random.map_or_else(|_| by_generation(), |random| random >> 1 | 1)
}

/// The token for kernels before 4.14: no process has the same as one of its ancestors.
fn by_generation() -> u64 {
    let generation = u64::from(GENERATION.load(Ordering::Relaxed) & (u32::MAX >> 1));
    generation << 32 | u64::from(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_keeps_its_token() {
        let token = ProcessToken::current();
        assert_eq!(token, ProcessToken::current());
        let elsewhere = std::thread::spawn(ProcessToken::current).join().unwrap();
        assert_eq!(token, elsewhere);
        assert!(token.word() != 0 && token.word() >> 63 == 0);
        assert!(page().is_some(), "this kernel wipes pages on fork");
    }

    #[test]
    fn the_fallback_is_a_token_too() {
        let token = by_generation();
        assert!(token != 0 && token >> 63 == 0);
    }
}
