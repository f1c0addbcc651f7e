//! Processes that create, attach to and end one name at the same moment.

use std::{path::Path, time::Duration};

use nix::sys::signal::Signal;
use shmcreds::{ErrorKind, SharedSession};

use crate::support::{self, StopFile, assert_whole, child, instant, lock, name, segment, until};

pub fn attach_beside_create() {
    let name = name("beside");
    let stop = StopFile::new(&name);
    let creator = child(|_| {
        while !stop.is_there() {
            match SharedSession::builder(&name).source(instant()).create() {
                // Now and then somebody attaches meanwhile.
                Ok(_session) => std::thread::sleep(Duration::from_micros(100)),
                // One that does keeps the name in use for a moment.
                Err(error) => assert_eq!(error.kind(), ErrorKind::InUse, "{error}"),
            }
        }
    });
    let attaches = |_: &_| match SharedSession::attach(&name) {
        Ok(session) => {
            assert_eq!(session.status().unwrap().generation(), 0);
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Absent, "{error}");
            false
        }
    };
    // On a busy machine either may not run for long.
    let (mut tries, mut attached) = (0, 0);
    until("some of many tries find a session", || {
        attached += (0..500).filter(attaches).count();
        tries += 500;
        tries >= 5000 && attached > 0
    });
    stop.end(vec![creator]);
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}

/// What a killed process has left is looked at by others all the time.
pub fn create_beside_those_who_attach() {
    let name = name("beside");
    let stop = StopFile::new(&name);
    let attach = || {
        child(|_| {
            while !stop.is_there() {
                drop(SharedSession::attach(&name));
            }
        })
    };
    let attaching = vec![attach(), attach()];
    for _ in 0..40 {
        let mut creator = child(|report| {
            let _session = SharedSession::builder(&name).source(instant()).create().unwrap();
            report.say("c");
            until("it is killed", || false);
        });
        assert_eq!(creator.hear(), b'c');
        drop(creator);
        let created = SharedSession::builder(&name).source(instant()).create();
        created.expect("nobody uses the session");
    }
    stop.end(attaching);
}

pub fn killed_processes_leave_a_name() {
    let name = name("killed");
    let mut creator = child(|report| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        session.credentials().unwrap();
        report.say(".");
        std::thread::sleep(support::LIMIT);
    });
    creator.hear();
    creator.signal(Signal::SIGKILL);
    creator.reap();
    assert!(Path::new(&segment(&name)).exists(), "a kill leaves the name");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    assert_eq!(session.status().unwrap().generation(), 0);
    session.credentials().unwrap();
}

pub fn a_live_session_names_its_user() {
    let name = name("live");
    let mut creator = child(|report| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        // A worker goes on when the creator is killed.
        let worker = child(|_| std::thread::sleep(support::LIMIT));
        session.credentials().unwrap();
        report.say(format!("{}\n", worker.pid));
        std::thread::sleep(support::LIMIT);
    });
    let worker = creator.hear_line();
    let in_use = |pid: &str| {
        let error = SharedSession::builder(&name).source(instant()).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(error.to_string().contains(&format!("process {pid} ")), "{error}");
    };
    in_use(&creator.pid.to_string());
    creator.signal(Signal::SIGKILL);
    creator.reap();
    in_use(&worker);
    // The worker's session still serves each process that attaches.
    let reader = SharedSession::attach(&name).unwrap();
    assert_whole(&reader.credentials().unwrap());
    drop(reader);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(worker.trim().parse().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    until("the name is free", || SharedSession::builder(&name).source(instant()).create().is_ok());
}
