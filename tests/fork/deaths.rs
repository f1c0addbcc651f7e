//! The elected process is killed or stopped: another process takes over.

use std::time::Duration;

use nix::sys::{signal::Signal, wait::WaitStatus};
use shmcreds::{
    Provider, SharedSession,
    testing::{Fault, FaultPoint, LocalSts, ManualClock, Times, signal_at},
};

use crate::{
    refreshes::{keys, workers},
    support::{
        self, Child, LIMIT, StopFile, assert_whole, assumed, child, instant, name, role, until,
    },
};

/// A worker that stops itself when its refresh comes to `stage`.
pub fn victim(name: &str, stage: FaultPoint) -> Child {
    let victim = child(|report| {
        let session = SharedSession::attach(name).unwrap();
        signal_at(stage, Signal::SIGSTOP as i32);
        report.say(session.credentials().unwrap().access_key_id());
    });
    victim.stopped();
    victim
}

pub fn another_takes_over() {
    for (stage, calls, takeovers) in [
        (FaultPoint::Elected, 1, 1),
        (FaultPoint::Answered, 2, 1),
        (FaultPoint::MidWrite, 2, 1),
        (FaultPoint::Exchanged, 1, 0),
        (FaultPoint::Published, 1, 0),
    ] {
        let sts = LocalSts::fork().unwrap();
        // Shorter than the lease: who waits for its end fails.
        let source = role(&sts).operation_timeout(3 * LIMIT);
        let builder = SharedSession::builder(name("takeover")).source(source).wait_timeout(LIMIT);
        let session = builder.create().unwrap();
        let mut victim = victim(session.name(), stage);
        let mut others = workers(session.name(), 3);
        for other in &mut others {
            other.hear();
            if ![FaultPoint::Exchanged, FaultPoint::Published].contains(&stage) {
                other.asleep();
            }
        }
        victim.signal(Signal::SIGKILL);
        assert!(matches!(victim.reap(), WaitStatus::Signaled(..)));
        assert_eq!(keys(others).len(), 1, "{stage:?}");
        assert_eq!(assumed(&sts), calls, "{stage:?}");
        let status = session.status().unwrap();
        assert_eq!((status.generation(), status.takeovers()), (1, takeovers), "{stage:?}");
        // And the next refresh finds everything in order.
        session.refresh().unwrap();
        assert_eq!(session.status().unwrap().generation(), 2, "{stage:?}");
    }
}

/// The call is on its way when the elected process dies.
pub fn another_takes_over_a_call() {
    let sts = LocalSts::fork().unwrap();
    sts.inject(Fault::BlackHole, Times::Next(1)).unwrap();
    let session = SharedSession::builder(name("call")).source(role(&sts)).create().unwrap();
    let victim = child(|_| drop(SharedSession::attach(session.name()).unwrap().credentials()));
    until("the call is made", || assumed(&sts) == 1);
    let mut others = workers(session.name(), 3);
    for other in &mut others {
        other.hear();
        other.asleep();
    }
    victim.signal(Signal::SIGKILL);
    assert_eq!(keys(others).len(), 1);
    let status = session.status().unwrap();
    assert_eq!((assumed(&sts), status.generation(), status.takeovers()), (2, 1, 1));
}

/// The refresher dies between publishing and waking, and the sleeper has no source: it watches nobody.
pub fn who_watches_nobody() {
    let name = name("watches");
    // Longer than any test lasts.
    let hour = Duration::from_secs(3600);
    // Forked before, it does not inherit the source.
    let mut reader = child(|report| {
        let attach = || SharedSession::builder(&name).wait_timeout(hour).attach();
        until("there is a session", || attach().is_ok());
        let session = attach().unwrap();
        report.say(".");
        assert_whole(&session.credentials().unwrap());
    });
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    reader.hear();
    reader.asleep();
    let mut victim = child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        signal_at(FaultPoint::Exchanged, Signal::SIGKILL as i32);
        drop(session.credentials());
    });
    assert!(matches!(victim.reap(), WaitStatus::Signaled(..)));
    reader.finish();
    assert_eq!(session.status().unwrap().published(), 0, "it died before it counted");
}

pub fn a_stopped_refresher() {
    for stage in [FaultPoint::Elected, FaultPoint::Answered, FaultPoint::MidWrite] {
        let sts = LocalSts::fork().unwrap();
        let clock = ManualClock::new().unwrap();
        let session = SharedSession::builder(name("stopped"))
            .source(role(&sts))
            .clock(&clock)
            .create()
            .unwrap();
        let victim = victim(session.name(), stage);
        clock.advance(Duration::from_secs(60));
        let key = session.credentials().unwrap().access_key_id().to_owned();
        assert_eq!(session.status().unwrap().takeovers(), 1, "{stage:?}");
        victim.signal(Signal::SIGCONT);
        // It publishes nothing older, and serves what is there.
        assert_eq!(victim.finish(), key, "{stage:?}");
        let status = session.status().unwrap();
        assert_eq!((status.generation(), status.published()), (1, 1), "{stage:?}");
        session.refresh().unwrap();
        assert_eq!(session.status().unwrap().generation(), 2, "{stage:?}");
    }
}

pub fn a_thousand_kills() {
    let session = SharedSession::builder(name("kills")).source(instant()).create().unwrap();
    session.credentials().unwrap();
    let stop = StopFile::new(session.name());
    let readers: Vec<Child> = (0..2)
        .map(|_| {
            child(|report| {
                let session = SharedSession::attach(session.name()).unwrap();
                let (mut reads, mut last) = (0u64, 0);
                while !stop.is_there() {
                    for _ in 0..100 {
                        assert_whole(&session.credentials().unwrap());
                    }
                    let generation = session.status().unwrap().generation();
                    assert!(generation >= last, "a set was lost");
                    (reads, last) = (reads + 100, generation);
                }
                report.say(reads.to_string());
            })
        })
        .collect();
    for round in 0..1000u64 {
        let mut writer = child(|report| {
            let session = SharedSession::attach(session.name()).unwrap();
            report.say(".");
            loop {
                assert_whole(&session.refresh().unwrap());
            }
        });
        writer.hear();
        // On a busy machine a writer may be killed before it runs.
        if round.is_multiple_of(8) {
            let generation = || session.status().unwrap().generation();
            let before = generation();
            until("it writes", || generation() > before);
        }
        // Spread over the microseconds of a refresh; no two runs are alike anyway.
        std::thread::sleep(Duration::from_micros(round * 7919 % 1500));
        writer.signal(Signal::SIGKILL);
        assert!(matches!(writer.reap(), WaitStatus::Signaled(..)));
    }
    let before = session.status().unwrap().generation();
    assert_whole(&session.refresh().unwrap());
    assert_eq!(session.status().unwrap().generation(), before + 1);
    assert!(before > 100, "the writers were killed before they wrote: {before}");
    let reads: u64 = stop.end(readers).iter().map(|said| said.parse::<u64>().unwrap()).sum();
    assert!(reads > 0);
}

/// Not even the one who made it, once somebody else has a set.
pub fn a_call_that_never_ends() {
    let clock = ManualClock::new().unwrap();
    let name = name("blocks");
    let builder = || SharedSession::builder(&name).clock(&clock);
    let good = Provider::new("same", || async { support::instant_set() });
    let session = builder().source(good).create().unwrap();
    let blocked = child(|report| {
        let blocks = Provider::new("same", || async {
            loop {
                std::thread::park();
            }
            #[allow(unreachable_code)]
            support::instant_set()
        });
        let session = builder().source(blocks).attach().unwrap();
        report.say(session.credentials().unwrap().access_key_id());
    });
    until("it asks its source", || session.status().unwrap().source_calls() == 1);
    // Past the lease.
    clock.advance(Duration::from_secs(600));
    let set = session.credentials().unwrap();
    assert_eq!(blocked.finish(), set.access_key_id());
    assert_eq!(session.status().unwrap().takeovers(), 1);
}
