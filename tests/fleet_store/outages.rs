//! The store fails: an outage of the store is no outage of credentials.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, unshare};
use shmcreds::{Fleet, FleetStatus, FleetStoreState, SharedSession};

use crate::{
    budget::{fleet, host, outcome},
    server::Server,
    shared_set,
    support::{StopFile, assert_whole, child, instant, name, until},
};

/// One call of this host in a minute, while the store gives no answer.
fn many_hosts(fleet: Fleet) -> Fleet {
    fleet.budget("b", 1.0).hosts(60)
}

fn status(session: &SharedSession) -> FleetStatus {
    *session.status().unwrap().fleet().unwrap()
}

pub fn a_store_that_is_down() {
    let mut server = Server::start();
    server.kill();
    let restart = many_hosts(fleet(&server));
    let said = host(many_hosts(fleet(&server)), |session| {
        assert_eq!(outcome(session), "set");
        let now = status(session);
        assert_eq!((now.store, now.permits, now.local_share), (FleetStoreState::Unreachable, 0, 1));
        // The share of this host is one call a minute.
        let refused = session.refresh().unwrap_err();
        let again = refused.retry_after().unwrap();
        assert!(again > Duration::from_secs(30), "{again:?}: {refused}");
        assert_eq!(status(session).refused, 1);
        assert_eq!(session.status().unwrap().source_calls(), 1);
        refused.to_string()
    });
    assert!(said.contains("the share of this host is used up"), "{said}");
    // A store that was restarted, empty, gives permits again.
    server.restart_empty();
    assert!(
        host(restart, |session| format!("{}", {
            session.credentials().unwrap();
            status(session).permits
        })) == "1"
    );
}

pub fn a_slow_store() {
    let server = Server::start();
    let mut slow = server.folder.path().to_owned();
    slow.push("socket");
    server.say(&["CLIENT", "PAUSE", "100000", "ALL"], "OK");
    // The limit of 50 ms holds by default.
    let said = host(many_hosts(Fleet::redis(server.url())), |session| {
        let begun = Instant::now();
        session.credentials().unwrap();
        let now = status(session);
        assert_eq!((now.store, now.local_share), (FleetStoreState::Slow, 1));
        assert!(now.latency >= Duration::from_millis(50), "{now:?}");
        // The limit, and not the end of the pause. A busy machine takes some of that.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        session.status().unwrap().to_string()
    });
    assert!(said.contains("its store slow"), "{said}");
}

pub fn a_store_without_memory() {
    let server = Server::start();
    server.say(&["CONFIG", "SET", "maxmemory", "1"], "OK");
    server.say(&["CONFIG", "SET", "maxmemory-policy", "noeviction"], "OK");
    let said = host(many_hosts(fleet(&server)), |session| {
        session.credentials().unwrap();
        format!("{:?}", status(session))
    });
    assert!(said.contains("store: Wrong") && said.contains("local_share: 1"), "{said}");
}

/// Hosts that share a set fetch their own while the store is of no use.
pub fn a_shared_set_beside_a_useless_store() {
    let slow = [&["CLIENT", "PAUSE", "100000", "ALL"][..]];
    let full = [
        &["CONFIG", "SET", "maxmemory-policy", "noeviction"][..],
        &["CONFIG", "SET", "maxmemory", "1"][..],
    ];
    for trouble in [&slow[..], &full[..]] {
        let server = Server::start();
        let open = || {
            let fleet = shared_set::sharing(&server, shared_set::KEY).hosts(60);
            shared_set::open(instant(), fleet.answer_limit(Duration::from_secs(1)))
        };
        let key = |session: &SharedSession| {
            let set = shared_set::a_set(session);
            assert_whole(&set);
            set.access_key_id().to_owned()
        };
        let state = if trouble == slow { FleetStoreState::Slow } else { FleetStoreState::Wrong };
        let stop = StopFile::new(&name("useless"));
        let mut member = child(|report| {
            let session = open();
            report.say(format!("{}\n", key(&session)));
            until("the store is of no use", || stop.is_there());
            let after = session.refresh().unwrap().access_key_id().to_owned();
            // The store refuses the set of a claim that it has not granted. That is no answer of a store in order.
            let now = status(&session);
            report.say(format!("{after} {:?} {}", now.store, now.local_share));
        });
        let shared = member.hear_line();
        for command in trouble {
            server.say(command, "OK");
        }
        stop.write();
        let alone = member.finish();
        let end = format!(" {state:?} 1");
        assert!(!alone.starts_with(&shared) && alone.ends_with(&end), "{trouble:?}: {alone}");
        let newcomer = child(|report| report.say(key(&open()))).finish();
        assert!(trouble != slow || newcomer != shared, "a slow store has given a set");
    }
}

/// The server and the host are in a network of their own, which is cut and joined again.
pub fn a_partition() {
    child(|report| {
        let root = nix::unistd::geteuid().is_root();
        let flags = if root {
            CloneFlags::CLONE_NEWNET
        } else {
            CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUSER
        };
        unshare(flags)
            .expect("a network namespace: run the test as root, or allow user namespaces");
        link("up");
        let server = Server::with(&["--port", "7777", "--bind", "127.0.0.1"]);
        let url = "redis://127.0.0.1:7777";
        let patient = Fleet::redis(url).answer_limit(Duration::from_secs(10)).hosts(1);
        let open = |fleet| {
            let builder = SharedSession::builder(name("cut")).source(instant()).fleet(fleet);
            builder.create().unwrap()
        };
        let session = open(patient);
        session.credentials().unwrap();
        assert_eq!(
            (status(&session).store, status(&session).permits),
            (FleetStoreState::Answers, 1)
        );
        // Nothing comes through any more: no answer, and no error either.
        link("down");
        let cut = open(Fleet::redis(url));
        cut.credentials().unwrap();
        assert_ne!(status(&cut).store, FleetStoreState::Answers);
        assert_eq!(status(&cut).local_share, 1);
        link("up");
        session.refresh().unwrap();
        assert_eq!(
            (status(&session).store, status(&session).permits),
            (FleetStoreState::Answers, 2)
        );
        drop(server);
        report.say("done");
    })
    .finish();
}

pub fn link(state: &str) {
    assert!(Command::new("ip").args(["link", "set", "lo", state]).status().unwrap().success());
}
