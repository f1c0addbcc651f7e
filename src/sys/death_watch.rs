//! Watches another process: a thread that sleeps until the process dies, a limit passes, or the
//! watch is dropped.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, pidfd_open},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use super::{descriptor::ReservedStreams, fork, process_token::ProcessToken};

/// How often a process is looked at that has no visible pid (another pid namespace).
const UNSEEN: Duration = Duration::from_millis(50);

/// How long the thread of a dropped watch sleeps on, if nobody waits for its end. To wake it at once would
/// take as long as a sleeper that has just been woken needs for all the rest.
const LINGER: Duration = Duration::from_millis(10);

/// A watch on one process. When it is dropped its thread ends soon.
#[derive(Debug)]
pub(crate) struct Watch {
    alarm: Arc<Alarm>,
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
        let _reserved = ReservedStreams::new();
        let target = open(pid);
        if !still() {
            return Ok(None);
        }
        let limit = if target.is_some() { limit } else { limit.min(UNSEEN) };
        Ending::list().hurry();
        let alarm = Arc::new(Alarm::new(limit, Box::new(then))?);
        let theirs = Arc::clone(&alarm);
        let thread =
            std::thread::Builder::new().name("shmcreds-watch".into()).spawn(move || {
                theirs.wait(target.as_ref());
                if let Some(then) = theirs.disarm() {
                    then();
                }
            })?;
        Ok(Some(Watch { alarm, thread: Some(thread) }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.alarm.disarm());
        self.alarm.ring_after(LINGER);
        if let Some(thread) = self.thread.take() {
            Ending::list().threads.push((Arc::downgrade(&self.alarm), thread));
        }
    }
}

type Then = Box<dyn FnOnce() + Send>;

/// What wakes the thread, the death of its process aside, and what it does then.
struct Alarm {
    timer: OwnedFd,
    then: Mutex<Option<Then>>,
}

impl Alarm {
    fn new(limit: Duration, then: Then) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?;
        let alarm = Alarm { timer, then: Mutex::new(Some(then)) };
        alarm.ring_after(limit);
        Ok(alarm)
    }

    /// Wakes the thread in that time, not when it was told before.
    fn ring_after(&self, time: Duration) {
        // A timer of zero would never ring.
        let time = time.max(Duration::from_nanos(1));
        let once = Itimerspec { it_interval: Timespec::default(), it_value: timespec(time) };
        // It fails for what is no time or no timer only.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }

    /// Takes what was to be done: nothing is, from here on.
    fn disarm(&self) -> Option<Then> {
        self.then.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sleeps until the alarm rings, or `target` is dead.
    fn wait(&self, target: Option<&OwnedFd>) {
        let mut fds = vec![PollFd::new(&self.timer, PollFlags::IN)];
        fds.extend(target.map(|fd| PollFd::new(fd, PollFlags::IN)));
        // A signal ends the sleep early, which the caller takes for the limit: it looks again.
        let _ = poll(&mut fds, None);
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").finish_non_exhaustive()
    }
}

/// The threads of dropped watches. A fork ends them and waits for that, since no thread survives it.
struct Ending {
    /// `None` before there are any.
    process: Option<ProcessToken>,
    /// An alarm ends with its thread.
    threads: Vec<(Weak<Alarm>, JoinHandle<()>)>,
}

static ENDING: Mutex<Ending> = Mutex::new(Ending { process: None, threads: Vec::new() });

impl Ending {
    /// The list of this process. A fork joins the threads, and holds the list meanwhile.
    fn list() -> MutexGuard<'static, Self> {
        fork::hold("watches", || {
            let mut list = Ending::locked();
            list.join();
            Box::new(list)
        });
        Ending::locked()
    }

    /// What a child finds there that was forked past the handlers are threads that it does not have.
    fn locked() -> MutexGuard<'static, Self> {
        let mut ending = ENDING.lock().unwrap_or_else(PoisonError::into_inner);
        let us = Some(ProcessToken::current());
        if ending.process != us {
            ending.process = us;
            // Neither joined, which would last for ever, nor detached, which would write to what they were.
            std::mem::forget(std::mem::take(&mut ending.threads));
        }
        ending
    }

    /// Wakes all of them: who watches again and again is not to gather threads.
    fn hurry(&mut self) {
        self.threads.retain(|(_, thread)| !thread.is_finished());
        for alarm in self.threads.iter().filter_map(|(alarm, _)| alarm.upgrade()) {
            alarm.ring_after(Duration::ZERO);
        }
    }

    /// Waits for all of them, a matter of microseconds: they need nothing of this process any more.
    fn join(&mut self) {
        self.hurry();
        for (_, thread) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Ends the threads of dropped watches and waits for them.
pub(crate) fn join_ended() {
    Ending::list().join();
}

pub(super) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// A descriptor that tells of the end of process `pid`.
pub(super) fn open(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_does_not_catch_the_list() {
        fork::tests::a_child_can_take(|| Box::new(Ending::list()));
    }
}
