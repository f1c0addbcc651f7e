//! What a dedicated refresher keeps of the server that it was forked from: nothing, whatever limits the server has.
#![allow(unsafe_code)]

mod support;

use std::{fs, os::fd::AsRawFd};

use nix::{
    libc,
    sys::resource::{Resource, setrlimit},
};
use shmcreds::{Refresh, SharedSession};
use support::{child, elected, instant, name, parent_of};

fn main() {
    support::run_forking(&[(
        "a_descriptor_above_the_limit_is_not_kept",
        a_descriptor_above_the_limit_is_not_kept,
    )]);
}

/// A server may lower its limit below the numbers of descriptors that it has open already.
fn a_descriptor_above_the_limit_is_not_kept() {
    const HIGH: i32 = 700;
    let eager = || SharedSession::builder(name("above")).source(instant()).refresh(Refresh::Eager);
    for builder in [eager(), eager().sealed()] {
        child(|_| {
            let (reader, writer) = nix::unistd::pipe().unwrap();
            drop(reader);
            // SAFETY: the number is free.
            assert_eq!(unsafe { libc::dup2(writer.as_raw_fd(), HIGH) }, HIGH);
            setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
            let session = builder.create().unwrap();
            let refresher = elected(&session).unwrap();
            for pid in [refresher, parent_of(refresher)] {
                let target = fs::read_link(format!("/proc/{pid}/fd/{HIGH}"));
                let kept = target.is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"));
                assert!(!kept, "process {pid} keeps the server's pipe open");
            }
        })
        .finish();
    }
}
