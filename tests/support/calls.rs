//! System calls of a child, one by one: it is traced, and stops at each of them.
#![allow(dead_code, unsafe_code)]

use std::{os::unix::fs::FileExt, ptr::null_mut};

use nix::{
    errno::Errno,
    libc,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::Pid,
};

use crate::support::{Child, Report, child, until};

/// A system call that a thread is about to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub number: libc::c_long,
    pub arguments: [u64; 6],
}

impl Call {
    pub fn is_mark(&self) -> bool {
        self.number == libc::SYS_getppid
    }

    /// A sleep on a futex that processes share.
    pub fn is_shared_sleep(&self) -> bool {
        let operation = self.arguments[1] as i32;
        let sleeps = [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET];
        self.number == libc::SYS_futex && sleeps.contains(&operation)
    }
}

/// A child whose first thread stops before each system call. The threads that it starts do not.
pub struct Traced(Child);

impl Traced {
    /// Runs `work` in a child. It stops for the first time at its first [`mark`].
    pub fn start(work: impl FnOnce(&mut Report)) -> Self {
        let traced = Traced(child(|report| {
            trace(libc::PTRACE_TRACEME as i32, Pid::from_raw(0), 0, null_mut());
            // SAFETY: it stops this process, until its parent goes on.
            assert_eq!(unsafe { libc::raise(libc::SIGSTOP) }, 0);
            work(report);
        }));
        traced.stopped();
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
        trace(libc::PTRACE_SETOPTIONS as i32, traced.0.pid, 0, options as usize as *mut _);
        while !traced.next_call().is_mark() {}
        traced
    }

    /// Lets it go on to its next system call.
    pub fn next_call(&self) -> Call {
        loop {
            trace(libc::PTRACE_SYSCALL as i32, self.0.pid, 0, null_mut());
            if self.stopped() != libc::SIGTRAP | 0x80 {
                continue;
            }
            // The structure `ptrace_syscall_info`, as words.
            let mut info = [0u64; 11];
            let place = info.as_mut_ptr().cast();
            trace(GET_SYSCALL_INFO, self.0.pid, size_of_val(&info), place);
            let [kind, _, _, number, arguments @ ..] = info;
            if kind as u8 == IS_ENTRY {
                let arguments = std::array::from_fn(|at| arguments[at]);
                return Call { number: number as libc::c_long, arguments };
            }
        }
    }

    /// Replaces the first two bytes at `place` in its memory: an argument of the call that it is about to make.
    pub fn spoil(&self, place: u64, value: u16) {
        let mut word = [0; 8];
        let path = format!("/proc/{}/mem", self.0.pid);
        let memory = std::fs::File::options().read(true).write(true).open(path).unwrap();
        memory.read_exact_at(&mut word, place).unwrap();
        word[..2].copy_from_slice(&value.to_ne_bytes());
        memory.write_all_at(&word, place).unwrap();
    }

    /// Lets it go on to its end, which must be a success; gives what it has said.
    pub fn finish(self) -> String {
        trace(libc::PTRACE_DETACH as i32, self.0.pid, 0, null_mut());
        self.0.finish()
    }

    /// The signal with which it stops next.
    fn stopped(&self) -> i32 {
        let mut signal = 0;
        until("a traced child stops", || {
            match waitpid(self.0.pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
                Ok(WaitStatus::PtraceSyscall(_)) => signal = libc::SIGTRAP | 0x80,
                Ok(WaitStatus::Stopped(_, other)) => signal = other as i32,
                Ok(WaitStatus::StillAlive) => {}
                other => panic!("a traced child: {other:?}"),
            }
            signal != 0
        });
        signal
    }
}

/// A system call that says to the parent where a traced child is.
pub fn mark() {
    // SAFETY: it asks for a number.
    unsafe { libc::getppid() };
}

// Not every C library has these two.
const GET_SYSCALL_INFO: i32 = 0x420e;
const IS_ENTRY: u8 = 1;

fn trace(request: i32, pid: Pid, address: usize, data: *mut libc::c_void) {
    // SAFETY: the callers give what the request needs.
    let answer = unsafe { libc::ptrace(request as _, pid.as_raw(), address, data) };
    Errno::result(answer).expect("a process may trace its child");
}
