//! Memory that core dumps leave out.

use std::{ffi::c_void, ops::Range, ptr::NonNull};

use nix::sys::mman::{MmapAdvise, madvise};

/// Copies of `texts` on pages that core dumps leave out (`MADV_DONTDUMP`).
///
/// The pages stay excluded: other allocations on them, now and later, are missing in a core dump, too. When
/// the kernel refuses the advice, the results are ordinary copies.
pub(crate) fn undumped<const N: usize>(texts: [&str; N]) -> [String; N] {
    let mut copies = texts.map(|text| String::with_capacity(text.len()));
    let mut advised = 0..0;
    // The allocator mostly gives the copies memory that is side by side: then one call is enough for all.
    for pages in copies.each_ref().map(pages) {
        if pages.start <= advised.end && advised.start <= pages.end {
            advised = advised.start.min(pages.start)..advised.end.max(pages.end);
        } else {
            exclude(&advised);
            advised = pages;
        }
    }
    exclude(&advised);
    for (copy, text) in copies.iter_mut().zip(texts) {
        copy.push_str(text);
    }
    copies
}

/// The addresses of the pages that an allocation touches.
fn pages(copy: &String) -> Range<usize> {
    let page = rustix::param::page_size();
    let start = copy.as_ptr().addr();
    start - start % page..(start + copy.capacity()).next_multiple_of(page)
}

fn exclude(pages: &Range<usize>) {
    let Some(start) = NonNull::new(pages.start as *mut c_void) else { return };
    // SAFETY: the pages that an allocation touches are mapped as a whole, and this advice changes no contents.
    let _ = unsafe { madvise(start, pages.len(), MmapAdvise::MADV_DONTDUMP) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_a_copy() {
        for length in [0, 1, 40, 4096, 8192] {
            let text = "x".repeat(length);
            assert_eq!(undumped([&*text])[0], text);
            assert_eq!(undumped([&text, "short"]), [text.clone(), "short".into()]);
            assert_eq!(undumped(["", &text, "short"]), ["".into(), text, "short".into()]);
        }
    }
}
