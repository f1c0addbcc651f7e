//! The refresher is killed, or hangs, and comes back; and what is left when all are killed.

use std::{fs, time::Duration};

use nix::{
    sys::{
        resource::{Resource, setrlimit},
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use shmcreds::{ErrorKind, Refresh, SharedSession, testing::ManualClock};

use crate::{
    refresher, sealed,
    support::{self, Child, assert_whole, child, instant, lives, name, parent_of, stop, until},
};

pub fn a_killed_refresher_comes_back() {
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

pub fn a_refresher_that_hangs_is_replaced() {
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

pub fn killed_users_leave_nothing() {
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

pub fn all_killed_at_once_leave_nothing() {
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
pub fn one_that_cannot_start() {
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
