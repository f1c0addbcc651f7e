//! Watches another process: a thread sleeps until the process dies, a limit passes, or the watch is
//! dropped.

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

use super::{
    descriptor::ReservedStreams,
    fork::{ForkLock, LockOrder},
    process_token::ProcessToken,
    task::Task,
};

/// How often a process is checked that has no visible pid, because it is in another pid namespace.
const UNSEEN: Duration = Duration::from_millis(50);

/// How long the thread of a dropped watch sleeps before it ends, unless something waits for its end. Waking
/// it at once would delay the caller, which was just woken and has credentials to read.
const GRACE: Duration = Duration::from_millis(10);

/// How often a process is looked at when the kernel gives no pidfd.
const LOOK: Duration = Duration::from_millis(250);

/// How a watched process is seen to die.
enum Target {
    /// A pidfd becomes readable.
    Event(OwnedFd),
    /// There is no pidfd: before Linux 5.3, or in a sandbox that does not know the call.
    Looks(Task),
}

impl Target {
    /// `None` when this process cannot see `pid`.
    fn of(pid: u32) -> Option<Self> {
        let event = open(pid).map(Target::Event);
        event.or_else(|| Task::of(pid).map(Target::Looks))
    }
}

/// A watch on one process. Its thread ends soon after the watch is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    alarm: Arc<Alarm>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Calls `then` once: when process `pid` dies, or after `limit`.
    ///
    /// The pid may belong to a later process by now. So this opens a pidfd first and then calls `still`,
    /// which checks that `pid` is the process meant. If `still` returns false, the result is `None`, and the
    /// caller looks at the state again.
    pub(crate) fn new(
        pid: u32,
        limit: Duration,
        still: impl FnOnce() -> bool,
        then: impl FnOnce() + Send + 'static,
    ) -> io::Result<Option<Self>> {
        let _reserved = ReservedStreams::new();
        let target = Target::of(pid);
        if !still() {
            return Ok(None);
        }
        let limit = if target.is_some() { limit } else { limit.min(UNSEEN) };
        Ending::list().wake_all();
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
        self.alarm.fire_after(GRACE);
        if let Some(thread) = self.thread.take() {
            Ending::list().threads.push((Arc::downgrade(&self.alarm), thread));
        }
    }
}

type Then = Box<dyn FnOnce() + Send>;

/// The timer that wakes the thread, and what the thread does then. The death of the process wakes it, too.
struct Alarm {
    timer: OwnedFd,
    then: Mutex<Option<Then>>,
}

impl Alarm {
    fn new(limit: Duration, then: Then) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?;
        let alarm = Alarm { timer, then: Mutex::new(Some(then)) };
        alarm.fire_after(limit);
        Ok(alarm)
    }

    /// Wakes the thread after `time`. Replaces an earlier time.
    fn fire_after(&self, time: Duration) {
        // Zero would disarm the timer.
        let time = time.max(Duration::from_nanos(1));
        let once = Itimerspec { it_interval: Timespec::default(), it_value: timespec(time) };
        // It fails only for an invalid time or a descriptor that is not a timer.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once);
    }

    /// Takes the action away: the thread does nothing when it wakes.
    fn disarm(&self) -> Option<Then> {
        self.then.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Sleeps until the timer fires or `target` is dead.
    fn wait(&self, target: Option<&Target>) {
        let mut fds = vec![PollFd::new(&self.timer, PollFlags::IN)];
        if let Some(Target::Event(fd)) = target {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        // A signal ends the sleep early. The caller treats that like the limit: it looks at the state again.
        match target {
            Some(Target::Looks(task)) => {
                let mut sleep = |time| poll(&mut fds, Some(&timespec(time))) == Ok(0);
                while_it_lives(&mut sleep, || task.lives());
            }
            Some(Target::Event(_)) | None => {
                let _ = poll(&mut fds, None);
            }
        }
    }
}

/// Sleeps again and again, until `lives` or `sleep` returns false.
fn while_it_lives(mut sleep: impl FnMut(Duration) -> bool, mut lives: impl FnMut() -> bool) {
    while sleep(LOOK) && lives() {}
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").finish_non_exhaustive()
    }
}

/// The threads of dropped watches. No thread survives a fork, so a fork first ends them and joins them.
struct Ending {
    /// The process that the threads belong to; `None` before the first use.
    process: Option<ProcessToken>,
    /// The thread owns the alarm.
    threads: Vec<(Weak<Alarm>, JoinHandle<()>)>,
}

/// A fork joins the threads and holds the list until it is over.
static ENDING: ForkLock<Ending> =
    ForkLock::with(LockOrder::Watches, Ending { process: None, threads: Vec::new() }, |ending| {
        ending.of_this_process().join()
    });

impl Ending {
    /// The list of this process.
    fn list() -> MutexGuard<'static, Self> {
        let mut ending = ENDING.lock();
        ending.of_this_process();
        ending
    }

    /// Empties the list in a child process. A child that was forked without the fork handlers (a raw `clone`)
    /// finds threads of its parent here.
    fn of_this_process(&mut self) -> &mut Self {
        let us = Some(ProcessToken::current());
        if self.process != us {
            self.process = us;
            // The child does not have these threads. A join would never return, and a detach would write to
            // their memory.
            std::mem::forget(std::mem::take(&mut self.threads));
        }
        self
    }

    /// Wakes all threads so that they end now: a caller that watches often must not accumulate threads.
    fn wake_all(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        let (finished, running) = threads.into_iter().partition(|(_, thread)| thread.is_finished());
        self.threads = running;
        // Finished for the library, but maybe not yet for the kernel: a thread that is counted must not be one of
        // these.
        let finished: Vec<(Weak<Alarm>, JoinHandle<()>)> = finished;
        for (_, thread) in finished {
            let _ = thread.join();
        }
        for alarm in self.threads.iter().filter_map(|(alarm, _)| alarm.upgrade()) {
            alarm.fire_after(Duration::ZERO);
        }
    }

    /// Joins all threads. It takes microseconds: they wait for nothing else in this process.
    fn join(&mut self) {
        self.wake_all();
        for (_, thread) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Ends the threads of dropped watches and joins them.
pub(crate) fn join_ended() {
    Ending::list().join();
}

pub(super) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// A pidfd of process `pid`, which becomes readable when the process ends.
pub(super) fn open(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// In a time that only sleeps let pass.
    #[test]
    fn a_death_without_a_pidfd_is_noticed_within_a_second() {
        const PROMISED: Duration = Duration::from_secs(1);
        for death in (0..3000).map(Duration::from_millis) {
            let (now, looks) = (Cell::new(Duration::ZERO), Cell::new(0));
            let sleep = |time| {
                now.set(now.get() + time);
                true
            };
            let lives = || {
                looks.set(looks.get() + 1);
                now.get() < death
            };
            while_it_lives(sleep, lives);
            assert!(now.get() - death <= PROMISED, "{death:?} {now:?}");
            // It sleeps in between: a watch of an hour costs little.
            assert!(looks.get() <= 1 + death.as_millis() / 100, "{death:?}: {looks:?} looks");
        }
    }

    #[test]
    fn the_end_of_a_watch_ends_the_looks() {
        let looks = Cell::new(0);
        while_it_lives(
            |_| looks.get() < 3,
            || {
                looks.set(looks.get() + 1);
                true
            },
        );
        assert_eq!(looks.get(), 3);
    }

    #[test]
    fn a_fork_does_not_catch_the_list() {
        crate::sys::fork::tests::a_child_can_take(|| Box::new(Ending::list()));
    }
}
