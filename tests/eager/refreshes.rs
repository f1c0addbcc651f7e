//! The refreshes: in time, on request, and during an outage.

use std::{collections::BTreeSet, time::Duration};

use shmcreds::{
    Refresh, SharedSession,
    testing::{Fault, LocalSts, ManualClock, Times},
};

use crate::{
    eager_with_clock, refresher, short_lived,
    support::{Child, StopFile, assumed, child, instant, name, role, threads, until},
};

/// Not even while it renews its lease.
pub fn a_living_refresher_never_looks_dead() {
    let builder = SharedSession::builder(name("alive")).source(instant()).refresh(Refresh::Eager);
    let session = builder.create().unwrap();
    let _busy = child(|_| {
        loop {
            session.refresh().unwrap();
        }
    });
    until("it is busy", || session.status().unwrap().generation() > 100);
    for _ in 0..100_000 {
        assert!(session.status().unwrap().lease_holder().unwrap().is_alive());
    }
}

/// Workers that read flat out until told to stop; each tells how many keys it saw.
pub fn readers(
    session: &SharedSession,
    clock: Option<&ManualClock>,
    count: usize,
) -> (Vec<Child>, StopFile) {
    let stop = StopFile::new(session.name());
    let readers = (0..count)
        .map(|_| {
            child(|report| {
                let builder = SharedSession::builder(session.name());
                let session = match clock {
                    Some(clock) => builder.clock(clock).attach().unwrap(),
                    None => builder.attach().unwrap(),
                };
                report.say(".");
                let mut keys = BTreeSet::new();
                while !stop.is_there() {
                    for _ in 0..200 {
                        keys.insert(session.credentials().unwrap().access_key_id().to_owned());
                    }
                }
                let count = threads();
                report.say(format!("{} {count}\n", keys.len()));
            })
        })
        .map(|mut child| {
            child.hear();
            child
        })
        .collect();
    (readers, stop)
}

pub fn each_cycle_is_one_call() {
    let sts = LocalSts::fork().unwrap();
    short_lived(&sts);
    let clock = ManualClock::new().unwrap();
    let session = eager_with_clock("cycles", &sts, &clock);
    let pid = refresher(&session);
    let (readers, stop) = readers(&session, Some(&clock), 16);
    for cycle in 2..=10 {
        // Into the advisory window: readers have a valid set all along.
        let due = session.status().unwrap().refresh_in();
        clock.advance(due + Duration::from_secs(1));
        until("the next set", || session.status().unwrap().generation() == cycle);
    }
    for said in stop.end(readers) {
        let (_, threads) = said.trim().rsplit_once(' ').unwrap();
        assert_eq!(threads, "1", "a reader has started something");
    }
    let status = session.status().unwrap();
    assert_eq!((assumed(&sts), status.source_calls(), status.takeovers()), (10, 10, 0));
    assert_eq!(refresher(&session), pid);
}

pub fn a_hundred_rejections_are_one_call() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let session = eager_with_clock("rejected", &sts, &clock);
    let key = session.credentials().unwrap().access_key_id().to_owned();
    let reject = || {
        (0..100)
            .map(|_| {
                child(|report| {
                    let session = SharedSession::attach(session.name()).unwrap();
                    report.say(if session.invalidate(&key).unwrap() { "1" } else { "0" });
                })
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|child| child.finish().parse::<usize>().unwrap())
            .sum::<usize>()
    };
    // Too young to be replaced for that: everyone still gets it.
    assert_eq!(reject(), 1);
    assert_eq!(session.credentials().unwrap().access_key_id(), key);
    assert_eq!(assumed(&sts), 1);
    clock.advance(Duration::from_secs(6));
    until("the successor", || session.status().unwrap().generation() == 2);
    assert_ne!(session.credentials().unwrap().access_key_id(), key);
    // A key that is no longer current.
    assert_eq!(reject(), 0);
    assert_eq!((assumed(&sts), session.status().unwrap().invalidations()), (2, 1));
}

pub fn an_outage_keeps_to_the_back_off() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let session = SharedSession::builder(name("outage"))
        .source(role(&sts).max_attempts(1))
        .clock(&clock)
        .refresh(Refresh::Eager)
        .create()
        .unwrap();
    let (workers, stop) = readers(&session, Some(&clock), 16);
    sts.inject(Fault::Throttling, Times::UntilCleared).unwrap();
    clock.advance(session.status().unwrap().refresh_in() + Duration::from_secs(1));
    // Each failure says when the next attempt is; nobody asks before.
    for attempt in 2..=6 {
        until("an attempt", || session.status().unwrap().failed() == attempt - 1);
        assert_eq!(assumed(&sts) as u64, attempt);
        let wait = session.status().unwrap().last_failure().unwrap().next_attempt_in();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(300), "{wait:?}");
        if attempt < 6 {
            clock.advance(wait);
        }
    }
    sts.clear_faults().unwrap();
    clock.advance(session.status().unwrap().last_failure().unwrap().next_attempt_in());
    until("the outage is over", || session.status().unwrap().generation() == 2);
    stop.end(workers);
    assert!(session.status().unwrap().last_failure().is_none());
}
