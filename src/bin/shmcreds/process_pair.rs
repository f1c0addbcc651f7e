//! The two processes of `exec`: guard and supervisor.
//!
//! The guard is the process that was started. It forks the supervisor and waits for it. The supervisor keeps
//! the session and starts CMD. Each process notices the end of the other and cleans up:
//!
//! | killed | who notices | what happens |
//! | --- | --- | --- |
//! | CMD | the supervisor, its parent | ends the processes that CMD has left, removes the session, and exits |
//! | the supervisor | the kernel kills CMD; the guard, its parent | adopts all orphans, ends them, and removes the session |
//! | the guard | the supervisor, by a signal of the kernel | ends CMD, and then as in the first row |
//!
//! If both are killed at the same moment, the kernel kills CMD by its parent-death signal. A change of
//! credentials clears that signal. Then the kill switch kills CMD. Processes that CMD has started go on, and
//! the session's name stays until the next `exec`.

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
    command_error::{CommandError, Doing, SYSTEM},
};

/// The signals that are forwarded to CMD. The stop signals of a terminal are not needed: they stop each process of the
/// job.
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

/// The number on Linux. The libc crate does not define it for every machine.
const F_SETSIG: libc::c_int = 10;

/// Which of the two processes this is.
pub(crate) enum Role {
    /// The guard, after the supervisor has ended.
    Guard(ExitCode),
    /// The supervisor.
    Supervisor(Guarded),
}

/// What the supervisor knows about its guard.
pub(crate) struct Guarded {
    pub(crate) guard: Pid,
    pub(crate) kill_switch: KillSwitch,
}

/// A pipe. Guard and supervisor hold its writing end, and CMD the reading end. When both are gone, the kernel
/// kills CMD.
pub(crate) struct KillSwitch {
    reader: PipeReader,
    _writer: PipeWriter,
}

impl KillSwitch {
    fn new() -> io::Result<Self> {
        let (reader, _writer) = io::pipe()?;
        Ok(KillSwitch { reader, _writer })
    }

    /// Makes the kernel kill the calling process. The caller is the child that becomes CMD.
    #[allow(unsafe_code)]
    pub(crate) fn tie_to_this_process(&self) -> io::Result<()> {
        let reader = self.reader.as_raw_fd();
        let (pid, signal) = (getpid().as_raw(), Signal::SIGKILL as i32);
        for (command, argument) in [
            (libc::F_SETOWN, pid),
            (F_SETSIG, signal),
            (libc::F_SETFL, libc::O_ASYNC),
            // CMD keeps it across `execve`.
            (libc::F_SETFD, 0),
        ] {
            // SAFETY: `self` owns the descriptor, and these commands take a number.
            Errno::result(unsafe { libc::fcntl(reader, command, argument) })?;
        }
        Ok(())
    }
}

/// The signals to forward. Signals that were ignored at the start stay ignored, also for CMD (`nohup`, a
/// background job of a script).
pub(crate) fn forwarded() -> Vec<Signal> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let is_not_ignored = |signal: &Signal| ignored & (1 << (*signal as i32 - 1)) == 0;
    // SIGTERM is always included: the kernel sends it when the guard is gone.
    FORWARDED.into_iter().filter(|one| *one == Signal::SIGTERM || is_not_ignored(one)).collect()
}

/// Lets this thread get the signals. A program that blocks them may have started this one, and then no thread would. CMD
/// starts with the mask of the main thread.
pub(crate) fn unblock() {
    let _ = FORWARDED.into_iter().collect::<SigSet>().thread_unblock();
}

/// Forks. In the guard, it returns when the supervisor has ended. The caller must have one thread and no session.
#[allow(unsafe_code)]
pub(crate) fn split(session: &str) -> Result<Role, CommandError> {
    // Orphans become children of the nearest subreaper.
    prctl::set_child_subreaper(true).doing("adopting orphans (prctl)")?;
    // A process that ignores SIGCHLD cannot wait for its children.
    // SAFETY: the default disposition runs no code.
    unsafe { signal::signal(Signal::SIGCHLD, SigHandler::SigDfl) }
        .doing("handling SIGCHLD (sigaction)")?;
    let mut heard: SigSet = forwarded().into_iter().collect();
    heard.add(Signal::SIGCHLD);
    let before = heard
        .thread_swap_mask(signal::SigmaskHow::SIG_BLOCK)
        .doing("blocking signals (sigprocmask)")?;
    let signals =
        SignalFd::with_flags(&heard, SfdFlags::SFD_CLOEXEC).doing("reading signals (signalfd)")?;
    let (guard, kill_switch) = (getpid(), KillSwitch::new().doing("making a pipe")?);
    // SAFETY: there is only one thread, so no other thread can hold a lock.
    match unsafe { fork() }.doing("forking the supervisor")? {
        ForkResult::Parent { child } => {
            let code = self::guard(child, &signals, session)?;
            drop(kill_switch);
            Ok(Role::Guard(code))
        }
        ForkResult::Child => {
            prctl::set_pdeathsig(Signal::SIGTERM)
                .doing("asking for a signal at the end of the guard (prctl)")?;
            before.thread_set_mask().doing("unblocking signals (sigprocmask)")?;
            // With another name, `pkill` of one of them does not also kill the other.
            let _ = prctl::set_name(c"exec-supervisor");
            match getppid() == guard {
                true => Ok(Role::Supervisor(Guarded { guard, kill_switch })),
                false => Err(CommandError::new(SYSTEM, "the guard was killed at the start")),
            }
        }
    }
}

/// Forwards signals until the supervisor has ended. Then it ends the processes that are left, and gives the exit code.
fn guard(supervisor: Pid, signals: &SignalFd, session: &str) -> Result<ExitCode, CommandError> {
    let status = loop {
        let heard = match signals.read_signal() {
            Ok(Some(heard)) => heard,
            Ok(None) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno).doing("reading a signal"),
        };
        let signal = Signal::try_from(heard.ssi_signo as i32).doing("reading a signal")?;
        // The whole job has got a signal of the terminal already.
        let by_a_process = heard.ssi_code <= 0;
        if signal == Signal::SIGCHLD {
            if let Some(status) = ended(supervisor) {
                break status;
            }
        } else if by_a_process {
            // It may have ended already.
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

/// Reaps the children that have ended. Gives the status of `pid` if it is one of them.
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

/// Removes the session that the supervisor could not remove. Another process may be attached for a moment.
fn remove(session: &str) {
    let end = Instant::now() + GRACE;
    while SharedSession::remove(session).is_err_and(|error| error.kind() == ErrorKind::InUse)
        && Instant::now() < end
    {
        thread::sleep(GRACE / 500);
    }
}
