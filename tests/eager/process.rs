//! The process of the refresher: it is isolated from the server that it was forked from.

use std::{
    collections::BTreeSet, fs, io::Write, net::TcpListener, os::fd::AsRawFd, time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use shmcreds::{Provider, Refresh, SharedSession, testing::LocalSts};

use crate::{
    eager, links, proc_file, refresher,
    support::{self, assert_whole, assumed, child, instant, lock, name, parent_of, role, until},
};

pub fn the_process_is_a_good_citizen() {
    let _listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _pipe = std::io::pipe().unwrap();
    let _sockets = std::os::unix::net::UnixStream::pair().unwrap();
    let _file = tempfile::tempfile().unwrap();
    let session =
        SharedSession::builder(name("citizen")).source(instant()).refresh(Refresh::Eager).create();
    let session = session.unwrap();
    let pid = refresher(&session);
    // No child, not even one that has ended.
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
    // It has opened the session's two anew; what has no number in its name can be anyone's.
    let (ours, theirs) = (links(Pid::this()), links(pid));
    for link in &theirs {
        let known = ["/dev/null", "/dev/shm/", "anon_inode:"].iter().any(|k| link.starts_with(k));
        let own = ["socket:", "pipe:"].iter().any(|kind| link.starts_with(kind));
        assert!(known || own && !ours.contains(link), "{link} in {theirs:?}");
    }
    let shared = theirs.iter().filter(|link| link.starts_with("/dev/shm/"));
    assert_eq!(shared.collect::<BTreeSet<_>>().len(), 2, "{theirs:?}");

    let title = format!("shmcreds: {}", session.name());
    assert!(title.starts_with(proc_file(pid, "comm").trim_end()));
    assert!(proc_file(pid, "comm").starts_with("shmcreds: "));
    let arguments = proc_file(pid, "cmdline");
    let shown = arguments.trim_end_matches('\0');
    assert!(shown.starts_with("shmcreds: ") && title.starts_with(shown), "{shown}");

    let status = proc_file(pid, "status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    // Libc keeps signals 32 to 34 for itself.
    let ours = |name: &str| field(name) & !(0b111 << 31);
    assert_eq!((ours("SigBlk:"), ours("SigIgn:"), ours("SigCgt:")), (0, 0, 0));
    // A session of its own: no terminal sends it anything.
    assert_eq!(nix::unistd::getsid(Some(pid)).unwrap(), nix::unistd::getpgid(Some(pid)).unwrap());
    assert_ne!(nix::unistd::getsid(Some(pid)).unwrap(), nix::unistd::getsid(None).unwrap());
}

pub fn a_runtime_entered_does_no_harm() {
    child(|_| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let guard = runtime.enter();
        runtime.block_on(async {
            let sts = LocalSts::fork().unwrap();
            let builder = SharedSession::builder(name("entered")).source(role(&sts));
            let session = builder.refresh(Refresh::Eager).create().unwrap();
            assert_eq!(session.status().unwrap().generation(), 1);
            let session =
                SharedSession::builder(name("within")).source(instant()).create().unwrap();
            let stop = shmcreds::StopHandle::new();
            let (watched, stopped) = (session.clone(), stop.clone());
            let stopper = std::thread::spawn(move || {
                until("it fetches", || watched.status().unwrap().generation() == 1);
                stopped.stop();
            });
            session.run_refresher(&stop).unwrap();
            stopper.join().unwrap();
            assert_eq!(session.status().unwrap().failed(), 0);
        });
        drop(guard);
    })
    .finish();
}

/// A logger or a client of the server, of which the refresher has a copy, knows its descriptors by number.
pub fn what_the_server_writes_to_goes_nowhere() {
    let files: Vec<_> = (0..20).map(|_| tempfile::tempfile().unwrap()).collect();
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    numbers.push(ours.as_raw_fd());
    let source = Provider::new("writes", move || {
        let numbers = numbers.clone();
        async move {
            let noise = [b'x'; 1 << 16];
            for number in numbers.iter().cycle().take(10 * numbers.len()) {
                // SAFETY: the bytes are there, and a number that leads nowhere is an error.
                unsafe { nix::libc::write(*number, noise.as_ptr().cast(), noise.len()) };
            }
            support::instant_set()
        }
    });
    let builder = SharedSession::builder(name("noise")).source(source).refresh(Refresh::Eager);
    let session = builder.create().unwrap();
    for generation in 2..4 {
        session.refresh().unwrap();
        assert_eq!(session.status().unwrap().generation(), generation);
    }
    assert_eq!(session.status().unwrap().source_calls(), 3);
    assert!(files.iter().all(|file| file.metadata().unwrap().len() == 0));
    let requests = fs::read(lock(session.name())).unwrap();
    assert!(requests.len() == 4096 && !requests.contains(&b'x'), "{} bytes", requests.len());
}

/// The process has the default dispositions; its source is spared what they would do.
pub fn a_closed_pipe_is_an_error() {
    let source = Provider::new("pipe", || async {
        let (read, mut write) = std::io::pipe().unwrap();
        drop(read);
        let error = write.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        support::instant_set()
    });
    let builder = SharedSession::builder(name("pipe")).source(source).refresh(Refresh::Eager);
    let session = builder.create().unwrap();
    let first = refresher(&session);
    session.refresh().unwrap();
    assert_eq!((refresher(&session), session.status().unwrap().takeovers()), (first, 0));
}

/// The states of this process's children, those included that no ordinary `waitpid` sees.
fn states_of_children() -> Vec<char> {
    let us = std::process::id().to_string();
    let stat = |pid: String| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        (fields.next()? == us).then_some(state)
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| stat(entry.file_name().into_string().ok()?)).collect()
}

/// As the first process of a container does.
pub fn one_who_adopts_orphans() {
    child(|_| {
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let no_child = || assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD));
        for round in 0..4 {
            let builder = SharedSession::builder(name("adopts")).source(instant());
            let session = builder.refresh(Refresh::Eager).create().unwrap();
            no_child();
            assert_whole(&session.refresh().unwrap());
            if round % 2 == 1 {
                let refresher = refresher(&session);
                let keeper = parent_of(refresher);
                kill(keeper, Signal::SIGKILL).unwrap();
                until("the refresher has another parent", || parent_of(refresher) != keeper);
                no_child();
                assert_whole(&session.refresh().unwrap());
            }
            drop(session);
            // What stood between ends, too, and the next one buries it.
            until("all is over", || states_of_children() == ['Z']);
            no_child();
        }
    })
    .finish();
}

pub fn a_runtime_used_before_does_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
    drop(runtime);
    let sts = LocalSts::fork().unwrap();
    let session = eager("runtime", &sts);
    session.refresh().unwrap();
    let status = session.status().unwrap();
    assert_eq!((status.generation(), status.failed(), assumed(&sts)), (2, 0, 2));
    assert_ne!(status.lease_holder().unwrap().pid(), std::process::id());
}

/// A handler without `SA_RESTART` ends system calls early, as a profiler's does.
pub fn signals_do_not_disturb_it() {
    extern "C" fn nothing(_: i32) {}
    child(|_| {
        let action =
            SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        let often = nix::libc::timeval { tv_sec: 0, tv_usec: 200 };
        let timer = nix::libc::itimerval { it_interval: often, it_value: often };
        // SAFETY: the handler does nothing.
        unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
        // SAFETY: the new value lives during the call, and null means that the old value is not wanted.
        let set =
            unsafe { nix::libc::setitimer(nix::libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
        assert_eq!(set, 0);
        for _ in 0..10 {
            let builder = SharedSession::builder(name("signals")).source(instant());
            let session = builder.refresh(Refresh::Eager).create().unwrap();
            assert_whole(&session.refresh().unwrap());
        }
    })
    .finish();
}
