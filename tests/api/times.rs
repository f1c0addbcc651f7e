//! Clocks, and how long callers wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use shmcreds::{
    AssumeRole, CredentialProcess, Election, ErrorKind, Profile, Provider, Refresh, SharedSession,
    SharedSessionBuilder, SourceError, SourceErrorClass, State,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};

use crate::{
    MINUTE, session,
    support::{assert_whole, assumed, instant, name, role, until},
};

/// A session on a clock of its own.
#[test]
fn the_status_tells_how_wrong_the_clock_is() {
    let sts = LocalSts::start().unwrap();
    let (session, clock) = session(&sts, "skew");
    let skew = || session.status().unwrap().clock_skew_seconds();
    assert_eq!(skew(), None, "there is no set");
    session.credentials().unwrap();
    let right = skew().unwrap();
    assert!(right.abs() < 3.0, "{right}");
    for (step, expected) in [(-120, 120.0), (420, -300.0), (-300, 0.0)] {
        clock.step_wall(step);
        assert!((skew().unwrap() - right - expected).abs() < 0.001, "{step}: {:?}", skew());
        // Time that passes changes nothing.
        clock.advance(std::time::Duration::from_secs(60));
        assert!((skew().unwrap() - right - expected).abs() < 0.001, "{step}: {:?}", skew());
    }
}

#[test]
fn the_clock_of_the_issuer_decides() {
    let sts = LocalSts::start().unwrap();
    for skew in [-600, 600] {
        sts.configure(Settings::new().date_skew(skew).lifetime(10 * MINUTE)).unwrap();
        let (session, clock) = session(&sts, "skew");
        session.credentials().unwrap();
        let left = session.status().unwrap().expires_in();
        assert!(left > 9 * MINUTE && left <= 10 * MINUTE, "{skew}: {left:?}");
        clock.advance(10 * MINUTE);
        assert_eq!(session.status().unwrap().state(), State::Expired);
    }
}

#[test]
fn a_set_that_expires_while_one_waits_is_waited_for() {
    // The first answer comes at once, the second when it is let through.
    let gate = Arc::new(tokio::sync::Semaphore::new(1));
    let source = Provider::from_fn("gated", {
        let gate = Arc::clone(&gate);
        move || {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await?.forget();
                static CALLS: AtomicU32 = AtomicU32::new(0);
                // The second one lives on when the first has expired.
                let hours = 1 + 2 * CALLS.fetch_add(1, Ordering::Relaxed);
                let end = SystemTime::now() + hours * 60 * MINUTE;
                let set = Credentials::new("k", "s", None, Some(end), "test");
                Ok::<_, tokio::sync::AcquireError>(set)
            }
        }
    });
    let clock = ManualClock::new().unwrap();
    let session = SharedSession::builder(name("expires")).source(source).clock(&clock);
    let session = session.create().unwrap();
    session.credentials().unwrap();
    clock.advance(59 * MINUTE + MINUTE / 2);
    assert_eq!(session.status().unwrap().state(), State::Mandatory);
    let waiting = std::thread::spawn({
        let session = session.clone();
        move || session.credentials()
    });
    until("it waits for the refresh", || session.status().unwrap().source_calls() == 2);
    clock.advance(MINUTE);
    // Longer than who has a valid set waits for a better one.
    std::thread::sleep(Duration::from_millis(1500));
    gate.add_permits(1);
    waiting.join().unwrap().unwrap();
    assert_eq!(session.status().unwrap().generation(), 2);
}

#[test]
fn a_deadline_ends_the_wait() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::BlackHole, Times::UntilCleared).unwrap();
    let session = SharedSession::builder(name("deadline"))
        .source(role(&sts))
        .wait_timeout(Duration::from_millis(100))
        .create()
        .unwrap();
    let error = session.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("100ms"), "{error}");
    // The call goes on, and is not made twice.
    assert_eq!(session.credentials().unwrap_err().kind(), ErrorKind::Timeout);
    // A busy machine may take longer to make it.
    until("the call is made", || assumed(&sts) > 0);
    assert_eq!((assumed(&sts), session.status().unwrap().source_calls()), (1, 1));
}

/// Times that are longer than a clock can count.
const HUGE: [Duration; 4] = [
    Duration::MAX,
    Duration::from_secs(u64::MAX),
    Duration::from_secs(i64::MAX as u64),
    Duration::from_nanos(u64::MAX),
];

#[test]
fn a_session_waits_for_any_time_that_it_is_told() {
    for huge in HUGE {
        let builder = SharedSession::builder(name("huge")).source(instant()).wait_timeout(huge);
        let session = builder.advisory_window(huge).mandatory_window(huge).create().unwrap();
        assert_whole(&session.credentials().unwrap());
        assert_whole(&session.credentials_within(huge).unwrap());
        assert_eq!(session.refresh_after(1, huge).unwrap().generation(), 2, "{huge:?}");
        for long in
            [session.elect_valid_for(huge, huge).err(), session.credentials_valid_for(huge).err()]
        {
            assert_eq!(long.map(|error| error.kind()), Some(ErrorKind::TooShort), "{huge:?}");
        }
        assert!(matches!(session.elect_within(huge).unwrap(), Election::Valid(_)));
        let Election::Elected(term) = session.elect_after(2, huge).unwrap() else {
            panic!("the set is no later one")
        };
        let throttled = SourceError::new(SourceErrorClass::Throttled, "later");
        term.fail(throttled.with_retry_after(huge)).unwrap();
        assert_whole(&session.credentials().unwrap());
        assert!(session.status().unwrap().last_failure().unwrap().next_attempt_in() < 10 * MINUTE);
        assert!(SharedSession::life_for_consumers(huge) >= Duration::from_secs(36 * 3600));
    }
}

#[test]
fn a_time_that_is_too_long_is_told() {
    type With = fn(SharedSessionBuilder, Duration) -> SharedSessionBuilder;
    let settings: [(&str, With); 9] = [
        ("consumers_keep", |builder, huge| builder.consumers_keep(huge)),
        ("start_spread", |builder, huge| builder.refresh(Refresh::Eager).start_spread(huge)),
        ("duration", |builder, huge| builder.source(app().duration(huge))),
        ("connect_timeout", |builder, huge| builder.source(app().connect_timeout(huge))),
        ("read_timeout", |builder, huge| builder.source(app().read_timeout(huge))),
        ("operation_timeout", |builder, huge| builder.source(app().operation_timeout(huge))),
        ("timeout", |builder, huge| builder.source(instant().timeout(huge))),
        ("timeout", |builder, huge| builder.source(Profile::new("huge").timeout(huge))),
        ("timeout", |builder, huge| {
            builder.source(CredentialProcess::new(["/bin/true"]).timeout(huge))
        }),
    ];
    for huge in HUGE {
        for (field, with) in settings {
            let builder = SharedSession::builder(name("long")).source(instant());
            let error = with(builder, huge).create().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(error.to_string().contains(field), "{field}: {error}");
        }
    }
}

fn app() -> AssumeRole {
    AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("test")
}

#[test]
fn a_clock_of_a_test_never_turns_back() {
    let clock = ManualClock::new().unwrap();
    let before = clock.wall();
    clock.advance(Duration::MAX);
    let end = clock.wall();
    assert!(end > before);
    clock.advance(Duration::MAX);
    clock.step_wall(i64::MAX);
    assert!(clock.wall() >= end);
}
