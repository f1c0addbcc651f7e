//! One call for all processes, and nothing that is left in the process that makes it.

use std::{collections::BTreeSet, path::Path, time::Duration};

use aws_credential_types::Credentials;
use shmcreds::{
    ErrorKind, Provider, SharedSession, SourceErrorClass,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};

use crate::{
    descriptors,
    support::{self, Child, assumed, child, name, role, segment, threads, until, until_alone},
};

pub fn create_and_credentials_leave_nothing_behind() {
    let sts = LocalSts::fork().unwrap();
    // Where its `signal` feature is compiled in, tokio makes one socket pair for the life of the
    // process with the first runtime, which any code may build: the test must not close it.
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    let before = descriptors();
    let session = SharedSession::builder(name("clean")).source(role(&sts)).create().unwrap();
    assert_eq!(threads(), 1);
    let created = descriptors();
    assert_eq!(created.len(), before.len() + 2, "the segment and the lock file: {created:?}");

    session.credentials().unwrap();
    until_alone();
    assert_eq!(descriptors(), created);

    let path = segment(session.name());
    drop(session);
    assert_eq!(descriptors(), before);
    assert!(!Path::new(&path).exists());
}

/// Workers that attach, say so, and tell the key that four threads of theirs get.
pub fn workers(name: &str, count: usize) -> Vec<Child> {
    (0..count)
        .map(|_| {
            child(|report| {
                let session = SharedSession::attach(name).unwrap();
                report.say(".");
                let threads: Vec<_> = (0..4)
                    .map(|_| session.clone())
                    .map(|session| std::thread::spawn(move || session.credentials().unwrap()))
                    .collect();
                for thread in threads {
                    report.say(format!("{}\n", thread.join().unwrap().access_key_id()));
                }
            })
        })
        .collect()
}

pub fn keys(workers: Vec<Child>) -> BTreeSet<String> {
    let said = workers.into_iter().map(Child::finish);
    said.flat_map(|said| said.replace('.', "").lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

pub fn a_cold_start_is_one_call() {
    let sts = LocalSts::fork().unwrap();
    sts.configure(Settings::new().latency(Duration::from_millis(200))).unwrap();
    let session = SharedSession::builder(name("cold")).source(role(&sts)).create().unwrap();
    let keys = keys(workers(session.name(), 64));
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!((assumed(&sts), session.status().unwrap().source_calls()), (1, 1));
}

pub fn each_cycle_is_one_call() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let session =
        SharedSession::builder(name("cycles")).source(role(&sts)).clock(&clock).create().unwrap();
    let mut seen = BTreeSet::new();
    for cycle in 1..=3 {
        let fresh = keys(workers(session.name(), 64));
        assert_eq!(fresh.len(), 1, "{fresh:?}");
        assert!(seen.is_disjoint(&fresh), "an expired set was served");
        seen.extend(fresh);
        assert_eq!(assumed(&sts), cycle);
        assert_eq!(session.status().unwrap().generation(), cycle as u64);
        // Past its end, by the hour that it lives.
        clock.advance(Duration::from_secs(3700));
    }
}

/// To look at the name again would free the locks that the process has on its lock file.
pub fn a_refresh_outlives() {
    let name = name("outlives");
    let slow = || Provider::new("slow", || async { std::future::pending::<Credentials>().await });
    // Forked before, it has no handle of the creator's.
    let mut other = child(|report| {
        let attach = || {
            let builder = SharedSession::builder(&name).source(slow());
            builder.wait_timeout(Duration::from_millis(50)).attach()
        };
        until("there is a session", || attach().is_ok());
        assert_eq!(attach().unwrap().credentials().unwrap_err().kind(), ErrorKind::Timeout);
        let error = SharedSession::builder(&name).source(slow()).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
        report.say(".");
        std::thread::sleep(support::LIMIT);
    });
    let session = SharedSession::builder(&name).source(slow()).create().unwrap();
    other.hear();
    let status = session.status().unwrap();
    let elected = *status.lease_holder().unwrap();
    assert!(elected.is_alive() && elected.pid() == other.pid.as_raw() as u32);
}

pub fn one_failure_is_one_call() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let session =
        SharedSession::builder(name("denied")).source(role(&sts)).clock(&clock).create().unwrap();
    let workers: Vec<Child> = (0..16)
        .map(|_| {
            child(|report| {
                let session = SharedSession::attach(session.name()).unwrap();
                let error = session.credentials().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::SourceTerminal);
                let said = error.source_error().unwrap();
                assert_eq!((said.code(), said.http_status()), (Some("AccessDenied"), Some(403)));
                assert_eq!(said.class(), SourceErrorClass::Terminal);
                report.say(format!("{} {}", said.request_id().unwrap(), said.message()));
            })
        })
        .collect();
    let mut said: Vec<String> = workers.into_iter().map(Child::finish).collect();
    said.dedup();
    assert_eq!((said.len(), assumed(&sts)), (1, 1), "{said:?}");
    // The status shows the same, also beside other handles.
    let last = session.status().unwrap().last_failure().unwrap().failure().clone();
    assert_eq!(said[0], format!("{} {}", last.request_id().unwrap(), last.message()));
    assert_eq!(last.http_status(), Some(403));
    // After the back-off somebody may ask again, and the error is gone with its cause.
    sts.clear_faults().unwrap();
    clock.advance(Duration::from_secs(6));
    session.credentials().unwrap();
    assert_eq!(assumed(&sts), 2);
}
