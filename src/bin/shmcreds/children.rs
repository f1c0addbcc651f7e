//! Children of this process, and orphans that it adopts as a subreaper: how to wait for them and end them.

use std::{
    collections::BTreeSet,
    fs, io, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::{Pid, getpid},
};

/// The time between SIGTERM and SIGKILL.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
const PERIOD: Duration = Duration::from_millis(5);

/// Waits for the end of `pid`, and reaps orphans that end before it. It does not touch the children of other threads:
/// these are programs that a source has started. Calls `ended` when `pid` has ended, before its number becomes free.
pub(crate) fn wait_for(pid: Pid, ended: impl Fn()) -> io::Result<WaitStatus> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WNOTHREAD;
    loop {
        let next = match waitid(Id::All, flags) {
            Ok(status) => status.pid(),
            Err(Errno::EINTR) => continue,
            // A sandbox that refuses `waitid` may allow `wait4`.
            Err(_) => None,
        };
        if next == Some(pid) {
            ended();
        }
        match waitpid(next, Some(WaitPidFlag::__WNOTHREAD)) {
            Ok(status) if status.pid() == Some(pid) => return Ok(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Waits for the end of all children of this thread, also of processes that become its children meanwhile.
pub(crate) fn wait_for_all() {
    loop {
        match waitpid(None, Some(WaitPidFlag::__WNOTHREAD)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Reaps the children that have ended. Gives the names and pids of the others.
pub(crate) fn left() -> Vec<String> {
    let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WNOTHREAD;
    loop {
        match waitpid(None, Some(flags)) {
            Ok(WaitStatus::StillAlive) | Err(_) => break,
            Ok(_) => {}
        }
    }
    let named = |pid: Pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{} ({pid})", name.trim_end())
    };
    children().into_iter().map(named).collect()
}

/// Sends a signal to all children of the main thread. Some may have ended already.
pub(crate) fn signal_all(signal: Signal) {
    for pid in children() {
        let _ = kill(pid, signal);
    }
}

/// The exit code that a shell would give for this status.
pub(crate) fn exit_code(status: WaitStatus) -> u8 {
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 0,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Ends all children of this thread, also processes that become its children meanwhile. Each gets SIGTERM once, and
/// SIGKILL after [`GRACE`]. Processes of another user that cannot be killed are left.
pub(crate) fn end_all() {
    let deadline = Instant::now() + GRACE;
    let mut signalled = BTreeSet::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WNOTHREAD)) {
            Ok(WaitStatus::StillAlive) if Instant::now() < deadline => {
                for pid in children().into_iter().filter(|pid| signalled.insert(*pid)) {
                    // A stopped process gets SIGTERM only when it continues.
                    let _ = kill(pid, Signal::SIGTERM).and_then(|()| kill(pid, Signal::SIGCONT));
                }
                thread::sleep(PERIOD);
            }
            Ok(WaitStatus::StillAlive) => {
                let refused = |pid: &Pid| kill(*pid, Signal::SIGKILL) == Err(Errno::EPERM);
                if children().iter().all(refused) {
                    return;
                }
                thread::sleep(PERIOD);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// The children of the main thread. This thread also adopts orphans.
fn children() -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/self/task/{}/children", getpid()));
    let numbers = list.unwrap_or_default();
    numbers.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}
