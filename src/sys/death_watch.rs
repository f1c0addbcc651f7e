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

/// How often a process is looked at when the kernel gives no pidfd. And when the thread of a watch looks for the first
/// time whether it is still wanted.
const LOOK: Duration = Duration::from_millis(250);

/// How often at least it looks. A watch may last for days.
const LONGEST_LOOK: Duration = Duration::from_secs(60);

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

    /// Whether the process is dead, where no event says so.
    fn is_gone(&self) -> bool {
        match self {
            Target::Event(_) => false,
            Target::Looks(task) => !task.lives(),
        }
    }
}

/// A watch on one process.
///
/// Whoever drops it was just woken, and has credentials to read. So the drop makes no system call. The thread sees by
/// itself that it is not wanted any more: after at most as long again as it has watched, and after at least [`LOOK`].
/// A fork, the next watch, and [`join_ended`] end it at once.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Alarm>);

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
        Threads::list().end_unwanted();
        let alarm = Arc::new(Alarm::new(limit, Box::new(then))?);
        let theirs = Arc::clone(&alarm);
        let thread =
            std::thread::Builder::new().name("shmcreds-watch".into()).spawn(move || {
                theirs.wait(target.as_ref());
                if let Some(then) = theirs.disarm() {
                    then();
                }
            })?;
        Threads::list().threads.push((Arc::downgrade(&alarm), thread));
        Ok(Some(Watch(alarm)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.0.disarm());
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
        self.then().take()
    }

    fn is_armed(&self) -> bool {
        self.then().is_some()
    }

    fn then(&self) -> MutexGuard<'_, Option<Then>> {
        self.then.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until the timer fires, `target` is dead, or the watch is dropped.
    fn wait(&self, target: Option<&Target>) {
        let mut fds = vec![PollFd::new(&self.timer, PollFlags::IN)];
        if let Some(Target::Event(fd)) = target {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        let longest = if let Some(Target::Looks(_)) = target { LOOK } else { LONGEST_LOOK };
        // A signal ends the sleep early. The caller treats that like the limit: it looks at the state again.
        let sleep = |time| poll(&mut fds, Some(&timespec(time))) == Ok(0);
        watch(longest, sleep, || self.is_armed() && !target.is_some_and(Target::is_gone));
    }
}

/// Sleeps again and again, until `goes_on` or `sleep` returns false: each time as long as all sleeps before, and at most
/// `longest`.
fn watch(longest: Duration, mut sleep: impl FnMut(Duration) -> bool, goes_on: impl Fn() -> bool) {
    let mut time = LOOK.min(longest);
    let mut slept = Duration::ZERO;
    while sleep(time) && goes_on() {
        slept = slept.saturating_add(time);
        time = slept.min(longest);
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").finish_non_exhaustive()
    }
}

/// The threads of all watches. No thread survives a fork, so a fork first ends those that are not wanted any more, and
/// joins them.
struct Threads {
    /// The process that the threads belong to; `None` before the first use.
    process: Option<ProcessToken>,
    /// The thread owns the alarm.
    threads: Vec<(Weak<Alarm>, JoinHandle<()>)>,
}

/// A fork joins the threads and holds the list until it is over.
static THREADS: ForkLock<Threads> =
    ForkLock::with(LockOrder::Watches, Threads { process: None, threads: Vec::new() }, |threads| {
        threads.of_this_process().join_unwanted()
    });

impl Threads {
    /// The list of this process.
    fn list() -> MutexGuard<'static, Self> {
        let mut threads = THREADS.lock();
        threads.of_this_process();
        threads
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

    /// Wakes the threads of dropped watches so that they end now: a caller that watches often must not accumulate
    /// threads.
    fn end_unwanted(&mut self) {
        for (alarm, thread) in self.take_unwanted() {
            // Finished for the library, but maybe not yet for the kernel: a thread that is counted must not be one of
            // these.
            match thread.is_finished() {
                true => drop(thread.join()),
                false => self.threads.push((alarm, thread)),
            }
        }
    }

    /// The same, and joins them. It takes microseconds: they wait for nothing else in this process.
    fn join_unwanted(&mut self) {
        for (_, thread) in self.take_unwanted() {
            let _ = thread.join();
        }
    }

    /// Takes the threads from the list whose watches were dropped, or have fired, and wakes them.
    fn take_unwanted(&mut self) -> Vec<(Weak<Alarm>, JoinHandle<()>)> {
        let mut unwanted = Vec::new();
        for (alarm, thread) in std::mem::take(&mut self.threads) {
            // Looked at once: a watch that is dropped after that is not woken.
            match alarm.upgrade() {
                Some(alarm) if alarm.is_armed() => {
                    self.threads.push((Arc::downgrade(&alarm), thread));
                    continue;
                }
                Some(alarm) => alarm.fire_after(Duration::ZERO),
                None => {}
            }
            unwanted.push((alarm, thread));
        }
        unwanted
    }
}

/// Ends the threads of dropped watches and joins them.
pub(crate) fn join_ended() {
    Threads::list().join_unwanted();
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
    use std::{cell::Cell, time::Instant};

    use super::*;

    /// In a time that only sleeps let pass: how long a watch sleeps while it `goes_on`, and how often.
    fn watched(longest: Duration, goes_on: impl Fn(Duration) -> bool) -> (Duration, u32) {
        let (now, sleeps) = (Cell::new(Duration::ZERO), Cell::new(0));
        let sleep = |time| {
            now.set(now.get() + time);
            sleeps.set(sleeps.get() + 1);
            true
        };
        watch(longest, sleep, || goes_on(now.get()));
        (now.get(), sleeps.get())
    }

    #[test]
    fn a_death_without_a_pidfd_is_noticed_within_a_second() {
        const PROMISED: Duration = Duration::from_secs(1);
        for death in (0..3000).map(Duration::from_millis) {
            let (end, looks) = watched(LOOK, |now| now < death);
            assert!(end - death <= PROMISED, "{death:?} {end:?}");
            // It sleeps in between: a watch of an hour costs little.
            assert!(u128::from(looks) <= 1 + death.as_millis() / 100, "{death:?}: {looks} looks");
        }
    }

    /// Its thread is there for as long again at most, and for a minute at most. While it lasts, it seldom looks.
    #[test]
    fn a_dropped_watch_ends_soon() {
        for dropped in (0..100_000).step_by(100).map(Duration::from_millis) {
            let (end, looks) = watched(LONGEST_LOOK, |now| now < dropped);
            assert!(end - dropped <= dropped.max(LOOK).min(LONGEST_LOOK), "{dropped:?} {end:?}");
            assert!(looks <= 11, "{dropped:?}: {looks} looks");
        }
    }

    #[test]
    fn the_end_of_a_sleep_ends_the_looks() {
        let looks = Cell::new(0);
        let goes_on = || {
            looks.set(looks.get() + 1);
            true
        };
        watch(LOOK, |_| looks.get() < 3, goes_on);
        assert_eq!(looks.get(), 3);
    }

    #[test]
    fn the_thread_of_a_dropped_watch_ends_by_itself() {
        let (hour, us) = (Duration::from_secs(3600), std::process::id());
        let then = || unreachable!("this process lives");
        let watch = Watch::new(us, hour, || true, then).unwrap().unwrap();
        let alarm = Arc::downgrade(&watch.0);
        drop(watch);
        let start = Instant::now();
        while alarm.strong_count() > 0 {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A fork, and who counts the threads, does not wait for a watch that goes on.
    #[test]
    fn the_thread_of_a_watch_that_goes_on_is_not_joined() {
        let (hour, us) = (Duration::from_secs(3600), std::process::id());
        let watch = || Watch::new(us, hour, || true, || ()).unwrap().unwrap();
        let (dropped, goes_on) = (watch(), watch());
        let alarms = [&dropped, &goes_on].map(|watch| Arc::downgrade(&watch.0));
        drop(dropped);
        join_ended();
        assert_eq!(alarms[0].strong_count(), 0);
        assert!(alarms[1].strong_count() > 1 && goes_on.0.is_armed());
    }

    #[test]
    fn a_fork_does_not_catch_the_list() {
        crate::sys::fork::tests::a_child_can_take(|| Box::new(Threads::list()));
    }
}
