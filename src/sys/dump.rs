//! Memory that core dumps leave out.

use std::{cell::RefCell, ffi::c_void, mem, ops::Range, ptr::NonNull};

use nix::sys::mman::{MmapAdvise, madvise};

/// The most buffers that a thread keeps for later sets, in sets and in bytes.
const MOST: usize = 16;
const MOST_BYTES: usize = 32 * 1024;
/// A thread keeps buffers for one set more for each so many sets that it has read: one that reads few sets keeps none.
const SETS_FOR_EACH: usize = 64;
/// A buffer that is this much larger than a text is not used for it.
const SLACK: usize = 256;
/// The kernel excludes whole blocks of this many bytes. Each excluded piece of memory is a mapping of its own, and a process
/// can have 65,530 of them: pages of single sets would use them up.
const BLOCK: usize = 64 * 1024;

/// Memory for texts on pages that core dumps leave out (`MADV_DONTDUMP`).
///
/// The pages around them, up to 64 KiB, are excluded, too, and stay so: other allocations on them, now and later, are
/// missing in a core dump. When the kernel refuses the advice, this is ordinary memory.
#[derive(Debug)]
pub(crate) struct Undumped<const N: usize>([String; N]);

impl<const N: usize> Undumped<N> {
    /// Memory for one text of each of these lengths.
    pub(crate) fn with_room(lengths: [usize; N]) -> Self {
        let room = lengths.map(String::with_capacity);
        exclude_all(&room);
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

impl Undumped<2> {
    /// The same, for a set: from the memory that this thread keeps for the next sets, if there is any.
    pub(crate) fn for_set(lengths: [usize; 2]) -> Self {
        // None in a thread that ends, and in a signal handler that interrupts this.
        let spare = SPARES.try_with(|spares| Some(spares.try_borrow_mut().ok()?.take(lengths)));
        spare.ok().flatten().map_or_else(|| Undumped::with_room(lengths), Undumped)
    }
}

/// The two secret texts of a set.
type Pair = [String; 2];

/// Empty buffers on pages that core dumps leave out, for the next sets. The kernel needs as long for one page as for many:
/// a process that reads thousands of sets asks it for many at once.
///
/// The pages of a buffer stay excluded as long as it exists: the allocator gives them back to the kernel only afterwards.
#[derive(Default)]
struct Spares {
    pairs: Vec<Pair>,
    /// How many sets were copied since the buffers fitted last.
    copied: usize,
}

thread_local! {
    /// Of each thread: a lock would be one that a fork has to take.
    static SPARES: RefCell<Spares> = const { RefCell::new(Spares { pairs: Vec::new(), copied: 0 }) };
}

/// A forked child reads few sets at first, whatever its parent has read.
pub(super) fn after_fork_in_child() {
    let _ =
        SPARES.try_with(|spares| spares.try_borrow_mut().map(|mut spares| mem::take(&mut *spares)));
}

impl Spares {
    /// Empty buffers for texts of these lengths.
    fn take(&mut self, lengths: [usize; 2]) -> Pair {
        self.copied += 1;
        if let Some(at) = self.pairs.iter().rposition(|pair| fits(pair, lengths)) {
            return self.pairs.swap_remove(at);
        }
        if !self.pairs.is_empty() {
            // The sets have other lengths now.
            (self.pairs, self.copied) = (Vec::new(), 0);
        }
        let most = MOST.min(MOST_BYTES / lengths.iter().sum::<usize>().max(1));
        let more = (self.copied / SETS_FOR_EACH).min(most).saturating_sub(1);
        let own = buffers(lengths);
        self.pairs.extend((0..more).map(|_| buffers(lengths)));
        exclude_all([&own].into_iter().chain(&self.pairs).flatten());
        own
    }
}

fn fits(pair: &Pair, lengths: [usize; 2]) -> bool {
    let room = |(buffer, length): (&String, usize)| {
        buffer.capacity().checked_sub(length).is_some_and(|slack| slack < SLACK)
    };
    pair.iter().zip(lengths).all(room)
}

fn buffers(lengths: [usize; 2]) -> Pair {
    lengths.map(String::with_capacity)
}

/// Excludes the pages of all buffers.
fn exclude_all<'a>(buffers: impl IntoIterator<Item = &'a String>) {
    let mut advised = 0..0;
    // The allocator mostly gives the buffers memory that is side by side: then one call is enough for all.
    for blocks in buffers.into_iter().map(blocks) {
        if blocks.start <= advised.end && advised.start <= blocks.end {
            advised = advised.start.min(blocks.start)..advised.end.max(blocks.end);
        } else {
            exclude(&advised);
            advised = blocks;
        }
    }
    exclude(&advised);
}

/// The addresses of the blocks that an allocation touches.
fn blocks(buffer: &String) -> Range<usize> {
    // A page is 64 KiB at most.
    let start = buffer.as_ptr().addr();
    start - start % BLOCK..(start + buffer.capacity()).next_multiple_of(BLOCK)
}

fn exclude(blocks: &Range<usize>) {
    let Some(start) = NonNull::new(blocks.start as *mut c_void) else { return };
    // SAFETY: this advice changes no contents. The pages of an allocation are mapped. The kernel passes over parts of a block
    // that are not mapped, and gives the advice for the others: then it returns ENOMEM.
    let _ = unsafe { madvise(start, blocks.len(), MmapAdvise::MADV_DONTDUMP) };
}

#[cfg(test)]
mod tests {
    use std::iter;

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

    /// Whether the kernel leaves the page of `text` out of core dumps: the flag `dd` of its mapping.
    fn is_excluded(text: &str) -> bool {
        let (address, maps) = (text.as_ptr().addr(), std::fs::read_to_string("/proc/self/smaps"));
        let mut is_its = false;
        for line in maps.unwrap().lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                if is_its {
                    return flags.split_whitespace().any(|flag| flag == "dd");
                }
                continue;
            }
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let [start, end] = match range.map(|(start, end)| [start, end]) {
                Some(range) => range.map(|number| usize::from_str_radix(number, 16)),
                None => continue,
            };
            if let (Ok(start), Ok(end)) = (start, end) {
                is_its = (start..end).contains(&address);
            }
        }
        panic!("the text is in no mapping")
    }

    /// Texts of lengths that change, so that buffers are kept, used, and thrown away.
    #[test]
    fn each_of_many_copies_is_on_excluded_pages() {
        let lengths =
            iter::repeat_n(1200, 400).chain((0..40).map(|n| 900 + n % 7)).chain([5000; 9]);
        let texts: Vec<[String; 2]> = lengths.map(|n| ["s".repeat(40), "t".repeat(n)]).collect();
        let mut copies = Vec::new();
        for (number, [secret, token]) in texts.iter().enumerate() {
            copies.push(Undumped::for_set([secret, token].map(String::len)).hold([secret, token]));
            // Some are dropped, and their memory is used again.
            if number % 5 == 4 {
                copies.remove(copies.len() / 2);
            }
        }
        assert!(copies.len() > 100);
        assert!(copies.iter().flatten().all(|copy| is_excluded(copy)));
        assert!(copies.iter().all(|[secret, _]| secret == "s".repeat(40).as_str()));
    }

    /// A process that holds thousands of sets must not run out of mappings.
    #[test]
    fn many_sets_need_few_mappings() {
        let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
        let before = mappings();
        // Other memory between the sets, as that of a program.
        let held: Vec<_> = (0..2000)
            .map(|_| (copies([40, 1200], [&"s".repeat(40), &"t".repeat(1200)]), vec![1_u8; 3000]))
            .collect();
        let more = mappings().saturating_sub(before);
        // More than 8 MB: without blocks a mapping for nearly each set. Other tests have threads meanwhile.
        assert!(more < 500, "{more} mappings for {} sets", held.len());
    }

    #[test]
    fn a_thread_that_copies_few_sets_keeps_no_buffers() {
        let mut spares = Spares { pairs: Vec::new(), copied: 0 };
        for _ in 0..2 * SETS_FOR_EACH - 1 {
            spares.take([40, 1200]);
            assert!(spares.pairs.is_empty());
        }
        let kept = (0..2000).map(|_| {
            spares.take([40, 1200]);
            spares.pairs.len()
        });
        assert_eq!(kept.max(), Some(MOST - 1));
        for _ in 0..2000 {
            spares.take([40, 16_384]);
            assert!(spares.pairs.is_empty());
        }
        // Where the lengths change each time, one in vain ends that for a while.
        spares.take([40, 1000]);
        for length in (0..1000).map(|n| 2000 - n % 2 * 1000) {
            spares.take([40, length]);
            assert!(spares.pairs.len() < 2);
        }
    }
}
