//! Stores over a network: TLS, and a cluster.

use std::{fs, time::Duration};

use nix::sched::{CloneFlags, unshare};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use shmcreds::{Fleet, FleetKeys, FleetStoreState};

use crate::{
    outages::link,
    server::Server,
    shared_set::{KEY, open, sharing, status},
    support::{child, instant, until},
};

/// Runs `work` in a network of its own, in which all ports are free.
pub fn alone(work: impl FnOnce()) {
    child(|_| {
        let root = nix::unistd::geteuid().is_root();
        let user = if root { CloneFlags::empty() } else { CloneFlags::CLONE_NEWUSER };
        unshare(CloneFlags::CLONE_NEWNET | user)
            .expect("a network namespace: run the test as root, or allow user namespaces");
        link("up");
        work();
    })
    .finish();
}

pub fn patient(url: &str) -> Fleet {
    Fleet::redis(url).answer_limit(Duration::from_secs(10)).hosts(1)
}

pub fn a_certificate_is_checked() {
    alone(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let authority = || {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (known, other) = (authority(), authority());
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &known).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        fs::write(path("certificate"), certificate.pem()).unwrap();
        fs::write(path("ca"), known.pem()).unwrap();
        fs::write(path("other"), other.pem()).unwrap();
        fs::write(path("empty"), "").unwrap();
        let _server = Server::with(&[
            "--tls-port",
            "7777",
            "--tls-auth-clients",
            "no",
            "--tls-key-file",
            &path("key"),
            "--tls-cert-file",
            &path("certificate"),
            "--tls-ca-cert-file",
            &path("ca"),
        ]);
        let state = |url: &str, ca: &str| {
            let session = open(instant(), patient(url).ca_file(path(ca)));
            session.credentials().unwrap();
            let status = status(&session);
            assert_eq!(status.permits + status.local_share, 1);
            status.store
        };
        assert_eq!(state("rediss://localhost:7777", "ca"), FleetStoreState::Answers);
        // The certificate is of another authority, or of another name.
        assert_ne!(state("rediss://localhost:7777", "other"), FleetStoreState::Answers);
        assert_ne!(state("rediss://127.0.0.1:7777", "ca"), FleetStoreState::Answers);
        for ca in ["empty", "missing"] {
            assert_ne!(state("rediss://localhost:7777", ca), FleetStoreState::Answers);
        }
        // The authorities of the system do not know this one.
        let session = open(instant(), patient("rediss://localhost:7777"));
        session.credentials().unwrap();
        assert_ne!(status(&session).store, FleetStoreState::Answers);
    });
}

pub fn a_node_of_a_cluster_names_the_other() {
    alone(|| {
        let node = |port: &str| {
            Server::with(&[
                "--port",
                port,
                "--bind",
                "127.0.0.1",
                "--cluster-enabled",
                "yes",
                "--cluster-require-full-coverage",
                "no",
            ])
        };
        let nodes = [node("7777"), node("7778")];
        nodes[0].say(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"], "OK");
        nodes[1].say(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"], "OK");
        nodes[0].say(&["CLUSTER", "MEET", "127.0.0.1", "7778"], "OK");
        let knows_both = |server: &Server| {
            let slots = server.run(&["CLUSTER", "SLOTS"]);
            slots.contains("7777")
                && slots.contains("7778")
                && server.run(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        };
        until("both nodes know each other", || nodes.iter().all(knows_both));
        let _ = sharing(&nodes[0], KEY);
        // Some of the names are on the other node.
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let fleet = || {
                let keys = FleetKeys::variable("SHMCREDS_TEST_FLEET_KEY");
                patient("redis://127.0.0.1:7777").budget(name, 100.0).share_set(name, keys)
            };
            let (first, second) = (open(instant(), fleet()), open(instant(), fleet()));
            let set = first.credentials().unwrap();
            assert_eq!(
                second.credentials().unwrap().access_key_id(),
                set.access_key_id(),
                "{name}"
            );
            assert_eq!((status(&first).permits, status(&second).taken), (1, 1), "{name}");
        }
        let keys: Vec<String> = nodes.iter().map(|node| node.run(&["DBSIZE"])).collect();
        assert!(keys.iter().all(|count| count != "0"), "both nodes are used: {keys:?}");
        // A list of nodes: nobody listens on the first port.
        let list = "redis://127.0.0.1:7776,127.0.0.1:7778,127.0.0.1:7777";
        let session = open(instant(), patient(list).budget("a", 100.0));
        session.credentials().unwrap();
        assert_eq!(status(&session).permits, 1);
        // Keys that are on their way from one node to the other: the first one sends the host to the second one.
        let ids = nodes.each_ref().map(|node| node.run(&["CLUSTER", "MYID"]));
        for (name, from) in [("moves-1", 0), ("moves-2", 1)] {
            let (from, to) = (from, 1 - from);
            let slot = |name: &str| {
                let key = format!("shmcreds:{{{name}}}:budget");
                nodes[0].run(&["CLUSTER", "KEYSLOT", &key]).parse::<u32>().unwrap()
            };
            let is_here = |name: &str| (slot(name) > 8191) == (from == 1);
            let name = (0..).map(|n| format!("{name}-{n}")).find(|name| is_here(name)).unwrap();
            let slot = slot(&name).to_string();
            nodes[to].say(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[from]], "OK");
            nodes[from].say(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[to]], "OK");
            let session = open(instant(), patient("redis://127.0.0.1:7777").budget(&name, 100.0));
            session.credentials().unwrap();
            assert_eq!(status(&session).permits, 1, "{name}");
            let stored = nodes[to].run(&["CLUSTER", "COUNTKEYSINSLOT", &slot]);
            assert_eq!(stored, "1", "{name}: the key is at the node that it moves to");
        }
    });
}
