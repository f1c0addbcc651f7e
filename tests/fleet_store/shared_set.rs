//! The set that a fleet shares.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::Credentials;
use shmcreds::{
    Fleet, FleetKeys, FleetStatus, Provider, SharedSession, Source,
    testing::{LocalSts, Settings},
};

use crate::{
    budget::fleet,
    server::Server,
    support::{
        Child, StopFile, assert_whole, assumed, child, instant, instant_set, name, role, until,
    },
};

pub const KEY: &str = "0f0e0d0c0b0a09080706050403020100f0e0d0c0b0a090807060504030201000";
pub const OTHER: &str = "00000000000000000000000000000000000000000000000000000000000000ff";
pub const VARIABLE: &str = "SHMCREDS_TEST_FLEET_KEY";
pub const SET: &str = "shmcreds:{web}:set";

/// The fleet of this process, which encrypts with these keys.
pub fn sharing(server: &Server, keys: &str) -> Fleet {
    // SAFETY: the process has one thread.
    unsafe { std::env::set_var(VARIABLE, keys) };
    fleet(server).hosts(1).share_set("web", FleetKeys::variable(VARIABLE))
}

pub fn open(source: impl Source, fleet: Fleet) -> SharedSession {
    named(&name("host"), source, fleet)
}

pub fn named(name: &str, source: impl Source, fleet: Fleet) -> SharedSession {
    SharedSession::builder(name).source(source).fleet(fleet).create().unwrap()
}

pub fn status(session: &SharedSession) -> FleetStatus {
    *session.status().unwrap().fleet().unwrap()
}

/// Runs `work` with a session in a process of its own, which stands for a host.
pub fn host(
    source: impl Source,
    fleet: impl FnOnce() -> Fleet,
    work: impl FnOnce(&SharedSession) -> String,
) -> String {
    child(|report| report.say(work(&open(source, fleet())))).finish()
}

pub fn key(session: &SharedSession) -> String {
    session.credentials().unwrap().access_key_id().to_owned()
}

pub fn sixty_four_hosts() {
    let (server, sts) = (Server::start(), LocalSts::fork().unwrap());
    sts.configure(Settings::new().latency(Duration::from_millis(300))).unwrap();
    let stop = StopFile::new(&name("fleet-64"));
    let mut hosts: Vec<Child> = (0..64)
        .map(|_| {
            child(|report| {
                let session = open(role(&sts), sharing(&server, KEY));
                report.say(format!("{}\n", key(&session)));
                until("the test is over", || stop.is_there());
                let (fleet, status) = (status(&session), session.status().unwrap());
                let role = fleet.role.as_str();
                report.say(format!(
                    "{role} {} {} {}",
                    status.source_calls(),
                    fleet.given,
                    fleet.taken
                ));
            })
        })
        .collect();
    let keys: BTreeSet<String> = hosts.iter_mut().map(Child::hear_line).collect();
    assert_eq!((keys.len(), assumed(&sts)), (1, 1), "{keys:?}");
    let mut said = stop.end(hosts);
    said.sort();
    let followers = vec!["follower 0 0 1".to_owned(); 63];
    assert_eq!((&said[..63], said[63].as_str()), (&followers[..], "leader 1 1 0"));
    // The expiry of a set has whole seconds: this one is later.
    sts.configure(Settings::new().lifetime(Duration::from_secs(7200))).unwrap();
    // A host that asks again gets a new set, and those that come later get that one.
    let refreshed = host(
        role(&sts),
        || sharing(&server, KEY),
        |session| {
            assert!(keys.contains(&key(session)));
            session.refresh().unwrap().access_key_id().to_owned()
        },
    );
    assert!(!keys.contains(&refreshed));
    assert_eq!(host(role(&sts), || sharing(&server, KEY), key), refreshed);
    assert_eq!(assumed(&sts), 2);
}

pub fn an_older_or_a_foreign_set() {
    let server = Server::start();
    let other = |description: &str| Provider::new(description, || async { instant_set() });
    host(other("an older set"), || sharing(&server, KEY), key);
    server.say(&["COPY", SET, "older"], "1");
    server.say(&["DEL", SET], "1");
    let source = || other("an older set");
    host(
        source(),
        || sharing(&server, KEY),
        |session| {
            let newer = session.credentials().unwrap();
            // The store goes back to an older set: the host does not take it.
            server.say(&["COPY", "older", SET, "REPLACE"], "1");
            let next = session.refresh().unwrap();
            assert!(next.expiry() > newer.expiry());
            assert_eq!((status(session).taken, status(session).given), (0, 2));
            // The same, with a later expiry than the set itself has.
            server.say(&["COPY", "older", SET, "REPLACE"], "1");
            let hour = SystemTime::now() + Duration::from_secs(7200);
            let later = hour.duration_since(UNIX_EPOCH).unwrap().as_millis().to_string();
            server.say(&["HSET", SET, "expires", &later, "fresh_until", &later], "0");
            let last = session.refresh().unwrap();
            assert!(last.expiry() > next.expiry());
            assert_eq!((status(session).taken, status(session).unusable), (0, 1));
            String::new()
        },
    );
    // The set of another identity, under this name.
    server.say(&["DEL", SET], "1");
    host(other("another identity"), || sharing(&server, KEY), key);
    host(
        source(),
        || sharing(&server, KEY),
        |session| {
            assert_whole(&session.credentials().unwrap());
            assert_eq!((status(session).taken, status(session).unusable), (0, 1));
            String::new()
        },
    );
    // Values of other types and lengths.
    for (field, value) in [
        ("sealed", ""),
        ("sealed", "x"),
        ("expires", "nan"),
        ("expires", "1e300"),
        ("expires", "-1"),
        ("fresh_until", "x"),
        ("token", "inf"),
        ("lease", "1e300"),
        ("paused", "1e300"),
        ("failures", "-9"),
        ("failures", "1e300"),
        ("token", "1e17"),
    ] {
        server.say(&["DEL", SET], "1");
        host(source(), || sharing(&server, KEY), key);
        server.run(&["HSET", SET, field, value]);
        host(
            source(),
            || sharing(&server, KEY),
            |session| {
                assert_whole(&session.credentials().unwrap());
                session.refresh().map(|set| assert_whole(&set)).unwrap();
                String::new()
            },
        );
    }
}

pub fn a_lost_store() {
    let mut server = Server::start();
    let first = host(instant(), || sharing(&server, KEY), key);
    let stop = StopFile::new(&name("fleet-lost"));
    let mut keeper = child(|report| {
        let session = open(instant(), sharing(&server, KEY));
        report.say(format!("{}\n", key(&session)));
        until("the store is lost", || stop.is_there());
        // The set stays. A refresh goes on without the store.
        let before = key(&session);
        let after = session.refresh().unwrap().access_key_id().to_owned();
        assert_ne!(before, after);
        report.say(format!("{before} {}", status(&session).local_share));
    });
    assert_eq!(keeper.hear_line(), first);
    server.kill();
    stop.write();
    assert_eq!(keeper.finish(), format!("{first} 1"));
    server.restart_empty();
    let second = host(instant(), || sharing(&server, KEY), key);
    assert_ne!(second, first);
    assert_eq!(host(instant(), || sharing(&server, KEY), key), second);
}

/// What a host of the tests gets.
pub fn a_set(session: &SharedSession) -> Credentials {
    session.credentials().unwrap()
}
