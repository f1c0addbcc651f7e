//! How much of its stack the calling thread has left.

use std::{cell::Cell, hint::black_box, mem::MaybeUninit, ptr::null_mut};

use nix::libc;

thread_local! {
    /// The lowest address of the stack; 0 before it was asked for. For the first thread of a process the answer takes long. A
    /// forked child has the stack of the thread that forked.
    static LOWEST: Cell<usize> = const { Cell::new(0) };
}

/// The bytes below the caller's frame; 0 when they are not known.
pub(crate) fn left() -> usize {
    let mut lowest = LOWEST.get();
    if lowest == 0 {
        lowest = lowest_address().unwrap_or(usize::MAX);
        LOWEST.set(lowest);
    }
    let here = 0u8;
    (&raw const *black_box(&here)).addr().saturating_sub(lowest)
}

fn lowest_address() -> Option<usize> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: it only tells which thread this is.
    let own = unsafe { libc::pthread_self() };
    // SAFETY: the attributes are written by this call, if it succeeds.
    if unsafe { libc::pthread_getattr_np(own, attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let (mut lowest, mut bytes) = (null_mut(), 0);
    // SAFETY: the attributes were initialized above, and both results are places of this function.
    let told = unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &mut lowest, &mut bytes) };
    // SAFETY: they are initialized, and not used any more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    (told == 0).then_some(lowest.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stack of a thread may be larger than it was asked for: one that another thread had before.
    #[test]
    fn it_is_known_of_each_thread() {
        for bytes in [256 << 10, 8 << 20] {
            let check = move || {
                let (here, left) = (0u8, left());
                let here = (&raw const here).addr();
                assert!(left >= bytes - (32 << 10), "{left} of {bytes}");
                let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
                let start = maps.lines().find_map(|line| {
                    let (start, end) = line.split(' ').next()?.split_once('-')?;
                    let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16));
                    (start.clone().ok()?..end.ok()?).contains(&here).then_some(start.ok()?)
                });
                // Below it are the guard pages.
                assert!(
                    here - left >= start.unwrap() - 4096,
                    "{left} of {}",
                    here - start.unwrap()
                );
            };
            std::thread::Builder::new().stack_size(bytes).spawn(check).unwrap().join().unwrap();
        }
    }

    #[test]
    fn a_deeper_call_has_less() {
        #[inline(never)]
        fn deeper() -> usize {
            let room = black_box([0u8; 16 << 10]);
            let left = left();
            black_box(room);
            left
        }
        assert!(left() >= deeper() + (15 << 10));
    }
}
