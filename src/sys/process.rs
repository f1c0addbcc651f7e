//! A process of its own, that the one which made it never sees again.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    sys::{
        prctl,
        signal::{self, SigSet, Signal},
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, getsockname,
            socketpair,
        },
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, fork},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Resource, Rlimit, getrlimit, setrlimit, setsid},
};
use tracing::subscriber::NoSubscriber;

use super::{death_watch, descriptor::ReservedStreams, runtime};

pub(crate) use nix::unistd::Pid;

/// How many threads this process has, without those that are about to end. One that has been joined
/// may still be listed for a moment; it runs nothing of this program any more.
pub(crate) fn threads() -> io::Result<usize> {
    death_watch::join_ended();
    let mut running = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        running += usize::from(!is_exiting(&task?.path())?);
    }
    Ok(running)
}

/// Whether the kernel is taking the task down, or has done so.
pub(super) fn is_exiting(task: &Path) -> io::Result<bool> {
    const PF_EXITING: u64 = 0x4;
    let stat = match std::fs::read_to_string(task.join("stat")) {
        // It ends between the look at the list and this one, or while this reads.
        Err(error) if is_gone(&error) => return Ok(true),
        stat => stat?,
    };
    // After the name, which may hold anything: the state, five numbers, the flags.
    let flags = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(6));
    Ok(flags.is_none_or(|flags| flags.parse().is_ok_and(|flags: u64| flags & PF_EXITING != 0)))
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
}

/// Runs `life` in a new process that is no child of this one: no `waitpid` and no SIGCHLD here ever
/// tells of it. The new process ends with `life`.
///
/// Where orphans come to this process, the one in between lives as long as the new one, after
/// `stand_in`.
///
/// The caller has one thread: after the fork of several, the locks of the others stay locked.
pub(crate) fn detach(life: impl FnOnce(), stand_in: impl FnOnce()) -> io::Result<()> {
    reap_stand_ins();
    let stays = adopts_orphans();
    // A child without an exit signal: only who asks for `__WCLONE` can wait for it.
    // SAFETY: without flags `clone` copies the process as `fork` does, on a copy of this stack. Unlike `fork` it
    // runs no fork handlers, and libc in the child still has the parent's thread id. The first is harmless since
    // this is the only thread: no lock is held that nobody in the child could free. The second matters to
    // `raise`, `pthread_kill` and error-checking mutexes. The child uses none of them: it forks, which corrects
    // both for the grandchild, then runs `stand_in`, waits and ends by `_exit`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    match i32::try_from(pid).unwrap_or(-1) {
        -1 => Err(io::Error::last_os_error()),
        0 => fork_again(life, stays.then_some(stand_in)),
        pid if stays => {
            stand_ins().push(Pid::from_raw(pid));
            Ok(())
        }
        pid => reap(Pid::from_raw(pid)),
    }
}

/// Whether the kernel hands orphans to this process: to the first of a pid namespace, as the server is in
/// most containers, and to one that has asked for it.
fn adopts_orphans() -> bool {
    std::process::id() == 1 || prctl::get_child_subreaper().unwrap_or(false)
}

fn fork_again(life: impl FnOnce(), stand_in: Option<impl FnOnce()>) -> ! {
    if stand_in.is_some() {
        // What the new process has forked comes to this one, if that is killed. Not inherited by it.
        let _ = prctl::set_child_subreaper(true);
    }
    // SAFETY: this process has one thread, since its parent had one (see `detach`): no lock is held that
    // nobody in the child could free.
    let code = match unsafe { fork() } {
        Ok(ForkResult::Child) => i32::from(catch_unwind(AssertUnwindSafe(life)).is_err()),
        Ok(ForkResult::Parent { .. }) => {
            if let Some(stand_in) = stand_in {
                let _ = catch_unwind(AssertUnwindSafe(stand_in));
                while !matches!(waitpid(None, None), Err(nix::errno::Errno::ECHILD)) {}
            }
            0
        }
        Err(errno) => errno as i32,
    };
    exit(code)
}

/// The processes that stand between this one and those that it must not see. Locked by processes of one thread
/// only, so that no fork catches it.
static STAND_INS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn stand_ins() -> MutexGuard<'static, Vec<Pid>> {
    STAND_INS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Buries those that have ended, which nobody else can; forgets those of a parent.
fn reap_stand_ins() {
    let flags = WaitPidFlag::__WCLONE | WaitPidFlag::WNOHANG;
    stand_ins().retain(|&pid| matches!(waitpid(pid, Some(flags)), Ok(WaitStatus::StillAlive)));
}

fn reap(pid: Pid) -> io::Result<()> {
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WCLONE)) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Ok(_) => return Err(io::Error::other("the forked process was killed")),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Runs `life` in a child, which says by true that it came to its end. The caller has one thread.
pub(crate) fn child(life: impl FnOnce() -> bool) -> io::Result<Pid> {
    // SAFETY: the caller has one thread: no lock is held that nobody in the child could free.
    match unsafe { fork() }? {
        ForkResult::Child => {
            exit(i32::from(!catch_unwind(AssertUnwindSafe(life)).unwrap_or(false)))
        }
        ForkResult::Parent { child } => Ok(child),
    }
}

/// Waits for the end of a child, at most `limit`: true if its life came to one, and said so; `None` while
/// it lives.
pub(crate) fn wait(child: Pid, limit: Option<Duration>) -> io::Result<Option<bool>> {
    let fd = limit.and_then(|_| death_watch::open(child.as_raw().unsigned_abs()));
    // Where the kernel gives no descriptor, the wait is for the end.
    if let (Some(limit), Some(fd)) = (limit, fd)
        && !readable(&fd, limit)?
    {
        return Ok(None);
    }
    loop {
        match waitpid(child, None) {
            Err(nix::errno::Errno::EINTR) => {}
            status => return Ok(Some(matches!(status?, WaitStatus::Exited(_, 0)))),
        }
    }
}

/// Waits until `fd` has something to read, or comes to its end: false when it has not within `limit`.
pub(crate) fn readable(fd: &impl AsFd, limit: Duration) -> io::Result<bool> {
    let end = Instant::now().checked_add(limit);
    loop {
        let left =
            end.map(|end| death_watch::timespec(end.saturating_duration_since(Instant::now())));
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

/// Kills a child that has not been waited for yet.
pub(crate) fn kill(child: Pid) {
    // It fails for one that has ended.
    let _ = signal::kill(child, Signal::SIGKILL);
}

/// Lets the program that `command` starts inherit `fds`, under the numbers that they have here. They
/// stay open here as long as the command is there.
pub(crate) fn keep_on_exec(command: &mut Command, fds: Vec<OwnedFd>) {
    let keep = move || {
        for fd in &fds {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes async-signal-safe system calls only. To turn an errno
    // into an `io::Error` allocates nothing.
    unsafe { command.pre_exec(keep) };
}

/// Gives the program that `command` starts a session of its own: no terminal, and the lead of a process
/// group.
pub(crate) fn lead_session(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one async-signal-safe system call. To turn an errno into
    // an `io::Error` allocates nothing.
    unsafe { command.pre_exec(|| Ok(setsid().map(drop)?)) };
}

/// Ends this process at once; exit handlers belong to the one that it was forked from.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: `_exit` does not return and runs no code of this process.
    unsafe { libc::_exit(code) }
}

/// Runs `work` on a thread of its own, where nothing is left of what surrounded the fork: no async runtime,
/// and no subscriber to events, which may wait for threads that are not there. A closed connection is an
/// error there and no SIGPIPE. `None` when it panicked.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<Option<T>> {
    let work = || {
        SigSet::from(Signal::SIGPIPE).thread_block()?;
        Ok(tracing::subscriber::with_default(NoSubscriber::default(), work))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work)?;
        thread.join().ok().transpose()
    })
}

/// Makes a forked process one of its own: a session without a terminal, default signals, no core
/// dump, the name `title`, and no descriptor of its parent's but `keep`.
pub(crate) fn isolate(title: &str, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    setsid()?;
    reset_signals()?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let keep: Vec<RawFd> = keep.iter().map(AsRawFd::as_raw_fd).collect();
    close_others(&keep)?;
    set_title(title);
    Ok(())
}

fn reset_signals() -> io::Result<()> {
    for number in 1..=64 {
        // SAFETY: the default disposition runs no code of this process. The call fails for SIGKILL, for SIGSTOP
        // and for the signals that libc reserves; their dispositions cannot be changed.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Takes the parent's descriptors away. Each number leads to `/dev/null` from then on, since whoever still
/// knows it, such as a logger, would write to what is opened under it next.
///
/// A Unix socket is replaced by one that leads nowhere: an async runtime that the parent has used keeps
/// such a pair for the life of the process, and makes the next runtime from it.
fn close_others(keep: &[RawFd]) -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let reserved = ReservedStreams::new();
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // Nobody reads from the other end: a writer is not to wait for that.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    let ours = [null.as_raw_fd(), pair.0.as_raw_fd(), pair.1.as_raw_fd()];
    // The standard streams are open from here on: nothing that is opened later takes their place.
    let open = open.into_iter().chain(0..=2);
    for fd in open.filter(|fd| !keep.contains(fd) && !ours.contains(fd)) {
        let (to, flags) = match fd {
            0..=2 => (ours[0], 0),
            _ if is_unix_socket(fd) => (ours[1], libc::O_CLOEXEC),
            _ => (ours[0], libc::O_CLOEXEC),
        };
        // SAFETY: `dup3` touches no memory. Values of the parent that own these numbers are copies that this
        // process never drops, because it ends by `exit`. The descriptors that it does use are in `keep`.
        unsafe { libc::dup3(to, fd, flags) };
    }
    drop(reserved);
    runtime::forget();
    // The other end stays open, or the sockets would report its end for ever.
    std::mem::forget(pair);
    // The numbers that are taken are not to be missing.
    let most = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?)
}

fn is_unix_socket(fd: RawFd) -> bool {
    getsockname::<SockaddrStorage>(fd)
        .is_ok_and(|address| address.family() == Some(AddressFamily::Unix))
}

/// Sets the name that `ps` shows. Failing to is no harm.
fn set_title(title: &str) {
    if let Ok(name) = CString::new(title) {
        // The kernel cuts it to 15 bytes.
        let _ = prctl::set_name(&name);
    }
    let Some((start, end)) = argument_range() else { return };
    let room = end - start;
    let shown = title.len().min(room.saturating_sub(1));
    let start = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the kernel reports this range as the program's arguments. `exec` put them on the stack of the
    // first thread, which is writable and stays mapped until the process ends. A program that moved the range
    // (`PR_SET_MM`) must keep its new place mapped and writable. This process was forked just now and has one
    // thread, so nothing reads the bytes during the write. `title` is not part of the range: it was allocated
    // after `exec`. `shown` bytes fit into both.
    unsafe { std::ptr::copy_nonoverlapping(title.as_ptr(), start, shown) };
    // SAFETY: `shown` is less than `room`, or both are 0: the pointer stays in the range.
    let rest = unsafe { start.add(shown) };
    // SAFETY: the same range, from `rest` to its end. The last byte becomes 0, so that code which reads the
    // arguments later, such as `std::env::args`, finds strings with an end.
    unsafe { std::ptr::write_bytes(rest, 0, room - shown) };
}

/// Where the program's arguments are: fields 48 and 49 of the process's `stat`.
fn argument_range() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field may hold spaces; the third follows its parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(48 - 3);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (0 < start && start < end).then_some((start, end))
}
