//! Sealed sessions: workers that read and cannot write, and a refresher that comes back.
#![allow(unsafe_code)]

mod support;

use std::{
    fs::{self, File, OpenOptions},
    num::NonZeroUsize,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            fs::{FileExt, MetadataExt},
            process::CommandExt,
        },
    },
    path::PathBuf,
    process::{Command, Output},
    ptr::NonNull,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, mprotect},
        resource::{Resource, setrlimit},
        signal::{Signal, kill},
    },
    unistd::{Gid, Pid, Uid, geteuid, setgid, setgroups, setuid},
};
use shmcreds::{ErrorKind, Refresh, SharedSession, testing::ManualClock};
use support::{Child, assert_whole, child, instant, lives, name, parent_of, segment, stop, until};

/// Makes this program a worker that was started by `exec`: the value says what it does.
const ROLE: &str = "SHMCREDS_TEST_ROLE";

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        return started(&role);
    }
    support::run_forking(&[
        ("workers_read_and_ask_and_nothing_has_a_name", workers_read_and_ask),
        ("a_worker_cannot_write", a_worker_cannot_write),
        ("a_worker_that_dropped_its_uid_reads_and_cannot_write", a_worker_that_dropped_its_uid),
        ("a_killed_refresher_comes_back", a_killed_refresher_comes_back),
        ("a_refresher_that_hangs_is_replaced", a_refresher_that_hangs_is_replaced),
        ("one_that_cannot_start_is_not_tried_for_ever", one_that_cannot_start),
        ("killed_users_leave_nothing", killed_users_leave_nothing),
        ("all_killed_at_once_leave_nothing", all_killed_at_once_leave_nothing),
        ("a_started_program_attaches", a_started_program_attaches),
        ("another_session_of_the_name_is_not_taken_for_it", another_session_of_the_name),
        ("what_is_passed_no_longer_is_not_looked_for", what_is_passed_no_longer),
        ("secret_memory_is_read_by_workers_alone", secret_memory_is_read_by_workers_alone),
        ("what_does_not_go_together_is_refused", what_does_not_go_together_is_refused),
    ]);
}

fn sealed(name: &str) -> SharedSession {
    let builder = SharedSession::builder(name).source(instant()).refresh(Refresh::Eager);
    builder.sealed().create().unwrap()
}

/// By a process of the workers' user, which may be any of them.
fn another_session_of_the_name() {
    let name = name("another");
    let mut other = child(|report| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        report.say(format!("{}\n", session.credentials().unwrap().access_key_id()));
        until("it is killed", || false);
    });
    let theirs = other.hear_line();
    let session = sealed(&name);
    let ours = session.credentials().unwrap().access_key_id().to_owned();
    assert_ne!(ours, theirs);
    child(|_| {
        let read = SharedSession::attach(&name).unwrap().credentials().unwrap();
        assert_eq!(read.access_key_id(), ours);
    })
    .finish();
    drop(session);
    let read = SharedSession::attach(&name).unwrap().credentials().unwrap();
    assert_eq!(read.access_key_id(), theirs);
    drop(other);
    SharedSession::remove(&name).unwrap();
}

/// The numbers lead to something else by now.
fn what_is_passed_no_longer() {
    let name = name("closed");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    drop(session.credentials().unwrap());
    for bytes in [0, 10, 1 << 20] {
        let mut program = Command::new(std::env::current_exe().unwrap());
        let other = memfd_create("other", MFdFlags::empty()).unwrap();
        File::from(other.try_clone().unwrap()).set_len(bytes).unwrap();
        let number = other.as_raw_fd();
        let meta = File::from(other.try_clone().unwrap()).metadata().unwrap();
        let (device, inode) = (meta.dev(), meta.ino());
        for passed in [format!("{number}@{device}.{inode}"), format!("{number}@{device}.1")] {
            let passed = format!("{name}=ff:{passed}:{passed}");
            program.arg(&name).env("SHMCREDS_SESSIONS", passed).env(ROLE, "read");
            assert_eq!(said(&program.output().unwrap()), "read 1");
        }
    }
}

fn refresher(session: &SharedSession) -> Pid {
    let status = session.status().unwrap();
    Pid::from_raw(i32::try_from(status.lease_holder().unwrap().pid()).unwrap())
}

fn workers_read_and_ask() {
    let name = name("ask");
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(&name).source(instant()).refresh(Refresh::Eager);
    let session = builder.sealed().clock(&clock).create().unwrap();
    assert!(!PathBuf::from(segment(&name)).exists());
    let first = session.credentials().unwrap().access_key_id().to_owned();
    child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        let read = session.credentials().unwrap();
        assert_whole(&read);
        assert_eq!(read.access_key_id(), first);
        // Ask for a new one, and have that rejected.
        let second = session.refresh().unwrap().access_key_id().to_owned();
        assert_ne!(second, first);
        assert!(session.invalidate(&second).unwrap());
        assert!(!session.invalidate(&second).unwrap(), "already said");
        clock.advance(Duration::from_secs(6));
        until("the successor", || session.status().unwrap().generation() == 3);
        assert_ne!(session.credentials().unwrap().access_key_id(), second);
        // This one may not refresh.
        let error = session.run_refresher(&shmcreds::StopHandle::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSource);
    })
    .finish();
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.invalidations()), (3, 1));
    // Nobody else finds it.
    assert!(
        !fs::read_dir("/dev/shm")
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_str().unwrap().contains(&name) })
    );
}

/// The descriptor of the segment in this process.
fn descriptor(name: &str) -> PathBuf {
    let entries = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|target| {
            let target = target.to_str().unwrap().to_owned();
            target.starts_with("/memfd:") && target.contains(name) && !target.contains("@lock")
        })
    };
    entries.into_iter().find(is_it).unwrap()
}

/// The mappings of the segment in this process, and whether any may be written.
fn mappings(name: &str) -> Vec<(usize, usize, bool)> {
    mappings_of(name)
}

fn mappings_of(name: &str) -> Vec<(usize, usize, bool)> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let lines = maps.lines().filter(|line| line.contains(name) && !line.contains("@lock"));
    lines
        .map(|line| {
            let (range, rest) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let parse = |hex| usize::from_str_radix(hex, 16).unwrap();
            (parse(start), parse(end), rest.as_bytes()[1] == b'w')
        })
        .collect()
}

/// Every way to write that a process has, each refused.
fn try_to_write(name: &str) {
    let path = descriptor(name);
    let number: i32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    // SAFETY: the descriptor is the session's, which outlives this.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    let length = NonZeroUsize::new(4096).unwrap();
    let write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping; it is refused.
    let mapped = unsafe { mmap(None, length, write, MapFlags::MAP_SHARED, fd, 0) };
    assert_eq!(mapped.unwrap_err(), Errno::EPERM, "a writable mapping");

    let found = mappings(name);
    assert!(!found.is_empty());
    for (start, end, writable) in found {
        assert!(!writable, "an inherited writable mapping");
        let start = NonNull::new(std::ptr::with_exposed_provenance_mut(start)).unwrap();
        // SAFETY: the protection of memory that nobody writes; it is refused.
        let changed = unsafe { mprotect(start, end - start.as_ptr() as usize, write) };
        assert_eq!(changed.unwrap_err(), Errno::EACCES, "mprotect");
    }

    let inherited = File::from(fd.try_clone_to_owned().unwrap());
    let refused = |what: &str, result: std::io::Result<()>| {
        let error = result.expect_err(what).raw_os_error();
        assert!(
            [Some(libc_eperm()), Some(Errno::EACCES as i32)].contains(&error),
            "{what}: {error:?}"
        );
    };
    refused("pwrite", inherited.write_at(b"x", 0).map(drop));
    refused("ftruncate to less", inherited.set_len(0));
    refused("ftruncate to more", inherited.set_len(1 << 20));
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    assert_eq!(fallocate(inherited.as_fd(), hole, 0, 4096).unwrap_err(), Errno::EPERM);
    let reopened = OpenOptions::new().read(true).write(true).open(&path);
    refused("/proc/self/fd", reopened.and_then(|file| file.write_at(b"x", 0).map(drop)));
}

fn libc_eperm() -> i32 {
    Errno::EPERM as i32
}

fn a_worker_cannot_write() {
    let name = name("write");
    let session = sealed(&name);
    try_to_write(&name);
    child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        try_to_write(&name);
        assert_whole(&session.credentials().unwrap());
    })
    .finish();
    assert_whole(&session.credentials().unwrap());
}

fn a_worker_that_dropped_its_uid() {
    if !geteuid().is_root() {
        return;
    }
    let name = name("uid");
    let session = sealed(&name);
    child(|_| {
        setgroups(&[]).unwrap();
        setgid(Gid::from_raw(65534)).unwrap();
        setuid(Uid::from_raw(65534)).unwrap();
        let worker = SharedSession::attach(&name).unwrap();
        assert_whole(&worker.credentials().unwrap());
        try_to_write(&name);
        // It may still ask.
        assert_whole(&worker.refresh().unwrap());
        assert_eq!(worker.status().unwrap().generation(), 2);
    })
    .finish();
    assert_eq!(session.status().unwrap().generation(), 2);
}

fn a_killed_refresher_comes_back() {
    let session = sealed(&name("back"));
    for round in 1..=3 {
        let pid = refresher(&session);
        kill(pid, Signal::SIGKILL).unwrap();
        until("another is elected", || {
            let status = session.status().unwrap();
            status.lease_holder().is_some_and(|r| r.is_alive() && r.pid() != pid.as_raw() as u32)
        });
        assert_whole(&session.refresh().unwrap());
        let status = session.status().unwrap();
        assert_eq!((status.generation(), status.takeovers()), (round + 1, round));
    }
    // Without the one that starts it again, it goes on as long as it lives.
    let keeper = parent_of(refresher(&session));
    kill(keeper, Signal::SIGKILL).unwrap();
    until("the keeper is gone", || !lives(keeper));
    assert_whole(&session.refresh().unwrap());
}

fn a_refresher_that_hangs_is_replaced() {
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(name("hangs")).source(instant()).refresh(Refresh::Eager);
    let session = builder.sealed().clock(&clock).create().unwrap();
    let pid = refresher(&session);
    stop(pid);
    // Its keeper looks again and again, and leaves it alone until its lease is over.
    let left = session.status().unwrap().lease_holder().unwrap().lease_left();
    clock.advance(left - Duration::from_secs(1));
    std::thread::sleep(Duration::from_millis(20));
    assert!(lives(pid));
    clock.advance(Duration::from_secs(1));
    until("another is elected", || refresher(&session) != pid && !lives(pid));
    assert_whole(&session.refresh().unwrap());
    assert_eq!(session.status().unwrap().takeovers(), 1);
}

/// Creates a sealed session in a process that sleeps beside a worker. Tells the pids of the refresher, its
/// keeper and the worker.
fn server(name: &str) -> (Child, [Pid; 3]) {
    let mut server = child(|report| {
        let session = sealed(name);
        let worker = child(|_| {
            let _session = SharedSession::attach(name).unwrap();
            std::thread::sleep(support::LIMIT);
        });
        let pid = refresher(&session);
        report.say(format!("{} {} {}\n", pid, parent_of(pid), worker.pid));
        std::thread::sleep(support::LIMIT);
    });
    let said = server.hear_line();
    let pids: Vec<Pid> =
        said.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect();
    (server, pids.try_into().unwrap())
}

fn killed_users_leave_nothing() {
    let name = name("killed");
    let (mut server, pids) = server(&name);
    server.signal(Signal::SIGKILL);
    server.reap();
    assert!(lives(pids[0]), "the worker still needs it");
    kill(pids[2], Signal::SIGKILL).unwrap();
    for pid in pids {
        until("all of them end", || !lives(pid));
    }
}

fn all_killed_at_once_leave_nothing() {
    let name = name("all-killed");
    let (mut server, pids) = server(&name);
    // The keeper first: it would start another refresher.
    for pid in [pids[1], pids[0], pids[2], server.pid] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    server.reap();
    for pid in pids {
        until("all of them end", || !lives(pid));
    }
    let left = fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|file| file.to_string_lossy().contains(&name)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_whole(&sealed(&name).credentials().unwrap());
}

/// For want of room for a stack, which each attempt lacks as the first did.
fn one_that_cannot_start() {
    let name = name("starved");
    child(|_| {
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        let room = pages * 4096 + (1 << 20);
        setrlimit(Resource::RLIMIT_AS, room, room).unwrap();
        let builder = SharedSession::builder(&name).source(instant()).refresh(Refresh::Eager);
        let error = builder.sealed().create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::System);
        assert!(error.to_string().contains("starting the refresher's thread"), "{error}");
    })
    .finish();
    let title = format!("shmcreds: {name}");
    let is_keeper = |process: fs::DirEntry| {
        fs::read_to_string(process.path().join("cmdline"))
            .is_ok_and(|line| line.starts_with(&title))
    };
    let processes = || fs::read_dir("/proc").unwrap();
    until("its keeper ends", || !processes().any(|process| is_keeper(process.unwrap())));
}

/// Starts this program again as `nobody`, where this process may.
fn start(session: &SharedSession, pass: bool, role: &str) -> Output {
    let mut command = Command::new("/proc/self/exe");
    command.arg(session.name()).env(ROLE, role);
    if geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    if pass {
        session.pass_to(&mut command).unwrap();
    }
    command.output().unwrap()
}

/// The life of a started program.
fn started(role: &str) {
    let name = std::env::args().nth(1).unwrap();
    let session = match SharedSession::attach(&name) {
        Ok(session) => session,
        Err(error) => return println!("{:?}", error.kind()),
    };
    let set = session.credentials().unwrap();
    assert_whole(&set);
    if role == "refresh" {
        let next = session.refresh().unwrap();
        assert_whole(&next);
        assert_ne!(next.access_key_id(), set.access_key_id());
        try_to_write(&name);
    }
    if role == "grandchild" {
        // It knows nothing of the session, and passes it on.
        let output = Command::new("/proc/self/exe").arg(&name).env(ROLE, "read").output().unwrap();
        print!("{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    println!("read {}", session.status().unwrap().generation());
}

fn said(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap().trim()
}

fn a_started_program_attaches() {
    let session = sealed(&name("exec"));
    assert_eq!(said(&start(&session, true, "read")), "read 1");
    assert_eq!(said(&start(&session, true, "refresh")), "read 2");
    assert_eq!(said(&start(&session, true, "grandchild")), "read 2");
    assert_eq!(said(&start(&session, false, "read")), "Absent");
    // It counts as a user as long as it lives.
    let mut command = Command::new("sleep");
    command.arg("1000");
    session.pass_to(&mut command).unwrap();
    let mut started = command.spawn().unwrap();
    let pid = refresher(&session);
    drop((command, session));
    std::thread::sleep(Duration::from_millis(50));
    assert!(lives(pid));
    started.kill().unwrap();
    started.wait().unwrap();
    until("the refresher ends", || !lives(pid));
}

/// Whether `/proc/self/mem` reads the memory at `address`.
fn debugger_reads(address: usize) -> bool {
    let mut bytes = [0; 64];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, address as u64).is_ok()
}

fn secret_memory_is_read_by_workers_alone() {
    let builder = SharedSession::builder(name("secret")).source(instant());
    let session = builder.refresh(Refresh::Eager).sealed().secret_memory().create();
    let session = match session {
        Ok(session) => session,
        Err(error) => {
            // Where the kernel lacks it, the error says so.
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            return assert!(error.to_string().contains("secret_memory: "), "{error}");
        }
    };
    child(|_| {
        let session = SharedSession::attach(session.name()).unwrap();
        assert_whole(&session.credentials().unwrap());
        assert_whole(&session.refresh().unwrap());
        let secret = mappings_of("/secretmem");
        assert!(!secret.is_empty() && secret.iter().all(|(_, _, writable)| !writable));
        assert!(secret.iter().all(|(start, _, _)| !debugger_reads(*start)));
        // The control page is shared memory as any other, and holds no set.
        let control = mappings(session.name());
        assert!(control.iter().all(|(start, _, _)| debugger_reads(*start)));
        let key = session.credentials().unwrap();
        for (start, end, _) in control {
            let mut bytes = vec![0; end - start];
            let memory = File::open("/proc/self/mem").unwrap();
            memory.read_exact_at(&mut bytes, start as u64).unwrap();
            let needle = key.secret_access_key().as_bytes();
            assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        }
    })
    .finish();
    assert_eq!(said(&start(&session, true, "read")), "read 2");
    kill(refresher(&session), Signal::SIGKILL).unwrap();
    assert_whole(&session.refresh().unwrap());
}

fn what_does_not_go_together_is_refused() {
    let refused = |builder: shmcreds::SharedSessionBuilder, field: &str, missing: &str| {
        let error = builder.source(instant()).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(field) && error.to_string().contains(missing));
    };
    let builder = || SharedSession::builder(name("refused"));
    refused(builder().sealed(), "sealed: ", "Refresh::Eager");
    refused(builder().refresh(Refresh::Eager).secret_memory(), "secret_memory: ", "sealed()");
}
