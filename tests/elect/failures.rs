//! Terms that end without a set.

use std::time::Duration;

use aws_credential_types::Credentials;
use shmcreds::{Error, ErrorKind, SharedSession};

use crate::{
    HOUR, denied, key, refused, session,
    support::{child, elected, instant_set},
    term, valid, with_clock,
};

pub fn a_failure_is_told_to_all() {
    let session = session("denied");
    let holding = term(&session);
    let waiting = |wait: fn(&SharedSession) -> Error| {
        let mut waiting = child(|report| {
            let session = SharedSession::attach(session.name()).unwrap();
            report.say("!");
            let error = wait(&session);
            assert_eq!(error.kind(), ErrorKind::SourceTerminal, "{error}");
            assert_eq!(error.source_error(), Some(&denied()));
            report.say(error.to_string());
        });
        waiting.hear();
        waiting.asleep();
        waiting
    };
    let mut all: Vec<_> = (0..8).map(|_| waiting(refused)).collect();
    all.push(waiting(|session| session.credentials().unwrap_err()));
    holding.fail(denied()).unwrap();
    for one in all {
        let said = one.finish();
        assert!(said.contains("AccessDenied: not authorized (request id r-1)"), "{said}");
    }
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.failed()), (1, 1));
    // Who asks later is told, too, as long as the clock stands still.
    let (session, _clock) = with_clock("denied");
    term(&session).fail(denied()).unwrap();
    let error = refused(&session);
    assert_eq!(error.kind(), ErrorKind::SourceTerminal, "the back-off holds");
    assert!(error.retry_after() > Some(Duration::from_secs(1)), "{error}");
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.failed()), (1, 1));
}

pub fn a_dropped_term_is_a_transient_failure() {
    // The back-off may be a tenth of a second.
    let (session, _clock) = with_clock("dropped");
    drop(term(&session));
    let error = refused(&session);
    assert_eq!(error.kind(), ErrorKind::SourceTransient);
    assert!(error.to_string().contains("ended without an answer"), "{error}");
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.failed()), (1, 1));
    assert_eq!(elected(&session), None);
}

pub fn jobs_that_die_in_their_term() {
    let (session, clock) = with_clock("jobs");
    let die = || {
        let mut job = child(|_| {
            let _term = term(&session);
            // SAFETY: ends the process without a drop.
            unsafe { nix::libc::_exit(0) }
        });
        job.reap();
    };
    die();
    // The first death is retried at once, and counts when the next process is elected.
    die();
    let wait = || session.elect_within(Duration::from_millis(50)).unwrap_err();
    let error = wait();
    assert_eq!(error.kind(), ErrorKind::Timeout, "it waits for the back-off: {error}");
    let failure = session.status().unwrap().last_failure().unwrap().clone();
    assert_eq!((failure.failure().code(), failure.in_a_row()), (Some("RefresherDied"), 2));
    let pause = failure.next_attempt_in();
    assert!(pause >= Duration::from_millis(900), "{pause:?}");
    let mut waiting = child(|report| {
        report.say("!");
        report.say(key(&term(&session).publish(instant_set()).unwrap()));
    });
    waiting.hear();
    let moment = Duration::from_millis(1);
    clock.advance(pause - moment);
    assert_eq!(wait().kind(), ErrorKind::Timeout);
    assert_eq!(session.status().unwrap().source_calls(), 2, "nobody was elected");
    clock.advance(moment);
    assert_eq!(waiting.finish(), key(&valid(&session)));
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.failed()), (3, 0), "no failure of the source");
}

pub fn a_useless_set_is_a_failure() {
    let hour = std::time::SystemTime::now() + HOUR;
    let past = std::time::SystemTime::now() - HOUR;
    let set = |id: &str, expiry| Credentials::new(id, "secret", None, expiry, "test");
    for (what, set, kind, said) in [
        ("no-expiry", set("id", None), ErrorKind::SourceMisconfigured, "no expiry"),
        ("expired", set("id", Some(past)), ErrorKind::SourceTransient, "expired already"),
        ("empty", set("", Some(hour)), ErrorKind::SourceTransient, "AccessKeyId is empty"),
        (
            "long",
            set(&"x".repeat(129), Some(hour)),
            ErrorKind::TooLarge,
            "129 bytes; a slot holds 128",
        ),
    ] {
        let (session, _clock) = with_clock(what);
        let error = term(&session).publish(set).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (kind, "publish"), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        let told = refused(&session);
        assert_eq!(told.kind(), kind);
        assert!(told.to_string().contains(said), "all are told: {told}");
    }
}
