//! Memory that core dumps leave out.

use std::{ffi::c_void, ptr::NonNull};

use nix::sys::mman::{MmapAdvise, madvise};

/// A copy of `text` on pages that core dumps leave out (`MADV_DONTDUMP`).
///
/// The pages stay excluded: other allocations on them, now and later, are missing in a core dump, too. When
/// the kernel refuses the advice, the result is an ordinary copy.
pub(crate) fn undumped(text: &str) -> String {
    let mut copy = String::with_capacity(text.len());
    let page = rustix::param::page_size();
    let (start, end) = (copy.as_ptr().addr(), copy.as_ptr().addr() + copy.capacity());
    let start = start - start % page;
    if let Some(start) = NonNull::new(start as *mut c_void) {
        let bytes = end.next_multiple_of(page) - start.addr().get();
        // SAFETY: the pages that an allocation touches are mapped as a whole, and this advice changes no contents.
        let _ = unsafe { madvise(start, bytes, MmapAdvise::MADV_DONTDUMP) };
    }
    copy.push_str(text);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_a_copy() {
        for length in [0, 1, 40, 4096, 8192] {
            let text = "x".repeat(length);
            assert_eq!(undumped(&text), text);
        }
    }
}
