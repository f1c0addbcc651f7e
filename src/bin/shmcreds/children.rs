//! Children of this process, and the orphans that a subreaper is handed: waiting for them, and their end.

use std::{
    collections::BTreeSet,
    fs, io, thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};

/// How long somebody who is told to end may take for it.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
const PERIOD: Duration = Duration::from_millis(5);

/// Waits for the end of `pid`, and reaps the orphans that come before. The children of other threads
/// are theirs: programs that a source has started.
pub(crate) fn wait_for(pid: Pid) -> io::Result<WaitStatus> {
    loop {
        match waitpid(None, Some(WaitPidFlag::__WNOTHREAD)) {
            Ok(status) if status.pid() == Some(pid) => return Ok(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Waits for the end of all children of this thread, and of those that become its children meanwhile.
pub(crate) fn wait_for_all() {
    loop {
        match waitpid(None, Some(WaitPidFlag::__WNOTHREAD)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Reaps the children that have ended; the names and pids of the others.
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

/// Sends a signal to all children of the main thread. Some may have ended a moment ago.
pub(crate) fn tell_all(signal: Signal) {
    for pid in children() {
        let _ = kill(pid, signal);
    }
}

/// The exit status of a process in a shell's words.
pub(crate) fn exit_code(status: WaitStatus) -> u8 {
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 0,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Ends all children of this thread, and those that become its children by that: each is told once,
/// and killed when the time is over. Those of another user, which cannot be killed, are left.
pub(crate) fn end_all() {
    let deadline = Instant::now() + GRACE;
    let mut told = BTreeSet::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WNOTHREAD)) {
            Ok(WaitStatus::StillAlive) if Instant::now() < deadline => {
                for pid in children().into_iter().filter(|pid| told.insert(*pid)) {
                    // A stopped process does not hear it before it goes on.
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

/// The children of the main thread, which is the one that gets orphans.
fn children() -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/self/task/{}/children", getpid()));
    let numbers = list.unwrap_or_default();
    numbers.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}
