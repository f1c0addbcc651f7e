//! Memory that core dumps leave out.

use std::{ffi::c_void, ops::Range, ptr::NonNull};

use nix::sys::mman::{MmapAdvise, madvise};

/// Memory for texts on pages that core dumps leave out (`MADV_DONTDUMP`).
///
/// The pages stay excluded: other allocations on them, now and later, are missing in a core dump, too. When
/// the kernel refuses the advice, this is ordinary memory.
#[derive(Debug)]
pub(crate) struct Undumped<const N: usize>([String; N]);

impl<const N: usize> Undumped<N> {
    /// Memory for one text of each of these lengths.
    pub(crate) fn with_room(lengths: [usize; N]) -> Self {
        let room = lengths.map(String::with_capacity);
        let mut advised = 0..0;
        // The allocator mostly gives them memory that is side by side: then one call is enough for all.
        for pages in room.each_ref().map(pages) {
            if pages.start <= advised.end && advised.start <= pages.end {
                advised = advised.start.min(pages.start)..advised.end.max(pages.end);
            } else {
                exclude(&advised);
                advised = pages;
            }
        }
        exclude(&advised);
        Undumped(room)
    }

    /// The texts, in this memory. One that is too long gets memory of its own.
    pub(crate) fn hold(self, texts: [&str; N]) -> [String; N] {
        let mut held = self.0;
        for (room, text) in held.iter_mut().zip(texts) {
            if room.capacity() < text.len() {
                let Undumped([longer]) = Undumped::with_room([text.len()]);
                *room = longer;
            }
            room.push_str(text);
        }
        held
    }
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

    fn copies<const N: usize>(lengths: [usize; N], texts: [&str; N]) -> [String; N] {
        Undumped::with_room(lengths).hold(texts)
    }

    #[test]
    fn a_copy_is_a_copy() {
        for length in [0, 1, 40, 4096, 8192] {
            let text = "x".repeat(length);
            for room in [0, length / 2, length, length + 100] {
                assert_eq!(copies([room], [&text])[0], text);
                assert_eq!(copies([room, 5], [&text, "short"]), [text.clone(), "short".into()]);
                let both = ["".into(), text.clone(), "short".into()];
                assert_eq!(copies([room, room, room], ["", &text, "short"]), both);
            }
        }
    }

    /// A text that grows would leave what it held in memory that is not wiped.
    #[test]
    fn a_text_is_written_once() {
        let room = Undumped::with_room([40, 1200]);
        let before = room.0.each_ref().map(|text| text.as_ptr());
        let held = room.hold([&"s".repeat(40), &"t".repeat(1200)]);
        assert_eq!(held.each_ref().map(|text| text.as_ptr()), before);
    }
}
