//! The end of a child process as an event of the async runtime. This does not reap the child.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Becomes ready when a process ends.
#[derive(Debug)]
pub(crate) struct Exit(AsyncFd<OwnedFd>);

impl Exit {
    /// For the child `pid`. `None` when the kernel gives no pidfd. Call it inside a runtime.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let fd = super::death_watch::open(pid)?;
        // SAFETY: an `OwnedFd` refers to the same open file until it is dropped. The `AsyncFd` owns it, and
        // ends the registration before it drops the descriptor. Nothing takes the descriptor out.
        unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok().map(Exit)
    }

    /// Waits until the process has ended.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
}
