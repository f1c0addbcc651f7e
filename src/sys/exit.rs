//! The end of a child, as an event of the async runtime. The child stays to be reaped.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Tells of the end of a process.
#[derive(Debug)]
pub(crate) struct Exit(AsyncFd<OwnedFd>);

impl Exit {
    /// That of the child `pid`; `None` where the kernel has no such thing. Called inside a runtime.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let fd = super::death_watch::open(pid)?;
        // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, which is not before the
        // registration ends: the `AsyncFd` owns it, and we never take it out.
        unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok().map(Exit)
    }

    /// Waits until the process has ended.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
}
