//! When a session asks STS for the first time, and when again after STS has throttled it.
#![allow(unsafe_code)]

mod support;

use std::time::Duration;

use nix::unistd::Pid;

use shmcreds::{
    ErrorKind, Refresh, SharedSession, SharedSessionBuilder, SourceError,
    testing::{Fault, LocalSts, ManualClock, Times},
};
use support::{assumed, child, elected, name, role, until};

fn main() {
    support::run_forking(&[
        ("the_first_call_waits_for_its_time", the_first_call_waits),
        ("a_worker_that_takes_over_asks_at_once", a_worker_that_takes_over),
        ("a_retry_after_is_honoured_by_all_processes", a_retry_after_is_honoured),
        ("a_retry_after_beyond_the_cap_is_cut", a_retry_after_beyond_the_cap),
    ]);
}

const SPREAD: Duration = Duration::from_secs(600);

fn spread(name: &str, sts: &LocalSts, clock: &ManualClock) -> SharedSessionBuilder {
    let builder = SharedSession::builder(name).source(role(sts)).clock(clock);
    builder.refresh(Refresh::Eager).start_spread(SPREAD)
}

/// Attaches while `create` waits in another process.
fn attach(name: &str, clock: &ManualClock) -> SharedSession {
    let attach = || SharedSession::builder(name).clock(clock).wait_timeout(SPREAD / 1000).attach();
    until("the session is there", || attach().is_ok());
    let session = attach().unwrap();
    until("the refresher is elected", || elected(&session).is_some());
    session
}

fn sleeps_on_a_futex(pid: Pid) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
    call.split(' ').next() == Some(&nix::libc::SYS_futex.to_string())
}

fn the_first_call_waits() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let name = name("spread");
    let creator = child(|report| {
        let session = spread(&name, &sts, &clock).create().unwrap();
        let set = session.credentials().unwrap();
        report.say(set.access_key_id());
    });
    // Another process asks, and asks for a refresh: no request ends the wait.
    child(|_| {
        let session = attach(&name, &clock);
        for outcome in [session.credentials(), session.refresh()] {
            let error = outcome.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NoSource | ErrorKind::Timeout), "{error}");
        }
        assert_eq!(assumed(&sts), 0);
        clock.advance(SPREAD);
        until("the first set", || session.credentials().is_ok());
    })
    .finish();
    assert!(creator.finish().starts_with("ASIA"));
    assert_eq!(assumed(&sts), 1);
}

fn a_worker_that_takes_over() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let name = name("spread-killed");
    let creator = child(|report| {
        let session = spread(&name, &sts, &clock).create().unwrap();
        report.say(session.credentials().unwrap().access_key_id());
    });
    let pid = creator.pid;
    child(move |_| {
        let session = attach(&name, &clock);
        let refresher = elected(&session).unwrap();
        // A refresher that dies earlier is one that did not start: `create` fails.
        until("the creator waits for the first set", || sleeps_on_a_futex(pid));
        nix::sys::signal::kill(refresher, nix::sys::signal::Signal::SIGKILL).unwrap();
    })
    .finish();
    // The clock has not moved.
    assert!(creator.finish().starts_with("ASIA"));
    assert_eq!(assumed(&sts), 1);
}

fn a_retry_after_is_honoured() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let builder = || SharedSession::builder(name("after")).source(role(&sts).max_attempts(1));
    let session = builder().clock(&clock).create().unwrap();
    sts.inject(Fault::ThrottlingFor(20), Times::Next(1)).unwrap();
    let ask = || {
        child(|report| {
            let error = session.credentials().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SourceThrottled, "{error}");
            report.say(error.retry_after().unwrap().as_millis().to_string());
        })
        .finish()
    };
    let next: u64 = ask().parse().unwrap();
    assert!((20_100..=21_000).contains(&next), "{next}");
    // The second process is told the same, and nobody asks STS.
    assert_eq!(ask().parse(), Ok(next));
    clock.advance(Duration::from_millis(20_000));
    assert!(ask().parse::<u64>().unwrap() <= 1_000);
    assert_eq!(assumed(&sts), 1);
    clock.advance(Duration::from_millis(1_001));
    child(|_| drop(session.credentials().unwrap())).finish();
    assert_eq!(assumed(&sts), 2);
}

fn a_retry_after_beyond_the_cap() {
    let (sts, clock) = (LocalSts::fork().unwrap(), ManualClock::new().unwrap());
    let source = role(&sts).max_attempts(1);
    let session = SharedSession::builder(name("cap")).source(source).clock(&clock);
    let session = session.create().unwrap();
    sts.inject(Fault::ThrottlingFor(u32::MAX), Times::Next(1)).unwrap();
    let error = session.credentials().unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<SourceError>().unwrap();
    assert!(cause.code() == Some("Throttling"));
    let next = error.retry_after().unwrap();
    assert!(next >= Duration::from_secs(60) && next <= Duration::from_secs(61), "{next:?}");
}
