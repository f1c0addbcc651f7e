//! The embedded STS in a child process.

use std::{
    future::pending,
    io,
    net::TcpListener,
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{SigHandler, SigSet, Signal, signal},
    },
    unistd::{ForkResult, Pid, fork, getpid, getppid},
};
use rustix::process::{
    PidfdFlags, WaitId, WaitIdOptions, kill_process, pidfd_open, pidfd_send_signal, waitid,
};

use super::server;
use crate::sys::process;

/// A child process that runs the server. The pidfd always refers to this child, even after other code reaped it and the
/// kernel reused its pid. Kernels without pidfds have the pid alone.
#[derive(Debug)]
pub(crate) struct Child {
    pid: rustix::process::Pid,
    pidfd: Option<OwnedFd>,
}

impl Child {
    /// Forks a child that serves the listener until it is killed, or its parent dies.
    pub(crate) fn spawn(listener: TcpListener) -> io::Result<Self> {
        refuse_threads()?;
        let parent = getpid();
        match fork_process()? {
            ForkResult::Child => serve_and_exit(parent, listener),
            ForkResult::Parent { child } => Self::adopt(child),
        }
    }

    fn adopt(child: Pid) -> io::Result<Self> {
        let pid = rustix::process::Pid::from_raw(child.as_raw())
            .ok_or_else(|| io::Error::other("fork gave no pid"))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok();
        Ok(Child { pid, pidfd })
    }

    /// Kills the child and reaps it. An error means that other code did so before.
    pub(crate) fn kill(&self) {
        let kill = rustix::process::Signal::KILL;
        let _ = match &self.pidfd {
            Some(pidfd) => pidfd_send_signal(pidfd, kill),
            None => kill_process(self.pid, kill),
        };
        let wait = || match &self.pidfd {
            Some(pidfd) => waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED),
            None => waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED),
        };
        while matches!(wait(), Err(rustix::io::Errno::INTR)) {}
    }
}

/// Refuses a process with several threads: after a fork, its child might not even be able to allocate memory.
fn refuse_threads() -> io::Result<()> {
    let threads = process::threads()?;
    if threads == 1 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "LocalSts::fork needs a process with one thread, but this one has {threads}: call it \
         before anything that starts threads (a runtime, the test harness), or use \
         LocalSts::start"
    )))
}

#[allow(unsafe_code)]
fn fork_process() -> nix::Result<ForkResult> {
    // SAFETY: `refuse_threads` has checked that this is the only thread. So no thread that the child lacks holds a lock,
    // and the child may call any function.
    unsafe { fork() }
}

/// The body of the child. It must not unwind or return into the code of the parent.
fn serve_and_exit(parent: Pid, listener: TcpListener) -> ! {
    let served = catch_unwind(AssertUnwindSafe(|| {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above.
        if getppid() == parent {
            reset_signals()?;
            process::apart(|| server::run(listener, pending()))?.transpose()?;
        }
        io::Result::Ok(())
    }));
    exit(i32::from(!matches!(served, Ok(Ok(())))))
}

/// Resets the signal handlers of the parent: in the child they would use a copy of its state.
#[allow(unsafe_code)]
fn reset_signals() -> io::Result<()> {
    for one in Signal::iterator() {
        let handler = match one {
            Signal::SIGKILL | Signal::SIGSTOP => continue,
            // Ctrl-C and Ctrl-\ signal all foreground processes of the terminal, but the server must run until its
            // parent has shut down. SIGPIPE is ignored, so that writes to a closed socket return an error.
            Signal::SIGINT | Signal::SIGQUIT | Signal::SIGPIPE => SigHandler::SigIgn,
            _ => SigHandler::SigDfl,
        };
        // SAFETY: neither disposition runs a handler.
        unsafe { signal(one, handler) }?;
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

#[allow(unsafe_code)]
fn exit(code: i32) -> ! {
    // SAFETY: `_exit` ends the process at once. It runs no exit handlers, which belong to the parent.
    unsafe { nix::libc::_exit(code) }
}
