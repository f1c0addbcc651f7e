//! Watches another process: a thread that sleeps until the process dies, a limit passes, or the
//! watch is dropped.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::fork;

/// How often a process is looked at that has no visible pid (another pid namespace).
const UNSEEN: Duration = Duration::from_millis(50);

/// A watch on one process. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Calls `then` once: when process `pid` dies, or after `limit`. `still` is asked once the
    /// process can no longer be mistaken for a later one of the same pid; if it says no, the answer
    /// is `None` and the caller looks again.
    pub(crate) fn new(
        pid: u32,
        limit: Duration,
        still: impl FnOnce() -> bool,
        then: impl FnOnce() + Send + 'static,
    ) -> io::Result<Option<Self>> {
        let target = open(pid);
        if !still() {
            return Ok(None);
        }
        let limit = if target.is_some() { limit } else { limit.min(UNSEEN) };
        join_before_fork();
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let stopped = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("shmcreds-watch".into()).spawn(move || {
                if !wait(target.as_ref(), &stopped, limit) {
                    then();
                }
            })?;
        Ok(Some(Watch { stop, thread: Some(thread) }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An eventfd takes a write at any time short of 2^64 of them.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            Ending::list().push(thread);
        }
    }
}

/// The threads that have been told to end. To wait for each would double the time of every sleeper that
/// wakes; a fork waits for them, since no thread survives it.
struct Ending {
    process: u32,
    threads: Vec<JoinHandle<()>>,
}

static ENDING: Mutex<Ending> = Mutex::new(Ending { process: 0, threads: Vec::new() });

impl Ending {
    /// The list of this process; what a forked child finds there are threads that it does not have.
    fn list() -> MutexGuard<'static, Self> {
        let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
        let us = std::process::id();
        if ending.process != us {
            ending.process = us;
            // Neither joined, which would last for ever, nor detached, which would write to what they were.
            std::mem::forget(std::mem::take(&mut ending.threads));
        }
        ending
    }

    fn push(&mut self, thread: JoinHandle<()>) {
        self.threads.retain(|thread| !thread.is_finished());
        self.threads.push(thread);
    }

    /// Waits for all of them, a matter of microseconds: they need nothing of this process any more.
    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Waits for the threads that have been told to end.
pub(crate) fn join_ending() {
    Ending::list().join();
}

/// Has every fork of this process wait for them.
fn join_before_fork() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        fork::hold(|| {
            let mut list = Ending::list();
            list.join();
            Box::new(list)
        });
    });
}

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Sleeps; true when the watch was dropped.
fn wait(target: Option<&OwnedFd>, stop: &OwnedFd, limit: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut fds = vec![PollFd::new(stop, PollFlags::IN)];
    fds.extend(target.map(|fd| PollFd::new(fd, PollFlags::IN)));
    // A signal ends the sleep early, which the caller takes for the limit: it looks again.
    let _ = poll(&mut fds, Some(&timeout));
    fds[0].revents().contains(PollFlags::IN)
}
