//! Processes that cannot say which of them is first.

mod support;

use std::{collections::BTreeSet, path::Path, time::Duration};

use aws_credential_types::Credentials;
use shmcreds::{
    ErrorKind, Provider, Refresh, SharedSession,
    testing::{LocalSts, Settings},
};
use support::{StopFile, assumed, child, instant, name, role, segment, until};

fn main() {
    support::run_forking(&[
        ("of_processes_that_race_one_creates", of_processes_that_race_one_creates),
        ("an_eager_session_is_made_once", an_eager_session_is_made_once),
        ("what_killed_processes_left_is_replaced", what_killed_processes_left_is_replaced),
        ("another_source_is_refused", another_source_is_refused),
        ("sessions_that_end_all_the_time_fail_nobody", sessions_that_end_all_the_time),
    ]);
}

fn of_processes_that_race_one_creates() {
    let sts = LocalSts::fork().unwrap();
    sts.configure(Settings::new().latency(Duration::from_millis(50))).unwrap();
    let (name, stop) = (name("race"), StopFile::new(&name("race-go")));
    for _ in 0..10 {
        let mut racers: Vec<_> = (0..16)
            .map(|_| {
                child(|report| {
                    let builder = SharedSession::builder(&name).source(role(&sts));
                    let session = builder.attach_or_create().unwrap();
                    report.say(format!("{}\n", session.credentials().unwrap().access_key_id()));
                    until("all have read", || stop.is_there());
                })
            })
            .collect();
        let keys: BTreeSet<String> = racers.iter_mut().map(|racer| racer.hear_line()).collect();
        assert_eq!(keys.len(), 1, "{keys:?}");
        // Killed, the creator among them: the next round finds what they have left.
        drop(racers);
    }
    assert_eq!(assumed(&sts), 10, "one call for each round");
    SharedSession::remove(&name).unwrap();
}

fn an_eager_session_is_made_once() {
    let sts = LocalSts::fork().unwrap();
    let (name, stop) = (name("eager-race"), StopFile::new(&name("eager-race-go")));
    let racers = (0..8).map(|_| {
        child(|report| {
            let builder = SharedSession::builder(&name).source(role(&sts));
            let session = builder.refresh(Refresh::Eager).attach_or_create().unwrap();
            report.say(format!("{}\n", session.credentials().unwrap().access_key_id()));
            until("all have read", || stop.is_there());
        })
    });
    let mut racers: Vec<_> = racers.collect();
    let keys: BTreeSet<String> = racers.iter_mut().map(|racer| racer.hear_line()).collect();
    assert_eq!((keys.len(), assumed(&sts)), (1, 1), "{keys:?}");
    stop.end(racers);
    until("the names are removed", || !Path::new(&segment(&name)).exists());
}

fn what_killed_processes_left_is_replaced() {
    let name = name("left");
    let mut creator = child(|report| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        report.say(format!("{}\n", session.credentials().unwrap().access_key_id()));
        until("it is killed", || false);
    });
    let old = creator.hear_line();
    drop(creator);
    let builder = SharedSession::builder(&name).source(instant());
    let session = builder.attach_or_create().unwrap();
    assert_ne!(session.credentials().unwrap().access_key_id(), old);
    assert_eq!(session.status().unwrap().generation(), 1);
    drop(session);
    assert!(!Path::new(&segment(&name)).exists(), "its creator removes it");
}

fn another_source_is_refused() {
    let name = name("other-source");
    let session = SharedSession::builder(&name).source(instant()).attach_or_create().unwrap();
    let other = Provider::new("other", || async { Credentials::for_tests() });
    let error = SharedSession::builder(&name).source(other).attach_or_create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongSource);
    assert_eq!(error.operation(), "attach_or_create");
    drop(session);
}

/// Each process holds its session for a moment only, so that the name comes and goes.
fn sessions_that_end_all_the_time() {
    let name = name("ends");
    let comers: Vec<_> = (0..4)
        .map(|_| {
            child(|_| {
                for _ in 0..100 {
                    let builder = SharedSession::builder(&name).source(instant());
                    let session = builder.attach_or_create().unwrap();
                    support::assert_whole(&session.credentials().unwrap());
                }
            })
        })
        .collect();
    for comer in comers {
        comer.finish();
    }
    let _ = SharedSession::remove(&name);
}
