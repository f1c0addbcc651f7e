//! A process that is traced: stepped through instruction by instruction, or run to a certain one.
//!
//! Its threads run one at a time, in an order that is the same each time: a new thread runs to its end
//! before the one that started it goes on.

use std::{ffi::c_void, time::Duration};

use nix::{
    libc::user_regs_struct,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill, raise},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::{code::Code, processes};

/// How long the kernel may take to stop or to end a process.
const LIMIT: Duration = Duration::from_secs(60);
const BREAKPOINT: i64 = 0xcc;

/// One instruction of a run: the `occurrence`-th time, from 1, that its address is come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    pub address: u64,
    pub occurrence: usize,
}

/// What a thread did when it was let go on.
enum Event {
    /// It made its step, or came to a breakpoint.
    Trapped,
    /// It started a thread, which runs from now on, or ended.
    Switched,
    /// It was the last.
    Ended,
}

/// A traced process, in which nothing moves but by these functions. Killed when dropped.
pub struct Tracee {
    pid: Pid,
    /// The threads: the last one runs, each other one waits until the one after it has ended.
    threads: Vec<Pid>,
}

impl Tracee {
    /// A child that has done `prepare` and stands before `work`.
    pub fn start<T>(
        prepare: impl FnOnce() -> Result<T, String>,
        work: impl FnOnce(T) -> Result<(), String>,
    ) -> Result<Self, String> {
        let pid = processes::start(|| {
            let prepared = prepare()?;
            ptrace::traceme().map_err(|error| format!("being traced: {error}"))?;
            raise(Signal::SIGSTOP).map_err(|error| error.to_string())?;
            work(prepared)
        })?;
        let tracee = Tracee { pid, threads: vec![pid] };
        match wait(pid)? {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
            other => return Err(format!("the traced process begins with {other:?}")),
        }
        let options = Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(pid, options).map_err(|error| format!("tracing: {error}"))?;
        Ok(tracee)
    }

    /// Steps to the end, and calls `at` with the address of each instruction of `code` before it is made.
    /// Gives the number of all steps.
    pub fn step_through(mut self, code: &Code, mut at: impl FnMut(u64)) -> Result<usize, String> {
        let (mut steps, mut last) = (0, 0);
        loop {
            match self.resume(|thread| ptrace::step(thread, None))? {
                Event::Trapped => {}
                Event::Switched => continue,
                Event::Ended => return Ok(steps),
            }
            steps += 1;
            let address = self.registers()?.rip;
            // An instruction that repeats itself traps each time, and is one all the same.
            if address != last && code.contains(address) {
                at(address);
            }
            last = address;
        }
    }

    /// Runs to `point`, of which the instruction is not yet made. False when the process ends before.
    pub fn run_to(&mut self, point: Point) -> Result<bool, String> {
        let at = point.address as *mut c_void;
        let failed = |error| format!("a breakpoint at {at:?}: {error}");
        let original = ptrace::read(self.pid, at).map_err(failed)?;
        let broken = original & !0xff | BREAKPOINT;
        let mut left = point.occurrence;
        ptrace::write(self.current(), at, broken).map_err(failed)?;
        loop {
            match self.resume(|thread| ptrace::cont(thread, None))? {
                Event::Trapped => {}
                Event::Switched => continue,
                Event::Ended => return Ok(false),
            }
            let thread = self.current();
            let registers = self.registers()?;
            if registers.rip != point.address + 1 {
                return Err(format!("trapped at {:#x}, where no breakpoint is", registers.rip));
            }
            ptrace::write(thread, at, original).map_err(failed)?;
            let registers = user_regs_struct { rip: point.address, ..registers };
            ptrace::setregs(thread, registers).map_err(failed)?;
            left -= 1;
            if left == 0 {
                return Ok(true);
            }
            // Past the instruction, which may repeat itself.
            while self.current() == thread && self.registers()?.rip == point.address {
                if let Event::Ended = self.resume(|thread| ptrace::step(thread, None))? {
                    return Ok(false);
                }
            }
            ptrace::write(self.current(), at, broken).map_err(failed)?;
        }
    }

    /// Kills the process where it stands.
    pub fn kill(mut self) -> Result<(), String> {
        self.end()
    }

    /// Stops the process where it stands, as SIGSTOP does, and traces it no longer.
    pub fn stop(mut self) -> Result<Stopped, String> {
        let failed = |error| format!("stopping the traced process: {error}");
        let (current, waiting) = self.threads.split_last().ok_or("the process has ended")?;
        // A thread that waits goes on to sleep until the current one has ended, which it does not.
        for thread in waiting {
            ptrace::detach(*thread, None).map_err(failed)?;
        }
        // The signal comes before the next instruction.
        ptrace::detach(*current, Signal::SIGSTOP).map_err(failed)?;
        let pid = self.pid;
        self.threads.clear();
        let stopped = Stopped(pid);
        match processes::wait(pid, true, LIMIT)? {
            WaitStatus::Stopped(..) => Ok(stopped),
            other => Err(format!("a process that was to stop did {other:?}")),
        }
    }

    fn current(&self) -> Pid {
        self.threads.last().copied().unwrap_or(self.pid)
    }

    fn registers(&self) -> Result<user_regs_struct, String> {
        ptrace::getregs(self.current()).map_err(|error| format!("reading registers: {error}"))
    }

    fn resume(&mut self, how: impl FnOnce(Pid) -> nix::Result<()>) -> Result<Event, String> {
        let thread = self.current();
        how(thread).map_err(|error| format!("resuming thread {thread}: {error}"))?;
        match wait(thread)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(Event::Trapped),
            WaitStatus::PtraceEvent(..) => {
                let started = ptrace::getevent(thread).map_err(|error| error.to_string())?;
                let started = Pid::from_raw(i32::try_from(started).unwrap_or(0));
                wait(started)?;
                self.threads.push(started);
                Ok(Event::Switched)
            }
            WaitStatus::Exited(ended, 0) => {
                self.threads.pop();
                Ok(if ended == self.pid { Event::Ended } else { Event::Switched })
            }
            other => Err(format!("the traced process did {other:?}")),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        if self.threads.is_empty() {
            return Ok(());
        }
        let _ = kill(self.pid, Signal::SIGKILL);
        // The first thread is reaped after all others.
        for thread in self.threads.drain(..).rev() {
            wait(thread)?;
        }
        Ok(())
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// A process that was stopped. Killed when dropped.
pub struct Stopped(Pid);

impl Stopped {
    /// Lets it go on, and waits for its end, which must be a success.
    pub fn finish(self) -> Result<(), String> {
        let pid = self.0;
        kill(pid, Signal::SIGCONT).map_err(|error| format!("SIGCONT: {error}"))?;
        let status = processes::wait(pid, false, LIMIT)?;
        std::mem::forget(self);
        match status {
            WaitStatus::Exited(_, 0) => Ok(()),
            other => Err(format!("the process that was stopped ended with {other:?}")),
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

fn wait(thread: Pid) -> Result<WaitStatus, String> {
    waitpid(thread, Some(WaitPidFlag::__WALL))
        .map_err(|error| format!("waiting for thread {thread}: {error}"))
}
