//! A signal that arrives while the kernel reserves memory. `fallocate` may end with EINTR then (tmpfs did so for
//! every signal before Linux 6.14).
#![allow(unsafe_code)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::libc;
use shmcreds::{Refresh, SharedSession};
use support::{assert_whole, instant, name};

/// How many calls a signal still interrupts, and how many it has interrupted.
static TO_INTERRUPT: AtomicUsize = AtomicUsize::new(0);
static INTERRUPTED: AtomicUsize = AtomicUsize::new(0);

/// Takes the place of the C library's.
#[unsafe(no_mangle)]
extern "C" fn posix_fallocate(
    fd: libc::c_int,
    offset: libc::off_t,
    length: libc::off_t,
) -> libc::c_int {
    let one_less = |left: usize| left.checked_sub(1);
    if TO_INTERRUPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
        INTERRUPTED.fetch_add(1, Ordering::Relaxed);
        return libc::EINTR;
    }
    // SAFETY: a call without pointers.
    match unsafe { libc::fallocate(fd, 0, offset, length) } {
        0 => 0,
        _ => nix::errno::Errno::last_raw(),
    }
}

fn main() {
    support::run_forking(&[("a_signal_does_not_fail_create", a_signal_does_not_fail_create)]);
}

fn a_signal_does_not_fail_create() {
    let builder = || SharedSession::builder(name("interrupted")).source(instant());
    let eager = || builder().refresh(Refresh::Eager);
    for builder in [builder(), eager(), eager().sealed()] {
        INTERRUPTED.store(0, Ordering::Relaxed);
        TO_INTERRUPT.store(3, Ordering::Relaxed);
        let session = builder.create().expect("a signal is no failure");
        assert_eq!(INTERRUPTED.load(Ordering::Relaxed), 3, "it was interrupted");
        assert_whole(&session.credentials().unwrap());
    }
}
