//! System calls that a sandbox refuses are errors, and no panics.
#![allow(unsafe_code)]

mod support;

use nix::{errno::Errno, libc};
use shmcreds::{Refresh, SharedSession};
use support::{child, instant, name};

fn main() {
    support::run_forking(&[("limits_that_cannot_be_read", limits_that_cannot_be_read)]);
}

/// Has the kernel refuse the system call to this process.
fn refuse(number: libc::c_long) {
    let step = |code, jump_true, jump_false, k| libc::sock_filter {
        code,
        jt: jump_true,
        jf: jump_false,
        k,
    };
    // Load the number; if it is this one, the error; else the call.
    let filter = [
        step(0x20, 0, 0, 0),
        step(0x15, 0, 1, u32::try_from(number).unwrap()),
        step(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | Errno::EPERM as u32),
        step(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: a call without pointers.
    let no_new = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the program lives as long as the call.
    let filtered = unsafe { libc::syscall(libc::SYS_seccomp, mode, 0, &program) };
    assert_eq!((no_new, filtered), (0, 0));
}

fn limits_that_cannot_be_read() {
    let builder = || SharedSession::builder(name("refused")).source(instant());
    let eager = || builder().refresh(Refresh::Eager);
    for builder in [builder(), eager(), eager().sealed()] {
        // A panic makes the child fail.
        child(|_| {
            refuse(libc::SYS_prlimit64);
            let _ = builder.create();
        })
        .finish();
    }
}
