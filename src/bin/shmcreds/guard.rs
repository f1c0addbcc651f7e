//! The guard of `exec`: the process that was started, which does nothing but see to it that everything
//! ends together.
//!
//! It forks the supervisor, which does the work: it keeps the session and starts CMD. Each notices the
//! end of the other, so that none of them can be killed and leave something behind:
//!
//! | killed | who notices | what happens |
//! | --- | --- | --- |
//! | CMD | the supervisor, its parent | it ends what CMD has left, removes the session, and exits |
//! | the supervisor | the kernel kills CMD; the guard, its parent | gets all orphans, ends them, and removes the session |
//! | the guard | the supervisor, by a signal of the kernel | ends CMD, and goes on as if that had ended |
//!
//! When both are killed at once, CMD is, too; what CMD has started is not, and the session's name stays
//! until the next `exec`.

use std::{fs, io, process::ExitCode, thread, time::Instant};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{self, SigHandler, SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getpid, getppid},
};
use shmcreds::{ErrorKind, SharedSession};

use crate::{
    children::{self, GRACE},
    failure::{Failure, SYSTEM},
};

/// What CMD is told, too. Not the signals by which a terminal stops: they stop each process of the job.
const FORWARDED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCONT,
];

/// Which of the two a process is.
pub(crate) enum Role {
    /// It has stood guard, and all is over.
    Guard(ExitCode),
    /// It does the work, for the guard of this number.
    Supervisor(Pid),
}

/// The signals to forward. Those that were ignored from the start (`nohup`, a job in the background of
/// a script) stay so, for CMD, too.
pub(crate) fn forwarded() -> Vec<Signal> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let is_heard = |signal: &Signal| ignored & (1 << (*signal as i32 - 1)) == 0;
    // The kernel's word that the guard is gone is always heard.
    FORWARDED.into_iter().filter(|one| *one == Signal::SIGTERM || is_heard(one)).collect()
}

/// Becomes two processes; the guard comes back when the other one has ended. The caller has one thread,
/// and no session yet.
#[allow(unsafe_code)]
pub(crate) fn split(session: &str) -> Result<Role, Failure> {
    // Orphans become children of the nearest process that says so.
    prctl::set_child_subreaper(true).map_err(io::Error::from)?;
    // Whoever ignores it has no children to wait for.
    // SAFETY: the default disposition runs no code.
    unsafe { signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map_err(io::Error::from)?;
    let mut heard: SigSet = forwarded().into_iter().collect();
    heard.add(Signal::SIGCHLD);
    let before = heard.thread_swap_mask(signal::SigmaskHow::SIG_BLOCK).map_err(io::Error::from)?;
    let signals = SignalFd::with_flags(&heard, SfdFlags::SFD_CLOEXEC).map_err(io::Error::from)?;
    let guard = getpid();
    // SAFETY: there is one thread, so no lock is held that nobody would free.
    match unsafe { fork() }.map_err(io::Error::from)? {
        ForkResult::Parent { child } => Ok(Role::Guard(stand(child, &signals, session)?)),
        ForkResult::Child => {
            prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from)?;
            before.thread_set_mask().map_err(io::Error::from)?;
            // Killed by name, the guard is not alone.
            let _ = prctl::set_name(c"exec-supervisor");
            match getppid() == guard {
                true => Ok(Role::Supervisor(guard)),
                false => Err(Failure::new(SYSTEM, "it was killed at once")),
            }
        }
    }
}

/// Forwards signals until the supervisor has ended, ends what that has left, and gives its exit code.
fn stand(supervisor: Pid, signals: &SignalFd, session: &str) -> Result<ExitCode, Failure> {
    let status = loop {
        let heard = match signals.read_signal() {
            Ok(Some(heard)) => heard,
            Ok(None) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(io::Error::from(errno).into()),
        };
        let signal = Signal::try_from(heard.ssi_signo as i32).map_err(io::Error::from)?;
        // What the terminal sends, the whole job has got.
        let by_a_process = heard.ssi_code <= 0;
        if signal == Signal::SIGCHLD {
            if let Some(status) = ended(supervisor) {
                break status;
            }
        } else if by_a_process {
            // It may have ended a moment ago.
            let _ = kill(supervisor, signal);
        }
    };
    children::end_all();
    if let WaitStatus::Signaled(_, signal, _) = status {
        if !FORWARDED.contains(&signal) {
            tracing::error!("{signal} ended the supervisor; CMD was ended, too");
        }
        remove(session);
    }
    Ok(ExitCode::from(children::exit_code(status)))
}

/// Reaps those that have ended; how `pid` has, if it is among them.
fn ended(pid: Pid) -> Option<WaitStatus> {
    let mut found = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return found,
            Ok(status) if status.pid() == Some(pid) => found = Some(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return found,
        }
    }
}

/// Removes what the supervisor could not. Somebody may look at it for a moment.
fn remove(session: &str) {
    let end = Instant::now() + GRACE;
    while SharedSession::remove(session).is_err_and(|error| error.kind() == ErrorKind::InUse)
        && Instant::now() < end
    {
        thread::sleep(GRACE / 500);
    }
}
