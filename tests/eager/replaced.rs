//! A refresher that is killed or stopped: another process replaces it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use aws_credential_types::Credentials;
use nix::{
    sys::signal::{Signal, kill},
    unistd::getsid,
};
use shmcreds::{
    AssumeRole, Refresh, SharedSession,
    testing::{FaultPoint, LocalSts, ManualClock, signal_at},
};

use crate::{
    eager, eager_with_clock, proc_file, refresher,
    refreshes::readers,
    short_lived,
    support::{self, assumed, name, role, standby, stop, until},
};

pub fn a_worker_goes_on_when_it_is_killed() {
    let sts = LocalSts::fork().unwrap();
    short_lived(&sts);
    let clock = ManualClock::new().unwrap();
    let session = eager_with_clock("takeover", &sts, &clock);
    let first = refresher(&session);
    kill(first, Signal::SIGKILL).unwrap();
    until("it is gone", || !session.status().unwrap().lease_holder().unwrap().is_alive());
    let (workers, stop) = readers(&session, Some(&clock), 4);
    for cycle in 2..=4 {
        clock.advance(session.status().unwrap().refresh_in() + Duration::from_secs(1));
        until("the next set", || session.status().unwrap().generation() == cycle);
    }
    let status = session.status().unwrap();
    let found = *status.lease_holder().unwrap();
    assert!(found.is_alive() && found.pid() != first.as_raw() as u32);
    assert!(workers.iter().any(|worker| worker.pid.as_raw() as u32 == found.pid()));
    assert_eq!((assumed(&sts), status.takeovers()), (4, 1), "eager stays eager");
    stop.end(workers);
}

pub fn another_goes_on_when_it_is_stopped() {
    let sts = LocalSts::fork().unwrap();
    let clock = ManualClock::new().unwrap();
    let session = eager_with_clock("hang", &sts, &clock);
    let first = refresher(&session);
    for round in 0..50 {
        let status = session.status().unwrap();
        let (pid, generation) = (status.lease_holder().map(|r| r.pid()), status.generation());
        if pid == Some(first.as_raw() as u32) {
            stop(first);
        }
        // Past its lease, and past the refresh point.
        clock.advance(status.refresh_in() + Duration::from_secs(60));
        until("another refreshes", || {
            // Time passes: a process looks only every now and then whether somebody refreshes.
            clock.advance(Duration::from_millis(60));
            session.credentials().unwrap();
            session.status().unwrap().published() > generation
        });
        kill(first, Signal::SIGCONT).unwrap();
        assert_eq!(assumed(&sts) as u64, session.status().unwrap().source_calls(), "{round}");
    }
    let status = session.status().unwrap();
    assert_eq!((status.published(), status.failed()), (status.generation(), 0));
    assert_eq!(status.source_calls(), status.generation());
    assert!(status.takeovers() >= 1);
}

/// The role, of which the dedicated process stops itself when its second refresh comes to `stage`.
fn stopping_role(sts: &LocalSts, stage: FaultPoint) -> AssumeRole {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    CALLS.store(0, Ordering::Relaxed);
    let ours = getsid(None);
    // The source is called after the first stage and before the others.
    let last = if stage == FaultPoint::Elected { 1 } else { 2 };
    role(sts).credentials_provider("base", move || async move {
        let call = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        // Only the dedicated process has left the creator's session.
        if getsid(None) != ours && call == last {
            signal_at(stage, Signal::SIGSTOP as i32);
        }
        Credentials::new("AKIAIOSFODNN7EXAMPLE", support::BASE_SECRET, None, None, "base")
    })
}

pub fn one_that_is_stopped_in_a_refresh() {
    let stages =
        [FaultPoint::Elected, FaultPoint::Answered, FaultPoint::MidWrite, FaultPoint::Published];
    for (round, stage) in stages.into_iter().cycle().take(50).enumerate() {
        let sts = LocalSts::fork().unwrap();
        short_lived(&sts);
        let clock = ManualClock::new().unwrap();
        let builder = SharedSession::builder(name("mid")).source(stopping_role(&sts, stage));
        let session = builder.clock(&clock).refresh(Refresh::Eager).create().unwrap();
        let first = refresher(&session);
        let (workers, stop) = readers(&session, Some(&clock), 2);
        clock.advance(session.status().unwrap().refresh_in() + Duration::from_secs(1));
        until("it stops", || proc_file(first, "stat").contains(") T "));
        let generation = session.status().unwrap().generation();
        assert_eq!(generation, if stage == FaultPoint::Published { 2 } else { 1 }, "{stage:?}");
        // Past its lease: a process that needs a set goes on without it.
        clock.advance(Duration::from_secs(60));
        // A worker that ended between publishing and counting would not have counted.
        until("another refreshes", || session.status().unwrap().published() > generation);
        let found = session.credentials().unwrap().access_key_id().to_owned();
        let after = session.status().unwrap();
        assert_ne!(after.lease_holder().map(|r| r.pid()), Some(first.as_raw() as u32));

        kill(first, Signal::SIGCONT).unwrap();
        until("it goes on", || !proc_file(first, "stat").contains(") T "));
        stop.end(workers);
        // With its late refresh behind it, it stands by, and is elected as the only one that is left.
        until("it is elected again", || {
            let status = session.status().unwrap();
            status.lease_holder().is_some_and(|r| r.is_alive() && r.pid() == first.as_raw() as u32)
        });
        assert_eq!(session.credentials().unwrap().access_key_id(), found, "{stage:?}, {round}");
        let status = session.status().unwrap();
        assert_eq!(status.generation(), after.generation(), "{stage:?}, {round}");
        assert_eq!((status.published(), status.failed()), (status.generation(), 0), "{stage:?}");
        assert_eq!(assumed(&sts) as u64, status.source_calls(), "{stage:?}, {round}");
        // One call for each set, and one in vain where the source had been asked.
        let vain = u64::from(matches!(stage, FaultPoint::Answered | FaultPoint::MidWrite));
        assert_eq!(status.source_calls(), status.generation() + vain, "{stage:?}, {round}");
    }
}

pub fn a_standby_takes_over_at_once() {
    let sts = LocalSts::fork().unwrap();
    let session = eager("standby", &sts);
    let first = refresher(&session);
    let standby = standby(&session);
    kill(first, Signal::SIGKILL).unwrap();
    until("the standby is elected", || {
        let status = session.status().unwrap();
        status
            .lease_holder()
            .is_some_and(|r| r.is_alive() && r.pid() == standby.pid.as_raw() as u32)
    });
    // A process is elected before it counts that.
    until("the takeover is counted", || session.status().unwrap().takeovers() == 1);
    assert_eq!(assumed(&sts), 1, "the set was still fresh");
    // It does what it is asked for.
    session.refresh().unwrap();
    assert_eq!((assumed(&sts), session.status().unwrap().generation()), (2, 2));
}
