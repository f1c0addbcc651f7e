//! What never waits, and what waits as long as its caller says: `snapshot` and `credentials_within`.
#![allow(unsafe_code)]

mod support;

use std::time::{Duration, Instant};

use shmcreds::{
    ErrorKind, SharedSession, SourceError, SourceErrorClass, State,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};
use support::{
    Gate, LIMIT, StopFile, assumed, child, elected, instant, instant_set, name, role, until,
};

fn main() {
    support::run_forking(&[
        ("a_snapshot_is_one_set_in_each_state", a_snapshot_is_one_set_in_each_state),
        ("a_snapshot_starts_nothing", a_snapshot_starts_nothing),
        ("a_snapshot_does_not_wait_for_a_stopped_process", a_snapshot_does_not_wait),
        ("a_snapshot_shows_no_secret", a_snapshot_shows_no_secret),
        ("a_short_limit_does_not_end_the_call", a_short_limit_does_not_end_the_call),
        ("slices_until_the_set_is_there", slices_until_the_set_is_there),
        ("a_limit_of_zero_starts_the_call", a_limit_of_zero_starts_the_call),
        ("a_short_limit_beside_a_valid_set", a_short_limit_beside_a_valid_set),
        ("a_limit_may_be_longer_than_the_wait_timeout", a_longer_limit),
        ("the_error_of_the_source_comes_before_the_limit", the_error_of_the_source_comes_first),
        ("a_refresh_in_slices_is_one_call", a_refresh_in_slices_is_one_call),
    ]);
}

const HOUR: Duration = Duration::from_secs(3600);

fn with_clock(what: &str) -> (LocalSts, SharedSession, ManualClock) {
    let sts = LocalSts::fork().unwrap();
    sts.configure(Settings::new().lifetime(HOUR)).unwrap();
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(name(what)).source(role(&sts)).clock(&clock);
    let session = builder.create().unwrap();
    (sts, session, clock)
}

fn a_snapshot_is_one_set_in_each_state() {
    let (_sts, session, clock) = with_clock("states");
    assert!(session.snapshot().unwrap().is_none());
    let credentials = session.credentials().unwrap();
    let look = || session.snapshot().unwrap().unwrap();
    let before = look();
    assert_eq!(before.credentials(), &credentials);
    assert_eq!((before.generation(), before.state()), (1, State::Fresh));
    assert!(before.is_valid() && !before.is_rejected());
    for (passed, state) in [
        (HOUR - Duration::from_secs(600), State::Advisory),
        (Duration::from_secs(570), State::Mandatory),
    ] {
        clock.advance(passed);
        assert_eq!(look().state(), state);
        assert!(look().is_valid() && look().refresh_in().is_zero());
    }
    assert!(look().expires_in() < Duration::from_secs(60) && !look().expires_in().is_zero());
    session.invalidate(credentials.access_key_id()).unwrap();
    assert!(look().is_rejected() && look().is_valid());
    clock.advance(Duration::from_secs(60));
    assert_eq!((look().state(), look().expires_in()), (State::Expired, Duration::ZERO));
    assert!(!look().is_valid());
    // What was seen stays as it was.
    assert!(before.is_valid() && !before.is_rejected() && before.state() == State::Fresh);
    session.credentials().unwrap();
    assert_eq!((look().generation(), look().state()), (2, State::Fresh));
}

fn a_snapshot_starts_nothing() {
    let (sts, session, clock) = with_clock("nothing");
    session.snapshot().unwrap();
    session.credentials().unwrap();
    for passed in [HOUR - Duration::from_secs(600), Duration::from_secs(570), HOUR] {
        clock.advance(passed);
        for _ in 0..10 {
            session.snapshot().unwrap().unwrap();
        }
        assert_eq!(elected(&session), None);
    }
    assert_eq!((assumed(&sts), session.status().unwrap().source_calls()), (1, 1));
}

fn a_snapshot_does_not_wait() {
    let (sts, session, _clock) = with_clock("stopped");
    sts.inject(Fault::BlackHole, Times::UntilCleared).unwrap();
    let worker = child(|_| drop(session.credentials_within(LIMIT)));
    until("it is elected", || elected(&session).is_some());
    support::stop(worker.pid);
    // In a child, whose end has a limit: its clock stands still, and nothing ends the election of the stopped process.
    child(|_| assert!(session.snapshot().unwrap().is_none())).finish();
}

fn a_snapshot_shows_no_secret() {
    let session = SharedSession::builder(name("secret")).source(instant()).create().unwrap();
    let credentials = session.credentials().unwrap();
    let text = format!("{:?}", session.snapshot().unwrap().unwrap());
    let tail = &credentials.access_key_id()[credentials.access_key_id().len() - 4..];
    assert!(text.contains(tail), "{text}");
    for secret in [
        credentials.access_key_id(),
        credentials.secret_access_key(),
        credentials.session_token().unwrap(),
    ] {
        assert!(!text.contains(secret), "{text}");
    }
}

fn with_gate(what: &str) -> (Gate, SharedSession) {
    let gate = Gate::new();
    let session = SharedSession::builder(name(what)).source(gate.source()).create().unwrap();
    (gate, session)
}

/// The calls that its source has seen, and those that the session counts.
fn calls(gate: &Gate, session: &SharedSession) -> (usize, u64) {
    (gate.calls(), session.status().unwrap().source_calls())
}

/// A call that takes longer than the limit goes on, for all.
fn a_short_limit_does_not_end_the_call() {
    let gate = Gate::new();
    let builder = SharedSession::builder(name("short")).source(gate.source());
    let session = builder.wait_timeout(LIMIT).create().unwrap();
    let limit = Duration::from_millis(50);
    let mut caller = child(|report| {
        let began = Instant::now();
        let error = session.credentials_within(limit).unwrap_err();
        // Neither the call nor a wait without that limit ends before.
        assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Timeout, "credentials"));
        assert!(error.to_string().contains("no valid credentials within 50ms"), "{error}");
        report.say("!");
        until("it is killed", || false);
    });
    caller.hear();
    assert_eq!(elected(&session), Some(caller.pid), "its call goes on");
    // Another process with a short limit does not disturb it.
    let error = session.credentials_within(limit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    gate.open();
    session.credentials_within(LIMIT).unwrap();
    assert_eq!(calls(&gate, &session), (1, 1));
}

fn slices_until_the_set_is_there() {
    let (gate, session) = with_gate("slices");
    let mut workers: Vec<_> = (0..16)
        .map(|_| {
            child(|report| {
                let slice = || session.credentials_within(Duration::from_millis(20));
                assert_eq!(slice().unwrap_err().kind(), ErrorKind::Timeout);
                report.say("!");
                let set = loop {
                    match slice() {
                        Err(error) if error.kind() == ErrorKind::Timeout => {}
                        outcome => break outcome.unwrap(),
                    }
                };
                report.say(set.access_key_id());
            })
        })
        .collect();
    workers.iter_mut().for_each(|worker| assert_eq!(worker.hear(), b'!'));
    gate.open();
    let mut keys: Vec<String> = workers.into_iter().map(|worker| worker.finish()).collect();
    keys.dedup();
    assert_eq!((keys.len(), calls(&gate, &session)), (1, (1, 1)));
}

fn a_limit_of_zero_starts_the_call() {
    let (gate, session) = with_gate("zero");
    // In a child: the call goes on on a thread.
    child(|_| {
        let error = session.credentials_within(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        gate.open();
        until("the set is there", || session.credentials_within(Duration::ZERO).is_ok());
    })
    .finish();
    assert_eq!(calls(&gate, &session), (1, 1));
}

fn a_short_limit_beside_a_valid_set() {
    let (gate, clock) = (Gate::new(), ManualClock::new().unwrap());
    let builder = SharedSession::builder(name("valid")).source(gate.source());
    let session = builder.clock(&clock).create().unwrap();
    gate.open();
    let first = session.credentials().unwrap();
    gate.close();
    clock.advance(HOUR - Duration::from_secs(30));
    child(|_| {
        // Many, so that no pause of a busy machine takes as long as the waits that must not be.
        let began = Instant::now();
        for _ in 0..30 {
            let set = session.credentials_within(Duration::from_millis(10)).unwrap();
            assert_eq!(set.access_key_id(), first.access_key_id());
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        // Those did not use up the one wait that a caller with time has.
        let began = Instant::now();
        session.credentials().unwrap();
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
        let began = Instant::now();
        (0..100).for_each(|_| drop(session.credentials().unwrap()));
        assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    })
    .finish();
}

fn a_longer_limit() {
    let gate = Gate::new();
    let builder = SharedSession::builder(name("longer")).source(gate.source());
    let session = builder.wait_timeout(Duration::from_millis(1)).create().unwrap();
    let mut caller = child(|report| {
        assert_eq!(session.credentials().unwrap_err().kind(), ErrorKind::Timeout);
        report.say("!");
        session.credentials_within(LIMIT).unwrap();
    });
    caller.hear();
    caller.asleep();
    gate.open();
    caller.finish();
    assert_eq!(calls(&gate, &session), (1, 1));
}

fn the_error_of_the_source_comes_first() {
    // The failure stands as long as its clock does.
    let (sts, session, _clock) = with_clock("denied");
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let began = Instant::now();
    let error = session.credentials_within(LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceTerminal);
    assert!(began.elapsed() < LIMIT / 2, "{:?}", began.elapsed());
    let error = session.credentials_within(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceTerminal, "the standing failure");
}

fn a_refresh_in_slices_is_one_call() {
    let (gate, denied) = (Gate::new(), StopFile::new(&name("denied")));
    let path = denied.path().to_owned();
    let source = gate.source_of(move || match path.exists() {
        true => Err(SourceError::new(SourceErrorClass::Terminal, "denied")),
        false => Ok(instant_set()),
    });
    let session = SharedSession::builder(name("slices")).source(source).create().unwrap();
    gate.open();
    let first = session.credentials().unwrap();
    gate.close();
    let slice = || session.refresh_after(1, Duration::from_millis(20));
    for _ in 0..5 {
        assert_eq!(slice().unwrap_err().kind(), ErrorKind::Timeout);
    }
    gate.open();
    let began = Instant::now();
    let set = loop {
        match slice() {
            Err(error) if error.kind() == ErrorKind::Timeout => {}
            outcome => break outcome.unwrap(),
        }
        assert!(began.elapsed() < LIMIT);
    };
    assert_eq!((set.generation(), calls(&gate, &session)), (2, (2, 2)));
    assert_ne!(set.credentials().access_key_id(), first.access_key_id());
    // A newer set than that is there already.
    assert_eq!((slice().unwrap().generation(), calls(&gate, &session)), (2, (2, 2)));
    denied.write();
    let error = session.refresh_after(2, LIMIT).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::SourceTerminal, "refresh"));
    assert_eq!(session.credentials().unwrap(), *set.credentials());
}
