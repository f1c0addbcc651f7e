//! Sentinels tell which server is the primary.

use std::time::Duration;

use shmcreds::{Fleet, FleetKeys, FleetRole, FleetStoreState, SharedSession};

use crate::{
    networks::{alone, patient},
    server::Server,
    shared_set::{KEY, SET, open, sharing, status},
    support::{assert_whole, instant, until},
    wrong_answers::liar,
};

/// Nobody listens on the first one.
const SENTINELS: &str = "127.0.0.1:4999,127.0.0.1:5001,127.0.0.1:5002,127.0.0.1:5003";

fn node(port: &str, settings: &[&str]) -> Server {
    Server::with(&[&["--port", port, "--bind", "127.0.0.1"], settings].concat())
}

fn shared(fleet: Fleet) -> SharedSession {
    open(instant(), fleet.share_set("web", FleetKeys::variable("SHMCREDS_TEST_FLEET_KEY")))
}

fn key(session: &SharedSession) -> String {
    let set = session.credentials().unwrap();
    assert_whole(&set);
    set.access_key_id().to_owned()
}

/// The state of the store after a call by way of this URL.
fn state(fleet: Fleet) -> FleetStoreState {
    let session = open(instant(), fleet);
    key(&session);
    let status = status(&session);
    assert_eq!(status.permits + status.local_share, 1);
    status.store
}

/// A part of what a server says of its role, or a Sentinel of the service.
fn says(server: &Server, command: &[&str], name: &str, value: &str) -> bool {
    let said = server.run(command);
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| pair == [name, value])
        || lines.contains(&&*format!("{name}:{value}"))
}

fn has_role(server: &Server, role: &str) -> bool {
    says(server, &["INFO", "replication"], "role", role)
}

/// The primary is killed while hosts use it.
pub fn a_failover() {
    alone(|| {
        let mut primary = node("7001", &[]);
        let replica = node("7002", &["--replicaof", "127.0.0.1", "7001"]);
        let mut sentinels = ["5001", "5002", "5003"].map(|port| Server::sentinel(port, "7001", ""));
        until("the Sentinels know the replica and each other", || {
            let service = ["SENTINEL", "MASTER", "web"];
            sentinels.iter().all(|sentinel| {
                says(sentinel, &service, "num-slaves", "1")
                    && says(sentinel, &service, "num-other-sentinels", "2")
            })
        });
        let _ = sharing(&primary, KEY);
        let url = format!("redis+sentinel://{SENTINELS}/web");
        let before = shared(patient(&url));
        let set = key(&before);
        assert_eq!((status(&before).store, status(&before).given), (FleetStoreState::Answers, 1));
        until("the replica has the set", || replica.run(&["EXISTS", SET]) == "1");
        primary.kill();
        let mut hosts = 0;
        until("the replica is the primary", || {
            // At each moment hosts keep their set, and newcomers get one.
            assert_eq!(key(&before), set);
            key(&shared(Fleet::redis(&url).hosts(1)));
            hosts += 1;
            has_role(&replica, "master")
        });
        assert!(hosts > 3, "{hosts} hosts during the failover");
        until("the fleet has its store again", || {
            let after = shared(patient(&url));
            key(&after);
            status(&after).role == FleetRole::Follower
        });
        before.refresh().unwrap();
        assert_eq!(status(&before).store, FleetStoreState::Answers);

        // The Sentinel that led the failover tells the others, which takes seconds.
        until("the Sentinel that stays knows the new primary", || {
            says(&sentinels[0], &["SENTINEL", "MASTER", "web"], "port", "7002")
        });
        // One Sentinel alone starts no other failover.
        for sentinel in &mut sentinels[1..] {
            sentinel.kill();
        }
        // The old primary comes back, as a replica.
        let old = node("7001", &["--replicaof", "127.0.0.1", "7002"]);
        until("the old primary follows the new one", || {
            says(&old, &["INFO", "replication"], "master_link_status", "up")
        });
        // A list that names it is passed over, and a Sentinel that is not up to date.
        let answers = FleetStoreState::Answers;
        assert_eq!(state(patient("redis://127.0.0.1:7001,127.0.0.1:7002")), answers);
        let stale = b"*2\r\n$9\r\n127.0.0.1\r\n$4\r\n7001\r\n".to_vec();
        let (_stale, stale) = liar(stale);
        let stale = stale.trim_start_matches("redis://").to_owned();
        assert_eq!(
            state(patient(&format!("redis+sentinel://{stale},127.0.0.1:5001/web"))),
            answers
        );
        assert_eq!(
            state(patient(&format!("redis+sentinel://{stale}/web"))),
            FleetStoreState::Wrong
        );
        assert_eq!(state(patient("redis://127.0.0.1:7001")), FleetStoreState::Wrong);
    });
}

pub fn sentinels_that_do_not_help() {
    alone(|| {
        let primary = node("7001", &[]);
        let asked = "hunter2secret";
        let lock = format!("requirepass {asked}\n");
        let _sentinel = Server::sentinel("5001", "7001", &lock);
        let file = primary.folder.path().join("password");
        std::fs::write(&file, asked).unwrap();
        let locked = |url: &str| patient(url).sentinel_password_file(&file);
        let known = "redis+sentinel://127.0.0.1:5001/web";
        assert_eq!(state(locked(known)), FleetStoreState::Answers);
        // The password of the URL is that of the servers, and these want none.
        for (fleet, expected) in [
            (patient(known), FleetStoreState::Wrong),
            (patient("redis+sentinel://:hunter2secret@127.0.0.1:5001/web"), FleetStoreState::Wrong),
            (locked("redis+sentinel://127.0.0.1:5001/another"), FleetStoreState::Wrong),
            (patient("redis+sentinel://127.0.0.1:7001/web"), FleetStoreState::Wrong),
            (patient("redis+sentinel://127.0.0.1:4999/web"), FleetStoreState::Unreachable),
        ] {
            assert_eq!(state(fleet), expected);
        }
        for answer in [
            "*2\r\n$0\r\n\r\n$4\r\n7001\r\n",
            "*2\r\n$1\r\na\r\n$5\r\n70000\r\n",
            "*1\r\n$1\r\na\r\n",
            "*2\r\n:1\r\n:2\r\n",
            "+OK\r\n",
            "*2\r\n$2\r\n\u{fffd}\r\n$1\r\n1\r\n",
        ] {
            let (_liar, url) = liar(answer.as_bytes().to_vec());
            let url = url.replace("redis://", "redis+sentinel://") + "/web";
            let quick = Fleet::redis(url).answer_limit(Duration::from_millis(200)).hosts(1);
            assert_ne!(state(quick), FleetStoreState::Answers, "{answer:?}");
        }
        // One that never answers keeps the next one waiting for a moment only.
        let silent = std::net::TcpListener::bind("127.0.0.1:5005").unwrap();
        let both = locked("redis+sentinel://127.0.0.1:5005,127.0.0.1:5001/web");
        assert_eq!(state(both.answer_limit(Duration::from_secs(5))), FleetStoreState::Answers);
        drop(silent);
    });
}
