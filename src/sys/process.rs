//! Forks processes, isolates them from their parent, and waits for them.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{self, SigSet, Signal},
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, getsockname,
            socketpair,
        },
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::{ForkResult, fork},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::setsid,
};
use tracing::subscriber::NoSubscriber;

use super::{
    death_watch,
    descriptor::{self, ReservedStreams},
    fork::{ForkLock, LockOrder},
    runtime, task,
};

pub(crate) use nix::unistd::Pid;

/// How often a process looks after a child if the kernel has no event for its end.
const LOOK: Duration = Duration::from_millis(50);

/// The number of threads of this process, without threads that are exiting. The kernel lists a joined thread for
/// a moment longer, but it no longer runs code of this program.
pub(crate) fn threads() -> io::Result<usize> {
    death_watch::join_ended();
    let mut running = 0;
    let tasks = match std::fs::read_dir("/proc/self/task") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return threads_without_proc(),
        tasks => tasks?,
    };
    for task in tasks {
        running += usize::from(!task::is_exiting(&task?.path())?);
    }
    Ok(running)
}

/// 1 or 2, for several. The kernel lets only a process with one thread give up sharing with its threads, which changes
/// nothing there.
fn threads_without_proc() -> io::Result<usize> {
    // SAFETY: in a process with one thread the call has no effect, and in any other one it fails.
    match Errno::result(unsafe { libc::unshare(libc::CLONE_THREAD) }) {
        Ok(_) => Ok(1),
        Err(Errno::EINVAL) => Ok(2),
        Err(errno) => Err(errno.into()),
    }
}

/// Runs `body` in a new process that is a grandchild of this process. Its end causes no SIGCHLD here, and no
/// `waitpid` here returns it. The new process exits after `body`.
///
/// The process in between normally exits at once. If this process adopts orphans, it would become the parent of
/// the new process. Then the process in between runs `stand_in`, and exits after the new process.
///
/// The caller must have one thread: a forked child inherits locks that other threads hold, and nothing frees them.
pub(crate) fn detach(body: impl FnOnce(), stand_in: impl FnOnce()) -> io::Result<()> {
    reap_stand_ins();
    let stays = adopts_orphans();
    // A child without an exit signal: only a `waitpid` with `__WCLONE` returns it.
    // SAFETY: without flags `clone` copies the process as `fork` does, on a copy of this stack. Unlike `fork` it
    // runs no fork handlers, and libc in the child still has the parent's thread id. The first is harmless since
    // this is the only thread: no thread that the child lacks holds a lock. The second matters to
    // `raise`, `pthread_kill` and error-checking mutexes. The child uses none of them: it forks, which corrects
    // both for the grandchild, then runs `stand_in`, waits and ends by `_exit`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    match i32::try_from(pid).unwrap_or(-1) {
        -1 => Err(io::Error::last_os_error()),
        0 => fork_again(body, stays.then_some(stand_in)),
        pid if stays => {
            keep_stand_in(Pid::from_raw(pid));
            Ok(())
        }
        pid => reap(Pid::from_raw(pid)),
    }
}

/// Whether this process adopts orphans: as the first process of a pid namespace (most servers in containers), or as
/// a subreaper.
pub(super) fn adopts_orphans() -> bool {
    std::process::id() == 1 || prctl::get_child_subreaper().unwrap_or(false)
}

fn fork_again(body: impl FnOnce(), stand_in: Option<impl FnOnce()>) -> ! {
    if stand_in.is_some() {
        // If the new process is killed, this process adopts its children. The new process does not inherit the
        // setting.
        let _ = prctl::set_child_subreaper(true);
    }
    // SAFETY: this process has one thread, since its parent had one (see `detach`): no thread that the child lacks
    // holds a lock.
    let code = match unsafe { fork() } {
        Ok(ForkResult::Child) => i32::from(catch_unwind(AssertUnwindSafe(body)).is_err()),
        Ok(ForkResult::Parent { .. }) => {
            if let Some(stand_in) = stand_in {
                let _ = catch_unwind(AssertUnwindSafe(stand_in));
                // An error: there are no children any more, or this process cannot wait for them.
                while matches!(wait_for(None, WaitPidFlag::WEXITED), Ok(_) | Err(Errno::EINTR)) {}
            }
            0
        }
        Err(errno) => errno as i32,
    };
    exit(code)
}

/// The processes in between that are left running.
static STAND_INS: ForkLock<Vec<Pid>> = ForkLock::new(LockOrder::StandIns, Vec::new());

/// Keeps a process in between, which is reaped later.
pub(super) fn keep_stand_in(pid: Pid) {
    STAND_INS.lock().push(pid);
}

/// Reaps the processes in between that have exited; no other code can. Forgets those of a parent process.
pub(super) fn reap_stand_ins() {
    let flags = WaitPidFlag::__WCLONE | WaitPidFlag::WNOHANG | WaitPidFlag::WEXITED;
    STAND_INS
        .lock()
        .retain(|&pid| matches!(wait_for(Some(pid), flags), Ok(WaitStatus::StillAlive)));
}

pub(super) fn reap(pid: Pid) -> io::Result<()> {
    loop {
        match wait_for(Some(pid), WaitPidFlag::__WCLONE | WaitPidFlag::WEXITED) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Ok(_) => return Err(io::Error::other("the forked process was killed")),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Runs `body` in a child process. The child exits with status 0 when `body` returns true. The caller must have one
/// thread, as for [`detach`].
pub(crate) fn child(body: impl FnOnce() -> bool) -> io::Result<Pid> {
    // SAFETY: the caller has one thread: no thread that the child lacks holds a lock.
    match unsafe { fork() }? {
        ForkResult::Child => {
            exit(i32::from(!catch_unwind(AssertUnwindSafe(body)).unwrap_or(false)))
        }
        ForkResult::Parent { child } => Ok(child),
    }
}

/// Waits until a child exits, at most `limit`, and reaps it. True when it exited with status 0; `None` when it still
/// runs.
pub(crate) fn wait(child: Pid, limit: Option<Duration>) -> io::Result<Option<bool>> {
    let fd = limit.and_then(|_| death_watch::open(child.as_raw().unsigned_abs()));
    let mut flags = WaitPidFlag::WEXITED;
    match (limit, fd) {
        (Some(limit), Some(fd)) if !readable(&fd, limit)? => return Ok(None),
        // The kernel gives no pidfd, so look again and again.
        (Some(_), None) => flags |= WaitPidFlag::WNOHANG,
        _ => {}
    }
    let end = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        match wait_for(Some(child), flags) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::StillAlive) => {
                let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return Ok(None);
                }
                thread::sleep(left.min(LOOK));
            }
            status => return Ok(Some(matches!(status?, WaitStatus::Exited(_, 0)))),
        }
    }
}

/// Checks that this process, which has no children, may wait for some.
pub(crate) fn check_waiting() -> io::Result<()> {
    match wait_for(None, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
        Ok(_) | Err(Errno::ECHILD) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits for `child`, or for any, by `waitid` if the kernel refuses `wait4`. `WEXITED` must be among the flags.
pub(super) fn wait_for(child: Option<Pid>, flags: WaitPidFlag) -> nix::Result<WaitStatus> {
    match waitpid(child, Some(flags - WaitPidFlag::WEXITED)) {
        Err(Errno::ENOSYS | Errno::EPERM) => waitid(child.map_or(Id::All, Id::Pid), flags),
        status => status,
    }
}

/// Waits until `fd` has data or reached its end. False after `limit`.
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

/// Kills a child that has not been reaped yet.
pub(crate) fn kill(child: Pid) {
    // An error means that the child has exited.
    let _ = signal::kill(child, Signal::SIGKILL);
}

/// Lets the program that `command` starts inherit `fds` under their numbers in this process. `command` owns them.
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

/// Makes the program that `command` starts the leader of a new session and process group, without a terminal.
pub(crate) fn lead_session(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one async-signal-safe system call. To turn an errno into
    // an `io::Error` allocates nothing.
    unsafe { command.pre_exec(|| Ok(setsid().map(drop)?)) };
}

/// Ends this process at once, without exit handlers: they belong to the process that it was forked from.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: `_exit` does not return and runs no code of this process.
    unsafe { libc::_exit(code) }
}

/// Runs `work` on a new thread, free of the state that the forking thread had: without its async runtime, and
/// without its tracing subscriber, which may wait for threads that the child does not have. SIGPIPE is blocked, so
/// a closed connection is an error. `None` when `work` panicked.
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

/// Isolates a forked process from its parent: a new session without a terminal, default signal handlers, no core
/// dumps, the name `title`, and no descriptors of the parent except `keep`.
pub(crate) fn isolate(title: &str, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    setsid()?;
    reset_signals()?;
    // Where a sandbox refuses the limit, the kernel dumps no process that says so itself.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).or_else(|_| prctl::set_dumpable(false))?;
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

/// Redirects the parent's descriptors to `/dev/null`. It does not close them: code that still knows a number, such
/// as a logger, would write into the next file that gets it.
///
/// Unix sockets are replaced by a new, unused socket. If the parent used an async runtime, tokio keeps a socket pair
/// until the process exits, and makes the next runtime from it.
fn close_others(keep: &[RawFd]) -> io::Result<()> {
    let open = open_descriptors()?;
    // The redirected numbers stay in use, and a number above the limit cannot be redirected.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Without that it works, too, as long as there are numbers left.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
    let reserved = ReservedStreams::new();
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    // Nothing reads from the other end, so writes must not block.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let pair = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    let ours = [null.as_raw_fd(), pair.0.as_raw_fd(), pair.1.as_raw_fd()];
    // Include closed standard streams: from here on they are open, so no later file gets their numbers.
    let open = open.into_iter().chain(0..=2);
    for fd in open.filter(|fd| !keep.contains(fd) && !ours.contains(fd)) {
        let (to, flags) = match fd {
            0..=2 => (ours[0], 0),
            _ if is_unix_socket(fd) => (ours[1], libc::O_CLOEXEC),
            _ => (ours[0], libc::O_CLOEXEC),
        };
        // SAFETY: `dup3` touches no memory. Values of the parent that own these numbers are copies that this
        // process never drops, because it ends by `exit`. The descriptors that it does use are in `keep`.
        let redirected = unsafe { libc::dup3(to, fd, flags) };
        // A number above the hard limit: no later file gets it.
        if redirected < 0 {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
    drop(reserved);
    runtime::forget();
    // Keep the other end open. Otherwise the sockets would always report end-of-file.
    std::mem::forget(pair);
    Ok(())
}

/// The numbers of the open descriptors. Without `/proc`, those that may be open.
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    match std::fs::read_dir("/proc/self/fd") {
        Ok(list) => {
            Ok(list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
            let all = 0..RawFd::try_from(most).unwrap_or(RawFd::MAX);
            Ok(all.filter(|number| descriptor::is_open(*number)).collect())
        }
        Err(error) => Err(error),
    }
}

fn is_unix_socket(fd: RawFd) -> bool {
    getsockname::<SockaddrStorage>(fd)
        .is_ok_and(|address| address.family() == Some(AddressFamily::Unix))
}

/// Sets the name that `ps` shows. A failure is harmless.
fn set_title(title: &str) {
    if let Ok(name) = CString::new(title) {
        // The kernel truncates it to 15 bytes.
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
    // SAFETY: `shown` is less than `room`, so the pointer stays in the range.
    let rest = unsafe { start.add(shown) };
    // SAFETY: the same range, from `rest` to its end. The last byte becomes 0, so that code which reads the
    // arguments later, such as `std::env::args`, finds strings with an end.
    unsafe { std::ptr::write_bytes(rest, 0, room - shown) };
}

/// The address range of the program's arguments: fields 48 and 49 of `/proc/self/stat`.
fn argument_range() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field may contain spaces. The third field follows its closing parenthesis.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(48 - 3);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (0 < start && start < end).then_some((start, end))
}
