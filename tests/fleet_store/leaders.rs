//! Leaders that die, hang, fail, or have led in another store.

use std::time::Duration;

use nix::sys::signal::Signal;
use shmcreds::{
    Fleet, FleetKeys, FleetRole, SharedSession,
    testing::{Fault, LocalSts, Times},
};

use crate::{
    server::Server,
    shared_set::{KEY, SET, a_set, host, named, open, sharing, status},
    support::{Child, Gate, assumed, child, name, role, stop, until},
};

/// A host that leads, and whose call waits.
fn leader(gate: &Gate, open: impl FnOnce() -> SharedSession) -> Child {
    let leader = child(|report| {
        let session = open();
        report.say(format!("{} {}", a_set(&session).access_key_id(), status(&session).given));
    });
    until("the leader calls", || gate.calls() == 1);
    leader
}

/// A source that answers at once, of the same identity as that of a leader.
fn opened() -> Gate {
    let gate = Gate::new();
    gate.open();
    gate
}

/// Lets the lease of the leader end, as if its time had passed.
fn end_lease(server: &Server) {
    server.say(&["HSET", SET, "lease", "1"], "0");
}

pub fn a_killed_leader() {
    let (server, gate, others) = (Server::start(), Gate::new(), opened());
    let killed = name("killed");
    let mut first = leader(&gate, || named(&killed, gate.source(), sharing(&server, KEY)));
    first.signal(Signal::SIGKILL);
    first.reap();
    SharedSession::remove(&killed).unwrap();
    // Hosts that wait: nobody calls while the lease lasts.
    let waiting: Vec<Child> = (0..4)
        .map(|_| {
            child(|report| {
                let session = open(others.source(), sharing(&server, KEY));
                report.say(a_set(&session).access_key_id());
            })
        })
        .collect();
    let claims = || {
        server.run(&["INFO", "commandstats"]).lines().any(|line| {
            let calls =
                line.strip_prefix("cmdstat_eval:calls=").and_then(|rest| rest.split(',').next());
            calls.is_some_and(|calls| calls.parse::<u64>().unwrap() > 12)
        })
    };
    until("the others have asked several times", claims);
    assert_eq!(others.calls(), 0);
    end_lease(&server);
    let mut keys: Vec<String> = waiting.into_iter().map(Child::finish).collect();
    keys.dedup();
    assert_eq!((keys.len(), others.calls()), (1, 1), "{keys:?}");
}

pub fn a_stopped_leader() {
    let (server, gate, others) = (Server::start(), Gate::new(), opened());
    let stopped = leader(&gate, || open(gate.source(), sharing(&server, KEY)));
    stop(stopped.pid);
    end_lease(&server);
    let second = host(
        others.source(),
        || sharing(&server, KEY),
        |session| {
            let set = a_set(session);
            assert_eq!((status(session).role, status(session).given), (FleetRole::Leader, 1));
            set.access_key_id().to_owned()
        },
    );
    let stored = server.run(&["HGET", SET, "token"]);
    gate.open();
    stopped.signal(Signal::SIGCONT);
    // It has a set of its own, but it has given none to the fleet.
    let said = stopped.finish();
    assert!(said.ends_with(" 0") && !said.starts_with(&second), "{said}");
    assert_eq!(server.run(&["HGET", SET, "token"]), stored);
    let own = |session: &SharedSession| a_set(session).access_key_id().to_owned();
    let third = host(others.source(), || sharing(&server, KEY), own);
    assert_eq!((third, gate.calls(), others.calls()), (second, 1, 1));
}

pub fn a_failure() {
    let (server, sts) = (Server::start(), LocalSts::fork().unwrap());
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let text = |session: &SharedSession| session.credentials().unwrap_err().to_string();
    let first = host(role(&sts), || sharing(&server, KEY), text);
    assert!(first.contains("AccessDenied"), "{first}");
    // Others do not call while the pause lasts. They say why.
    server.say(&["HSET", SET, "paused", &far(&server)], "0");
    let second = host(
        role(&sts),
        || sharing(&server, KEY),
        |session| {
            let error = session.credentials().unwrap_err();
            assert!(
                error.retry_after().is_some_and(|time| time > Duration::from_secs(3)),
                "{error}"
            );
            error.to_string()
        },
    );
    assert!(second.contains("the call of another host of the fleet has failed"), "{second}");
    assert_eq!(assumed(&sts), 1);
    sts.clear_faults().unwrap();
    server.say(&["HSET", SET, "paused", "1"], "0");
    host(role(&sts), || sharing(&server, KEY), |session| a_set(session).access_key_id().to_owned());
    assert_eq!(assumed(&sts), 2);
    // A success ends the count of failures.
    server.say(&["HEXISTS", SET, "failures"], "0");
}

/// Half a minute from now, in milliseconds.
fn far(server: &Server) -> String {
    let seconds: u64 = server.run(&["TIME"]).lines().next().unwrap().parse().unwrap();
    format!("{}", (seconds + 30) * 1000)
}

pub fn a_promoted_replica() {
    let (primary, replica) = (Server::start(), Server::start());
    let (gate, others) = (Gate::new(), opened());
    let address = primary.folder.path().join("store");
    primary.stands_at(&address);
    let at = |server: &Server| {
        let _ = sharing(server, KEY);
        Fleet::redis(format!("redis+unix://{}", address.display()))
            .answer_limit(Duration::from_secs(10))
            .share_set("web", FleetKeys::variable("SHMCREDS_TEST_FLEET_KEY"))
    };
    let old = leader(&gate, || open(gate.source(), at(&primary)));
    assert_eq!(primary.run(&["EXISTS", SET]), "1");
    // The replica has not got the lease of the leader, and is the store from now on.
    assert_eq!(replica.run(&["EXISTS", SET]), "0");
    replica.stands_at(&address);
    let new = host(
        others.source(),
        || at(&replica),
        |session| {
            let key = a_set(session).access_key_id().to_owned();
            assert_eq!(status(session).given, 1);
            key
        },
    );
    gate.open();
    let said = old.finish();
    assert!(said.ends_with(" 0") && !said.starts_with(&new), "fenced: {said}");
    let own = |session: &SharedSession| a_set(session).access_key_id().to_owned();
    let third = host(others.source(), || at(&replica), own);
    assert_eq!((third, gate.calls(), others.calls()), (new, 1, 1), "one call for each store");
}
