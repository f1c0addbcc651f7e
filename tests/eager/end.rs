//! The end of the refresher and its keeper: with the last user of the session.

use std::{path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shmcreds::{Refresh, SharedSession, testing::LocalSts};

use crate::{
    refresher,
    support::{
        self, Child, assumed, child, instant, lives, lock, name, parent_of, role, segment, stop,
        until,
    },
};

pub fn it_ends_with_the_last_user() {
    let session =
        SharedSession::builder(name("end")).source(instant()).refresh(Refresh::Eager).create();
    let session = session.unwrap();
    let pid = refresher(&session);
    let worker = child(|report| {
        let session = SharedSession::attach(session.name()).unwrap();
        report.say(".");
        std::thread::sleep(support::LIMIT);
        drop(session);
    });
    let mut worker = worker;
    worker.hear();
    drop(session);
    // The worker still uses it.
    std::thread::sleep(Duration::from_millis(100));
    assert!(lives(pid));
    drop(worker);
    until("the refresher ends", || !lives(pid));
}

/// Creates an eager session in a process that tells the refresher's pid, and sleeps beside a worker.
pub fn server(name: &str) -> (Child, Pid, Pid) {
    let mut server = child(|report| {
        let session = SharedSession::builder(name).source(instant()).refresh(Refresh::Eager);
        let session = session.create().unwrap();
        let worker = child(|_| {
            let _session = SharedSession::attach(name).unwrap();
            std::thread::sleep(support::LIMIT);
        });
        report.say(format!("{} {}\n", refresher(&session), worker.pid));
        std::thread::sleep(support::LIMIT);
    });
    let said = server.hear_line();
    let mut pids = said.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()));
    (server, pids.next().unwrap(), pids.next().unwrap())
}

pub fn killed_users_leave_nothing() {
    let name = name("killed");
    let (mut server, refresher, worker) = server(&name);
    server.signal(Signal::SIGKILL);
    server.reap();
    assert!(lives(refresher), "the worker still needs it");
    kill(worker, Signal::SIGKILL).unwrap();
    until("the refresher ends", || !lives(refresher));
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());

    // The same if the refresher is killed with all the others: its keeper sees to it.
    let (mut server, refresher, worker) = self::server(&name);
    for pid in [refresher, worker, server.pid] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    server.reap();
    until("nothing is left", || !Path::new(&segment(&name)).exists());
    until("nothing is left", || !Path::new(&lock(&name)).exists());

    // And if that is killed, too, the name can be used again.
    let (mut server, refresher, worker) = self::server(&name);
    let keeper = parent_of(refresher);
    for pid in [keeper, refresher, worker, server.pid] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    server.reap();
    until("all of them end", || ![keeper, refresher, worker].into_iter().any(lives));
    drop(SharedSession::builder(&name).source(instant()).create().unwrap());
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}

/// It learns late that its users are dead, when the name has become another session's.
pub fn a_late_refresher_leaves_the_next_session_alone() {
    let name = name("late");
    let (mut server, refresher, worker) = server(&name);
    stop(refresher);
    for pid in [worker, server.pid] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    server.reap();
    until("the worker is dead", || !lives(worker));
    let sts = LocalSts::fork().unwrap();
    let builder = SharedSession::builder(&name).source(role(&sts)).refresh(Refresh::Eager);
    let session = builder.create().unwrap();
    kill(refresher, Signal::SIGCONT).unwrap();
    until("the late one ends", || !lives(refresher));
    assert!(Path::new(&segment(&name)).exists() && Path::new(&lock(&name)).exists());
    for generation in 2..5 {
        session.refresh().unwrap();
        assert_eq!(session.status().unwrap().generation(), generation);
        assert_eq!(assumed(&sts) as u64, generation);
    }
}

/// It is killed at its very end, and its keeper does not run.
pub fn a_stopped_keeper_holds_nothing() {
    for _ in 0..10 {
        let name = name("stopped");
        let (mut server, refresher, worker) = server(&name);
        let keeper = parent_of(refresher);
        stop(keeper);
        for pid in [worker, server.pid, refresher] {
            kill(pid, Signal::SIGKILL).unwrap();
        }
        server.reap();
        until("they are dead", || !lives(refresher) && !lives(worker));
        drop(SharedSession::builder(&name).source(instant()).create().unwrap());
        kill(keeper, Signal::SIGCONT).unwrap();
        until("the keeper ends", || !lives(keeper));
    }
}

pub fn the_refresher_needs_no_keeper() {
    let name = name("keeper");
    let (mut server, refresher, worker) = server(&name);
    let keeper = parent_of(refresher);
    kill(keeper, Signal::SIGKILL).unwrap();
    until("the keeper is dead", || !lives(keeper));
    assert!(lives(refresher) && Path::new(&segment(&name)).exists());
    kill(worker, Signal::SIGKILL).unwrap();
    server.signal(Signal::SIGKILL);
    server.reap();
    until("the refresher ends", || !lives(refresher));
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}
