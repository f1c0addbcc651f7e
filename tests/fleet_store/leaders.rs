//! Leaders that die, hang, fail, or have led in another store.

use std::time::Duration;

use nix::sys::signal::Signal;
use shmcreds::{
    Fleet, FleetKeys, FleetRole, SharedSession,
    testing::{Fault, LocalSts, Settings, Times},
};

use crate::{
    server::Server,
    shared_set::{KEY, SET, a_set, host, named, open, sharing, status},
    support::{Child, assumed, child, name, role, stop, until},
};

/// A host with the session `session` that leads, and whose call of STS does not end before `latency`.
fn leader(session: &str, server: &Server, sts: &LocalSts, latency: Duration) -> Child {
    sts.inject(Fault::Under(Settings::new().latency(latency)), Times::Next(1)).unwrap();
    let calls = assumed(sts);
    let leader = child(|report| {
        let session = named(session, role(sts), sharing(server, KEY));
        report.say(format!("{} {}", a_set(&session).access_key_id(), status(&session).given));
    });
    until("the leader calls", || assumed(sts) > calls);
    leader
}

/// Lets the lease of the leader end, as if its time had passed.
fn end_lease(server: &Server) {
    server.say(&["HSET", SET, "lease", "1"], "0");
}

pub fn a_killed_leader() {
    let (server, sts) = (Server::start(), LocalSts::fork().unwrap());
    let killed = name("killed");
    let mut first = leader(&killed, &server, &sts, Duration::from_secs(600));
    first.signal(Signal::SIGKILL);
    first.reap();
    SharedSession::remove(&killed).unwrap();
    // Hosts that wait: nobody calls while the lease lasts.
    let waiting: Vec<Child> = (0..4)
        .map(|_| {
            child(|report| {
                let session = open(role(&sts), sharing(&server, KEY));
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
    assert_eq!(assumed(&sts), 1);
    end_lease(&server);
    let mut keys: Vec<String> = waiting.into_iter().map(Child::finish).collect();
    keys.dedup();
    assert_eq!((keys.len(), assumed(&sts)), (1, 2), "{keys:?}");
}

pub fn a_stopped_leader() {
    let (server, sts) = (Server::start(), LocalSts::fork().unwrap());
    let stopped = leader(&name("stopped"), &server, &sts, Duration::from_secs(1));
    stop(stopped.pid);
    end_lease(&server);
    let second = host(
        role(&sts),
        || sharing(&server, KEY),
        |session| {
            let set = a_set(session);
            assert_eq!((status(session).role, status(session).given), (FleetRole::Leader, 1));
            set.access_key_id().to_owned()
        },
    );
    let stored = server.run(&["HGET", SET, "token"]);
    stopped.signal(Signal::SIGCONT);
    // It has a set of its own, but it has given none to the fleet.
    let said = stopped.finish();
    assert!(said.ends_with(" 0") && !said.starts_with(&second), "{said}");
    assert_eq!(server.run(&["HGET", SET, "token"]), stored);
    let third = host(role(&sts), || sharing(&server, KEY), |s| a_set(s).access_key_id().to_owned());
    assert_eq!((third, assumed(&sts)), (second, 2));
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
    let (primary, sts) = (Server::start(), LocalSts::fork().unwrap());
    let replica = Server::start();
    let address = primary.folder.path().join("store");
    primary.stands_at(&address);
    let at = |server: &Server| {
        let _ = sharing(server, KEY);
        Fleet::redis(format!("redis+unix://{}", address.display()))
            .answer_limit(Duration::from_secs(10))
            .share_set("web", FleetKeys::variable("SHMCREDS_TEST_FLEET_KEY"))
    };
    sts.inject(Fault::Under(Settings::new().latency(Duration::from_secs(1))), Times::Next(1))
        .unwrap();
    let old = child(|report| {
        let session = open(role(&sts), at(&primary));
        report.say(format!("{} {}", a_set(&session).access_key_id(), status(&session).given));
    });
    until("the leader calls", || assumed(&sts) == 1);
    assert_eq!(primary.run(&["EXISTS", SET]), "1");
    // The replica has not got the lease of the leader, and is the store from now on.
    assert_eq!(replica.run(&["EXISTS", SET]), "0");
    replica.stands_at(&address);
    let new = host(
        role(&sts),
        || at(&replica),
        |session| {
            let key = a_set(session).access_key_id().to_owned();
            assert_eq!(status(session).given, 1);
            key
        },
    );
    let said = old.finish();
    assert!(said.ends_with(" 0") && !said.starts_with(&new), "fenced: {said}");
    let third = host(role(&sts), || at(&replica), |s| a_set(s).access_key_id().to_owned());
    assert_eq!((third, assumed(&sts)), (new, 2), "one call for each store");
}
