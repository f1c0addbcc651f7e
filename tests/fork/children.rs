//! What a forked child has of its parent's session.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use nix::{libc, sys::signal::Signal};
use shmcreds::{ErrorKind, Refresh, SharedSession, testing::ManualClock};

use crate::support::{
    self, Child, StopFile, assert_whole, child, instant, lock, name, segment, until,
};

pub fn a_child_has_not_locked() {
    let session = SharedSession::builder(name("locked")).source(instant()).create().unwrap();
    let locked = |session: &SharedSession| session.status().unwrap().locked_in_ram();
    let kib = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    assert_eq!(locked(&session), kib() > 0);
    child(|_| {
        assert_eq!((locked(&session), kib()), (false, 0));
        let own = SharedSession::attach(session.name()).unwrap();
        assert_eq!(locked(&own), kib() > 0);
    })
    .finish();
}

pub fn a_child_inherits_what_it_does_not_set() {
    let (advisory, minute) = (Duration::from_secs(1500), Duration::from_secs(60));
    let builder = || SharedSession::builder(name("inherits")).source(instant());
    let session = builder().advisory_window(advisory).mandatory_window(minute).create().unwrap();
    let name = session.name();
    for with_source in [true, false] {
        child(|_| {
            let builder = SharedSession::builder(name).wait_timeout(minute);
            let builder = if with_source { builder.source(instant()) } else { builder };
            builder.attach().unwrap().refresh().unwrap();
        })
        .finish();
        // Of an hour; the jitter takes at most a tenth of the window.
        let due = session.status().unwrap().refresh_in();
        assert!(due <= Duration::from_secs(3600) - advisory + advisory / 10, "{due:?}");
    }
}

/// What this process has of the session: open files, and mappings.
fn traces_of(name: &str) -> Vec<String> {
    let files = fs::read_dir("/proc/self/fd").unwrap();
    let files = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let all = files.map(|file| file.display().to_string()).chain(maps.lines().map(str::to_owned));
    all.filter(|line| line.contains(name)).collect()
}

/// What was inherited is dropped as any handle, and the parent keeps its own.
pub fn a_child_that_drops_its_handles() {
    for eager in [false, true] {
        let name = name("child-drops");
        let refresh = if eager { Refresh::Eager } else { Refresh::Deferred };
        let builder = SharedSession::builder(&name).source(instant()).refresh(refresh);
        let handles = std::cell::Cell::new(Some(builder.create().unwrap()));
        child(|_| {
            let session = handles.take().unwrap();
            let (clone, reader) = (session.clone(), session.reader());
            assert!(traces_of(&name).len() >= 4, "{:?}", traces_of(&name));
            drop((session, clone, reader));
            assert_eq!(traces_of(&name), [""; 0]);
        })
        .finish();
        assert_whole(&handles.take().unwrap().credentials().unwrap());
    }
}

pub fn a_child_that_leaves_is_no_user() {
    for leaves in [true, false] {
        let (name, go) = (name("child-leaves"), StopFile::new(&name("child-leaves-go")));
        let mut server = child(|report| {
            let session = SharedSession::builder(&name).source(instant()).create().unwrap();
            let number = report.number();
            let helper = child(|_| {
                // SAFETY: the copy of the descriptor is not used: the parent's report has its own.
                unsafe { libc::close(number) };
                session.credentials().unwrap();
                if leaves {
                    session.leave();
                    // The handle goes on.
                    assert_whole(&session.refresh().unwrap());
                }
                until("it is told to end", || go.is_there());
            });
            until("the helper has read", || {
                session.status().unwrap().generation() == if leaves { 2 } else { 1 }
            });
            report.say(format!("{}\n", helper.pid));
            until("it is killed", || false);
        });
        let helper = server.hear_line();
        server.signal(Signal::SIGKILL);
        server.reap();
        let outcome = SharedSession::builder(&name).source(instant()).create();
        match outcome {
            Ok(next) => assert!(leaves && next.status().unwrap().generation() == 0),
            Err(error) => {
                assert!(!leaves && error.kind() == ErrorKind::InUse, "{error}");
                assert!(error.to_string().contains(&helper), "{error}");
            }
        }
        go.write();
        let helper = nix::unistd::Pid::from_raw(helper.parse().unwrap());
        until("the helper has ended", || !support::lives(helper));
        let _ = SharedSession::remove(&name);
    }
}

pub fn a_sealed_session_can_be_left() {
    let builder = SharedSession::builder(name("sealed-leave")).source(instant());
    let session = builder.refresh(Refresh::Eager).sealed().create().unwrap();
    let refresher = support::elected(&session).unwrap();
    child(|_| {
        session.leave();
        assert_whole(&session.credentials().unwrap());
        assert_whole(&session.refresh().unwrap());
        let again = SharedSession::attach(session.name()).unwrap();
        assert_whole(&again.credentials().unwrap());
    })
    .finish();
    assert!(support::lives(refresher));
    session.leave();
    until("nobody uses it", || !support::lives(refresher));
    assert_whole(&session.credentials().unwrap());
}

pub fn a_childs_drop_removes_nothing() {
    let session = SharedSession::builder(name("child-drop")).source(instant()).create().unwrap();
    let inherited = session.clone();
    child(|_| {
        drop(SharedSession::attach(inherited.name()).unwrap());
        drop(session.clone());
    })
    .finish();
    assert!(Path::new(&segment(session.name())).exists());
    assert!(Path::new(&lock(session.name())).exists());
    session.credentials().unwrap();
}

pub fn jitter_differs_between_children() {
    let points: BTreeSet<String> = (0..8)
        .map(|_| {
            child(|report| {
                let clock = ManualClock::new().unwrap();
                let session = SharedSession::builder(name("jitter"))
                    .source(instant())
                    .clock(&clock)
                    .create()
                    .unwrap();
                session.credentials().unwrap();
                let status = session.status().unwrap();
                report.say(format!("{:?}", status.expires_in() - status.refresh_in()));
            })
        })
        .map(Child::finish)
        .collect();
    assert!(points.len() >= 7, "{points:?}");
}
