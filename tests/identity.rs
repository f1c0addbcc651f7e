//! Processes that become another user, and processes whose pid is another's: a session belongs to the process that has
//! it, not to a name or a number.
#![allow(unsafe_code)]

mod support;

use std::{cell::Cell, fs, path::Path};

use nix::{
    libc,
    sched::{CloneFlags, unshare},
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Gid, Pid, Uid, fork, geteuid, setgid, setgroups, setuid},
};
use shmcreds::{ErrorKind, Refresh, SharedSession, testing::ManualClock};
use support::{Child, Report, child, instant, lock, name, segment};

fn main() {
    support::run_forking(&[
        ("a_worker_that_changed_its_uid_keeps_its_session", a_worker_that_changed_its_uid),
        ("a_worker_in_another_mount_namespace_keeps_its_session", a_worker_in_another_namespace),
        ("a_child_with_the_creators_pid_removes_nothing", a_child_with_the_creators_pid),
        ("a_grandchild_with_the_same_pid_is_elected", a_grandchild_with_the_same_pid),
        ("a_bare_clone_is_another_process", a_bare_clone_is_another_process),
    ]);
}

const OTHER: u32 = 12345;

/// Whether the test may become other users and make namespaces.
fn may() -> bool {
    geteuid().is_root()
}

fn become_other() {
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(OTHER)).unwrap();
    setuid(Uid::from_raw(OTHER)).unwrap();
}

fn key(session: &SharedSession) -> String {
    session.credentials().unwrap().access_key_id().to_owned()
}

/// Root creates a session, a process of another user one of the same name, and a worker of root's becomes
/// that user.
fn a_worker_that_changed_its_uid() {
    if !may() {
        return;
    }
    for refresh in [Refresh::Deferred, Refresh::Eager] {
        let name = name("uid");
        let clock = ManualClock::new().unwrap();
        let ours = SharedSession::builder(&name)
            .source(instant())
            .refresh(refresh)
            .clock(&clock)
            .create()
            .unwrap();
        let first = key(&ours);
        let mut theirs = child(|report| {
            become_other();
            let session = SharedSession::builder(&name).source(instant()).create().unwrap();
            report.say(format!("{}\n", key(&session)));
            support::until("it is killed", || false);
        });
        let foreign = theirs.hear_line();
        assert_ne!(first, foreign);
        child(|_| {
            become_other();
            let worker = SharedSession::attach(&name).unwrap();
            assert_eq!(key(&worker), first, "{refresh:?}");
            let grandchild = child(|_| {
                let worker = SharedSession::attach(&name).unwrap();
                assert_eq!(key(&worker), first);
            });
            grandchild.finish();
            // It writes through the descriptors that it has inherited.
            let second = worker.refresh().unwrap().access_key_id().to_owned();
            assert!(second != first && second != foreign);
            drop(worker);
            assert_eq!(key(&SharedSession::attach(&name).unwrap()), second);
        })
        .finish();
        drop(ours);
        assert!(!Path::new(&segment(&name)).exists());
        drop(theirs);
        child(|_| {
            become_other();
            SharedSession::remove(&name).unwrap();
        })
        .finish();
    }
}

/// A worker sees another /dev/shm, where a session of its name is.
fn a_worker_in_another_namespace() {
    use nix::mount::{MsFlags, mount};
    if !may() {
        return;
    }
    let name = name("mount");
    let ours = SharedSession::builder(&name).source(instant()).create().unwrap();
    let first = key(&ours);
    child(|report| {
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            return report.say("not allowed here");
        }
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        // Something else has the name there.
        fs::write(segment(&name), vec![0x55; 4096]).unwrap();
        fs::write(lock(&name), vec![0x55; 4096]).unwrap();
        let worker = SharedSession::attach(&name).unwrap();
        assert_eq!(key(&worker), first);
    })
    .finish();
}

/// Runs `work` as the first process of a pid namespace of its own.
fn first_of_a_namespace(work: impl FnOnce(&mut Report)) -> Child {
    child(|report| {
        if unshare(CloneFlags::CLONE_NEWPID).is_err() {
            return report.say("not allowed here");
        }
        // SAFETY: the child that runs this has one thread.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let worked =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(report)));
                // SAFETY: ends the process without the parent's exit handlers.
                unsafe { libc::_exit(i32::from(worked.is_err())) }
            }
            ForkResult::Parent { child } => {
                let status = waitpid(child, None).unwrap();
                assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
            }
        }
    })
}

/// The creator is process 1 of its namespace, and so is a child of it in a namespace within.
fn a_child_with_the_creators_pid() {
    if !may() {
        return;
    }
    let name = name("pid-one");
    let said = first_of_a_namespace(|report| {
        assert_eq!(std::process::id(), 1);
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        let first = key(&session);
        let inherited = Cell::new(Some(session));
        first_of_a_namespace(|_| {
            assert_eq!(std::process::id(), 1);
            let session = inherited.take().unwrap();
            session.unlink();
            drop(session);
        })
        .finish();
        assert!(Path::new(&segment(&name)).exists() && Path::new(&lock(&name)).exists());
        assert_eq!(key(&SharedSession::attach(&name).unwrap()), first);
        drop(inherited);
        assert!(!Path::new(&segment(&name)).exists(), "the creator removes it");
        report.say("kept");
    })
    .finish();
    assert!(said == "kept" || said == "not allowed here", "{said}");
}

/// The lock of the election that a thread of an ancestor holds is not the grandchild's, although it has the
/// ancestor's pid: here, both are process 1.
fn a_grandchild_with_the_same_pid() {
    if !may() {
        return;
    }
    let name = name("grandchild");
    let said = first_of_a_namespace(|report| {
        let clock = ManualClock::new().unwrap();
        let builder = SharedSession::builder(&name).clock(&clock);
        let session = builder
            .source(shmcreds::Provider::new("slow", || async {
                if std::process::id() == 1 && std::env::var_os("GRANDCHILD").is_none() {
                    std::future::pending::<()>().await;
                }
                support::instant_set()
            }))
            .create()
            .unwrap();
        // A thread of this process is elected, and its call never ends.
        let elected = session.clone();
        std::thread::spawn(move || elected.credentials());
        support::until("a call is under way", || session.status().unwrap().source_calls() == 1);
        // SAFETY: it is gone before anything else of this process runs; no other thread touches the environment.
        unsafe { std::env::set_var("GRANDCHILD", "1") };
        clock.advance(std::time::Duration::from_secs(3600));
        first_of_a_namespace(|_| {
            assert_eq!(std::process::id(), 1);
            key(&SharedSession::attach(&name).unwrap());
        })
        .finish();
        report.say("elected");
    })
    .finish();
    assert!(said == "elected" || said == "not allowed here", "{said}");
}

/// A child that no fork handler has seen: made by the system call alone.
fn a_bare_clone_is_another_process() {
    let name = name("bare");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    let first = key(&session);
    // SAFETY: this process has one thread, and the child drops a session and ends.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        drop(session);
        // SAFETY: ends the process without the parent's exit handlers.
        unsafe { libc::_exit(0) }
    }
    waitpid(Pid::from_raw(pid as i32), None).unwrap();
    assert!(Path::new(&segment(&name)).exists());
    assert_eq!(key(&session), first);
    let error = SharedSession::builder(&name).source(instant()).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    drop(session);
    assert!(!Path::new(&segment(&name)).exists());
}
