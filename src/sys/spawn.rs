//! Starts a program in a process that is no child of this one, also while this process has other threads.
//!
//! Between `clone` and `exec` the new processes make system calls only, on memory that was prepared before: a lock that
//! another thread held at the `clone` stays locked there.

use std::{
    ffi::{CString, OsString, c_char},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr,
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow},
        wait::WaitPidFlag,
    },
    unistd::Pid,
};

use super::process::{self, adopts_orphans};

/// The most descriptors that a program gets. Copies of them have larger numbers at first.
const MOST: usize = 8;
/// The first byte of what is written for a program that cannot be started. The errno follows.
pub(crate) const NOT_STARTED: u8 = 0x15;

/// What the new processes need.
struct Plan<'a> {
    path: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    /// Each becomes the descriptor with its place as number.
    fds: &'a [RawFd],
    /// Where a failure is reported.
    report: RawFd,
    stays: bool,
}

/// Starts `program` with `arguments`, the first of which is its name, and no environment. It gets `fds` as its descriptors
/// 0, 1, … and no others. Its end causes no SIGCHLD here, and no `waitpid` here returns it. If it cannot be started,
/// [`NOT_STARTED`] and the errno are written to its descriptor `report`.
pub(crate) fn detached(
    program: &Path,
    arguments: &[&str],
    fds: &[BorrowedFd<'_>],
    report: usize,
) -> io::Result<()> {
    process::reap_stand_ins();
    let path = CString::new(program.as_os_str().as_bytes())?;
    let arguments: Vec<CString> =
        arguments.iter().map(|text| CString::new(*text)).collect::<Result<_, _>>()?;
    let arguments: Vec<*const c_char> =
        arguments.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
    // The new process makes the copies: to close one of a lock file here would free the locks of this process.
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    assert!(numbers.len() <= MOST, "a constant of the callers");
    let environment = [ptr::null()];
    let plan = Plan {
        path: path.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        fds: &numbers,
        report: report as RawFd,
        stays: adopts_orphans(),
    };
    // A signal handler of this process must not run in the new ones.
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // A child without an exit signal: only a `waitpid` with `__WCLONE` returns it.
    let pid = clone(0);
    if pid == 0 {
        in_between(&plan);
    }
    let failed = io::Error::last_os_error();
    mask.thread_set_mask()?;
    match pid {
        -1 => Err(failed),
        pid if plan.stays => {
            process::keep_stand_in(Pid::from_raw(pid));
            Ok(())
        }
        pid => process::reap(Pid::from_raw(pid)),
    }
}

/// 0 in the new process, its pid in this one, -1 after a failure.
fn clone(signal: i32) -> i32 {
    // SAFETY: without other flags `clone` copies the process as `fork` does, on a copy of this stack. It runs no fork
    // handlers, and other threads may hold locks that nothing frees in the copy. The copy makes system calls only, until it
    // calls `exec` or `_exit`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(signal), 0, 0, 0, 0) };
    i32::try_from(pid).unwrap_or(-1)
}

/// The process in between: it starts the program's and ends. If the parent adopts orphans, it stays as the parent of what
/// the program leaves, without descriptors.
fn in_between(plan: &Plan<'_>) -> ! {
    if plan.stays {
        let _ = prctl::set_child_subreaper(true);
    }
    match clone(libc::SIGCHLD) {
        0 => become_program(plan),
        -1 => process::exit(Errno::last_raw()),
        _ if plan.stays => {
            close_from(0);
            let ended = || process::wait_for(None, WaitPidFlag::WEXITED);
            while matches!(ended(), Ok(_) | Err(Errno::EINTR)) {}
            process::exit(0)
        }
        _ => process::exit(0),
    }
}

fn become_program(plan: &Plan<'_>) -> ! {
    let mut copies = [-1; MOST];
    for (copy, source) in copies.iter_mut().zip(plan.fds) {
        // SAFETY: the call touches no memory, and gives a number that nothing uses.
        *copy = unsafe { libc::fcntl(*source, libc::F_DUPFD, MOST as i32) };
    }
    for (target, copy) in (0..).zip(&copies[..plan.fds.len()]) {
        // SAFETY: the call touches no memory. No code of this process uses the numbers below `MOST`: it ends by `exec` or
        // `_exit`.
        unsafe { libc::dup2(*copy, target) };
    }
    close_from(plan.fds.len() as RawFd);
    // SAFETY: the path and both arrays were made before the `clone`, end with a zero, and live in this copy of the memory.
    unsafe { libc::execve(plan.path, plan.arguments, plan.environment) };
    let [first, second, third, fourth] = Errno::last_raw().to_le_bytes();
    let report = [NOT_STARTED, first, second, third, fourth];
    // SAFETY: the array is readable for its length.
    unsafe { libc::write(plan.report, report.as_ptr().cast(), report.len()) };
    process::exit(1)
}

/// Closes all descriptors from `first` on. Kernels before 5.9 cannot do that; there only those without close-on-exec stay
/// open, and the program gives them up itself.
fn close_from(first: RawFd) {
    // SAFETY: the call touches no memory. Nothing in this process uses a descriptor of that range any more.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Gives this process the environment that it was started without.
pub(crate) fn set_environment(variables: impl IntoIterator<Item = (OsString, OsString)>) {
    for (name, value) in variables {
        // SAFETY: the caller has one thread, so nothing reads the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
}
