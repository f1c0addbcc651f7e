//! The end of a child process as an event of the async runtime. This does not reap the child.

use std::{future::pending, io, os::fd::OwnedFd, time::Duration};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::io::{Interest, unix::AsyncFd};

/// How often a child is looked at when the kernel gives no pidfd.
const LOOK: Duration = Duration::from_millis(100);

/// Becomes ready when a process ends.
#[derive(Debug)]
pub(crate) enum Exit {
    Event(AsyncFd<OwnedFd>),
    Looks(Pid),
}

impl Exit {
    /// For the child `pid`. Call it inside a runtime.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let child = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let Some(fd) = super::death_watch::open(pid) else { return Some(Exit::Looks(child)) };
        // SAFETY: an `OwnedFd` refers to the same open file until it is dropped. The `AsyncFd` owns it, and
        // ends the registration before it drops the descriptor. Nothing takes the descriptor out.
        let event = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        event.ok().map(Exit::Event)
    }

    /// Waits until the process has ended. It waits without end if this process may not watch it.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        match self {
            Exit::Event(fd) => fd.readable().await.map(drop),
            Exit::Looks(child) => {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                loop {
                    match waitid(WaitId::Pid(*child), options) {
                        Ok(Some(_)) => return Ok(()),
                        Ok(None) => tokio::time::sleep(LOOK).await,
                        Err(_) => return pending().await,
                    }
                }
            }
        }
    }
}
