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
//! When both are killed at once, CMD is, too: by its parent-death signal, and, where it has changed its
//! credentials, which clears that, by the kill switch. What CMD has started is not, and the session's name
//! stays until the next `exec`.

use std::{
    fs,
    io::{self, PipeReader, PipeWriter},
    os::fd::AsRawFd,
    process::ExitCode,
    thread,
    time::Instant,
};

use nix::{
    errno::Errno,
    libc,
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
    command_error::{CommandError, SYSTEM},
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

/// Linux's number, which the libc crate does not have for every machine.
const F_SETSIG: libc::c_int = 10;

/// Which of the two a process is.
pub(crate) enum Role {
    /// It has stood guard, and all is over.
    Guard(ExitCode),
    /// It does the work.
    Supervisor(Guarded),
}

/// What the supervisor knows of its guard.
pub(crate) struct Guarded {
    pub(crate) guard: Pid,
    pub(crate) kill_switch: KillSwitch,
}

/// A pipe of which guard and supervisor hold the writing end. The kernel kills CMD, which holds the reading
/// end, when the last of the two is gone.
pub(crate) struct KillSwitch {
    reader: PipeReader,
    _writer: PipeWriter,
}

impl KillSwitch {
    fn new() -> io::Result<Self> {
        let (reader, _writer) = io::pipe()?;
        Ok(KillSwitch { reader, _writer })
    }

    /// Ties the calling process to it, which is CMD before it is executed.
    #[allow(unsafe_code)]
    pub(crate) fn tie_to_this_process(&self) -> io::Result<()> {
        let reader = self.reader.as_raw_fd();
        let (pid, signal) = (getpid().as_raw(), Signal::SIGKILL as i32);
        for (command, argument) in [
            (libc::F_SETOWN, pid),
            (F_SETSIG, signal),
            (libc::F_SETFL, libc::O_ASYNC),
            // CMD holds it after `exec`, too.
            (libc::F_SETFD, 0),
        ] {
            // SAFETY: it is a descriptor of ours, and these commands take a number.
            Errno::result(unsafe { libc::fcntl(reader, command, argument) })?;
        }
        Ok(())
    }
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
pub(crate) fn split(session: &str) -> Result<Role, CommandError> {
    // Orphans become children of the nearest process that says so.
    prctl::set_child_subreaper(true).map_err(io::Error::from)?;
    // Whoever ignores it has no children to wait for.
    // SAFETY: the default disposition runs no code.
    unsafe { signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map_err(io::Error::from)?;
    let mut heard: SigSet = forwarded().into_iter().collect();
    heard.add(Signal::SIGCHLD);
    let before = heard.thread_swap_mask(signal::SigmaskHow::SIG_BLOCK).map_err(io::Error::from)?;
    let signals = SignalFd::with_flags(&heard, SfdFlags::SFD_CLOEXEC).map_err(io::Error::from)?;
    let (guard, kill_switch) = (getpid(), KillSwitch::new()?);
    // SAFETY: there is one thread, so no lock is held that nobody would free.
    match unsafe { fork() }.map_err(io::Error::from)? {
        ForkResult::Parent { child } => {
            let code = stand(child, &signals, session)?;
            drop(kill_switch);
            Ok(Role::Guard(code))
        }
        ForkResult::Child => {
            prctl::set_pdeathsig(Signal::SIGTERM).map_err(io::Error::from)?;
            before.thread_set_mask().map_err(io::Error::from)?;
            // Killed by name, the guard is not alone.
            let _ = prctl::set_name(c"exec-supervisor");
            match getppid() == guard {
                true => Ok(Role::Supervisor(Guarded { guard, kill_switch })),
                false => Err(CommandError::new(SYSTEM, "it was killed at once")),
            }
        }
    }
}

/// Forwards signals until the supervisor has ended, ends what that has left, and gives its exit code.
fn stand(supervisor: Pid, signals: &SignalFd, session: &str) -> Result<ExitCode, CommandError> {
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
