//! System calls that a sandbox refuses, or that fail for lack of something, are errors: no panics, and nothing is left.
//! Each says which operation failed, and what to do; a number alone helps nobody.
#![allow(unsafe_code)]

mod support;
#[path = "support/worlds.rs"]
mod worlds;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use nix::{errno::Errno, libc};
use shmcreds::{ErrorKind, Refresh, SharedSession, SharedSessionBuilder};
use support::{Child, child, instant, lock, name, segment, until};
use worlds::{Refusal, refuse};

fn main() {
    support::run_forking(&[
        ("limits_that_cannot_be_read", limits_that_cannot_be_read),
        ("create_says_what_failed_and_leaves_nothing", create_says_what_failed),
        ("attach_says_what_failed", attach_says_what_failed),
        ("credentials_say_what_failed", credentials_say_what_failed),
        ("pass_to_and_remove_say_what_failed", pass_to_and_remove_say_what_failed),
    ]);
}

const ERRNOS: [Errno; 6] =
    [Errno::ENOSYS, Errno::EPERM, Errno::EMFILE, Errno::ENOMEM, Errno::ENOSPC, Errno::EROFS];

/// The calls that the library makes, alone or with the value of an argument. Not those without which Rust's own
/// runtime ends the process (mmap for the heap, futex), or without which the test hears nothing (write).
const CALLS: [(libc::c_long, Option<(u32, u32)>); 47] = [
    (libc::SYS_openat, None),
    (libc::SYS_openat2, None),
    (libc::SYS_statfs, None),
    (libc::SYS_fstatfs, None),
    (libc::SYS_fstat, None),
    (libc::SYS_newfstatat, None),
    // By a path: `stat`.
    (libc::SYS_newfstatat, Some((3, 0))),
    (libc::SYS_statx, None),
    (libc::SYS_fcntl, None),
    (libc::SYS_fcntl, Some((1, libc::F_OFD_SETLK as u32))),
    (libc::SYS_fcntl, Some((1, libc::F_SETLK as u32))),
    (libc::SYS_fcntl, Some((1, libc::F_GETLK as u32))),
    (libc::SYS_fcntl, Some((1, libc::F_DUPFD_CLOEXEC as u32))),
    (libc::SYS_fcntl, Some((1, libc::F_ADD_SEALS as u32))),
    (libc::SYS_fallocate, None),
    (libc::SYS_ftruncate, None),
    (libc::SYS_pwrite64, None),
    (libc::SYS_mmap, Some((3, libc::MAP_SHARED as u32))),
    (libc::SYS_mremap, Some((2, 0))),
    (libc::SYS_madvise, None),
    (libc::SYS_mlock, None),
    (libc::SYS_munmap, None),
    (libc::SYS_memfd_create, None),
    (libc::SYS_memfd_secret, None),
    (libc::SYS_fchmod, None),
    (libc::SYS_pipe2, None),
    (libc::SYS_clone, None),
    (libc::SYS_clone3, None),
    (libc::SYS_setsid, None),
    (libc::SYS_dup3, None),
    (libc::SYS_socketpair, None),
    (libc::SYS_prctl, None),
    (libc::SYS_getrandom, None),
    (libc::SYS_timerfd_create, None),
    (libc::SYS_poll, None),
    (libc::SYS_pidfd_open, None),
    (libc::SYS_wait4, None),
    (libc::SYS_waitid, None),
    (libc::SYS_getdents64, None),
    (libc::SYS_readlink, None),
    (libc::SYS_prlimit64, None),
    (libc::SYS_rt_sigaction, None),
    (libc::SYS_rt_sigprocmask, None),
    (libc::SYS_epoll_create1, None),
    (libc::SYS_epoll_ctl, None),
    (libc::SYS_eventfd2, None),
    (libc::SYS_getsockname, None),
];

fn refusals() -> impl Iterator<Item = Refusal> {
    CALLS.into_iter().flat_map(|(call, argument)| {
        ERRNOS.into_iter().map(move |errno| Refusal { call, argument, errno })
    })
}

/// The error of each refusal must name itself. An answer that is no error begins with `+`.
fn judge(refusal: Refusal, said: &str, operation: &str, problems: &mut Vec<String>) {
    if said.starts_with('+') {
        return;
    }
    let text = said.split_once(&format!("{operation} of session ")).map_or("", |(_, text)| text);
    let text = text.split_once(": ").map_or("", |(_, text)| text);
    let named = format!("({:?})", refusal.errno);
    // The C library has no other word for a thread that cannot be started.
    let named =
        if text.contains("thread") && text.contains("(EAGAIN)") { "(EAGAIN)" } else { &named };
    let is_explained = |name: &str| text.contains(name) && !text.starts_with(name);
    // Other words than those of the kernel, with what to do.
    let in_other_words = [
        "Linux 5.1",
        "was killed during the start",
        "has not started within",
        "ulimit -n",
        "async runtime",
    ];
    if text.contains("os error")
        || !(is_explained(named) || in_other_words.iter().any(|words| text.contains(words)))
    {
        problems.push(format!("{refusal:?}: {said}"));
    }
}

fn report(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

fn limits_that_cannot_be_read() {
    let builder = || SharedSession::builder(name("refused")).source(instant());
    let eager = || builder().refresh(Refresh::Eager);
    for builder in [builder(), eager(), eager().sealed()] {
        // A panic makes the child fail.
        child(|_| {
            refuse(&[Refusal::of(libc::SYS_prlimit64, Errno::EPERM)]);
            let _ = builder.create();
        })
        .finish();
    }
}

/// How long those wait who wait until their time is over.
const SHORT: Duration = Duration::from_secs(2);

/// As [`judge`]. Where the short time may not have been enough for a busy machine, `again` says what comes with more.
fn judge_with_time(
    refusal: Refusal,
    said: &str,
    operation: &str,
    problems: &mut Vec<String>,
    again: impl FnOnce(Duration) -> String,
) {
    let mut new = Vec::new();
    judge(refusal, said, operation, &mut new);
    if !new.is_empty() && said.contains(&format!("within {SHORT:?}")) {
        new.clear();
        judge(refusal, &again(support::LIMIT / 2), operation, &mut new);
    }
    problems.append(&mut new);
}

fn builders(name: &str, limit: Duration) -> [SharedSessionBuilder; 5] {
    let deferred = |mode| {
        let builder = SharedSession::builder(format!("{name}-{mode}")).source(instant());
        builder.wait_timeout(limit)
    };
    let eager = |mode| deferred(mode).refresh(Refresh::Eager);
    let directory = deferred(1).directory("/dev/shm");
    [deferred(0), directory, eager(2), eager(3).sealed(), eager(4).sealed().secret_memory()]
}

fn is_left(name: &str) -> bool {
    Path::new(&segment(name)).exists() || Path::new(&lock(name)).exists()
}

/// Creates a session while the call is refused.
fn create(refusal: Refusal, builder: SharedSessionBuilder) -> Child {
    child(|report| {
        refuse(&[refusal]);
        match builder.create() {
            Ok(_) => report.say("+"),
            Err(error) => report.say(error.to_string()),
        }
    })
}

fn create_says_what_failed() {
    let mut problems = Vec::new();
    let all: Vec<Refusal> = refusals().collect();
    // Side by side: some wait until their time is over.
    for some in all.chunks(ERRNOS.len()) {
        let start = |&refusal: &Refusal| {
            let name = name("create");
            let builders = builders(&name, SHORT).into_iter().enumerate();
            builders.map(move |(mode, builder)| {
                (refusal, mode, format!("{name}-{mode}"), create(refusal, builder))
            })
        };
        let children: Vec<_> = some.iter().flat_map(start).collect();
        for (refusal, mode, name, child) in children {
            let said = child.finish();
            judge_with_time(refusal, &said, "create", &mut problems, |limit| {
                let builders = builders(&support::name("create-again"), limit);
                create(refusal, builders[mode].clone()).finish()
            });
            // The refresher removes the names when it ends.
            let end = Instant::now() + support::LIMIT;
            while is_left(&name) && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            if is_left(&name) {
                problems.push(format!("{refusal:?}: a file is left; {said}"));
                let _ = SharedSession::remove(&name);
            }
        }
    }
    report(&problems);
}

fn attach_says_what_failed() {
    let mut problems = Vec::new();
    for refusal in refusals() {
        let name = name("attach");
        let start = support::StopFile::new(&support::name("start"));
        // A stranger, which does not inherit the session.
        let stranger = child(|report| {
            until("the session is there", || start.is_there());
            refuse(&[refusal]);
            match SharedSession::attach(&name) {
                Ok(_) => report.say("+"),
                Err(error) => report.say(error.to_string()),
            }
        });
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        let said = start.end(vec![stranger]);
        // What it cannot look at, it does not see.
        let unseen = format!("attach of session {name:?}: there is no session of that name");
        if !said[0].starts_with(&unseen) {
            judge(refusal, &said[0], "attach", &mut problems);
        }
        drop(session);
    }
    report(&problems);
}

fn credentials_say_what_failed() {
    let mut problems = Vec::new();
    let all: Vec<Refusal> = refusals().collect();
    let start = |refusal: Refusal, limit: Duration| {
        let name = name("credentials");
        let builder = SharedSession::builder(&name).source(instant());
        let session = builder.wait_timeout(limit).create().unwrap();
        let child = child(|report| {
            let session = SharedSession::attach(&name).unwrap();
            refuse(&[refusal]);
            match session.credentials() {
                Ok(_) => report.say("+"),
                Err(error) => report.say(error.to_string()),
            }
        });
        (refusal, session, child)
    };
    for some in all.chunks(ERRNOS.len()) {
        let children: Vec<_> = some.iter().map(|&refusal| start(refusal, SHORT)).collect();
        for (refusal, session, child) in children {
            judge_with_time(refusal, &child.finish(), "credentials", &mut problems, |limit| {
                let (_, _session, child) = start(refusal, limit);
                child.finish()
            });
            drop(session);
        }
    }
    report(&problems);
}

fn pass_to_and_remove_say_what_failed() {
    let mut problems = Vec::new();
    for refusal in refusals() {
        let name = name("pass");
        let eager = SharedSession::builder(&name).source(instant()).refresh(Refresh::Eager);
        let session = eager.sealed().create().unwrap();
        let said = child(|report| {
            let mut command = std::process::Command::new("/bin/true");
            refuse(&[refusal]);
            match session.pass_to(&mut command) {
                Ok(()) => report.say("+"),
                Err(error) => report.say(error.to_string()),
            }
        })
        .finish();
        judge(refusal, &said, "pass_to", &mut problems);
        drop(session);

        let mut killed = child(|report| {
            let session = SharedSession::builder(&name).source(instant()).create().unwrap();
            report.say("+");
            until("it is killed", || session.name().is_empty());
        });
        killed.hear();
        killed.signal(nix::sys::signal::Signal::SIGKILL);
        killed.reap();
        let said = child(|report| {
            refuse(&[refusal]);
            match SharedSession::remove(&name) {
                Err(error) if error.kind() != ErrorKind::Absent => report.say(error.to_string()),
                _ => report.say("+"),
            }
        })
        .finish();
        judge(refusal, &said, "remove", &mut problems);
        if is_left(&name) {
            SharedSession::remove(&name).unwrap();
        }
    }
    report(&problems);
}
