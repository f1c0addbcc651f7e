//! Forked processes: this program has one thread, so that each may do whatever it likes.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, pipe},
};

/// Runs `work` in a child, which ends with it: with 0 unless it fails or panics.
pub fn start(work: impl FnOnce() -> Result<(), String>) -> Result<Pid, String> {
    // SAFETY: this process has one thread, so no lock is held by a thread that the child lacks.
    match unsafe { fork() }.map_err(|error| format!("fork: {error}"))? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let done = catch_unwind(AssertUnwindSafe(work));
            let code = match done {
                Ok(Ok(())) => 0,
                Ok(Err(problem)) => {
                    eprintln!("{problem}");
                    1
                }
                Err(_) => 101,
            };
            // SAFETY: ends the process without the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
    }
}

/// A child that reports one text. Killed and reaped when dropped.
pub struct Reporter {
    pid: Pid,
    out: File,
    reaped: bool,
}

impl Reporter {
    /// Has a child do `work`, and report what comes of it.
    pub fn start(work: impl FnOnce() -> Result<String, String>) -> Result<Self, String> {
        let (read, write): (OwnedFd, OwnedFd) = pipe().map_err(|error| format!("pipe: {error}"))?;
        let pid = start(|| {
            let report = work().unwrap_or_else(|problem| format!("failed: {problem}"));
            File::from(write).write_all(report.as_bytes()).map_err(|error| error.to_string())
        })?;
        Ok(Reporter { pid, out: File::from(read), reaped: false })
    }

    /// Waits until the child's first thread sleeps, or the child has ended.
    pub fn wait_asleep(&self, limit: Duration) -> Result<(), String> {
        let end = Instant::now() + limit;
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid));
            let stat = stat.map_err(|error| error.to_string())?;
            let state = stat.rsplit(')').next().unwrap_or("").trim_start();
            if state.starts_with(['S', 'Z']) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("a child does not fall asleep within {limit:?}"));
            }
            std::thread::yield_now();
        }
    }

    /// What the child reports, within `limit`.
    pub fn finish(mut self, limit: Duration) -> Result<String, String> {
        let end = Instant::now() + limit;
        let mut said = String::new();
        let mut chunk = [0; 256];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.out.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, left).map_err(|error| error.to_string())? == 0 {
                return Err(format!("a process is not done within {limit:?}"));
            }
            match self.out.read(&mut chunk).map_err(|error| error.to_string())? {
                0 => break,
                n => said.push_str(&String::from_utf8_lossy(&chunk[..n])),
            }
        }
        self.reaped = true;
        match waitpid(self.pid, None) {
            Ok(WaitStatus::Exited(_, 0)) if !said.starts_with("failed: ") => Ok(said),
            Ok(WaitStatus::Exited(_, 0)) => Err(said),
            other => Err(format!("a process ended with {other:?}: {said}")),
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// Waits until `pid` ends, or stops if `stops`, within `limit`.
pub fn wait(pid: Pid, stops: bool, limit: Duration) -> Result<WaitStatus, String> {
    let end = Instant::now() + limit;
    let stopped = if stops { WaitPidFlag::WUNTRACED } else { WaitPidFlag::empty() };
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG | stopped)) {
            Ok(WaitStatus::StillAlive) if Instant::now() > end => {
                return Err(format!("process {pid} neither ends nor stops within {limit:?}"));
            }
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_micros(100)),
            Ok(status) => return Ok(status),
            Err(error) => return Err(format!("waiting for process {pid}: {error}")),
        }
    }
}
