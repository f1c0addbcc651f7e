//! One process, many threads and runtimes: what callers see.

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use shmcreds::{
    AssumeRole, CredentialProcess, Election, ErrorKind, Fetched, Profile, Provider, Refresh,
    SharedSession, SharedSessionBuilder, SourceError, SourceErrorClass, State, StopHandle,
    testing::{self, Fault, LocalSts, ManualClock, Settings, Times},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use support::{BASE_SECRET, assert_whole, assumed, instant, name, role, until};

const MINUTE: Duration = Duration::from_secs(60);

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

fn session(sts: &LocalSts, what: &str) -> (SharedSession, ManualClock) {
    let clock = ManualClock::new().unwrap();
    let built = SharedSession::builder(name(what)).source(role(sts)).clock(&clock);
    (built.create().unwrap(), clock)
}

/// Waits until no refresh is under way.
fn wait_until_idle(session: &SharedSession) {
    until("the refresh is over", || session.status().unwrap().lease_holder().is_none());
}

#[test]
fn a_set_is_complete() {
    let sts = LocalSts::start().unwrap();
    let (session, _clock) = session(&sts, "complete");
    let set = session.credentials().unwrap();
    assert!(set.access_key_id().starts_with("ASIA"));
    assert!(!set.secret_access_key().is_empty() && set.session_token().is_some());
    assert_eq!(set.account_id().map(|id| id.as_str()), Some("123456789012"));
    let left = set.expiry().unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left > 50 * MINUTE && left <= 61 * MINUTE, "{left:?}");
    assert!(format!("{set:?}").contains("shmcreds"), "the provider's name");
}

#[test]
fn the_states_of_a_set() {
    let sts = LocalSts::start().unwrap();
    let (session, clock) = session(&sts, "states");
    assert_eq!(session.status().unwrap().state(), State::Empty);
    let first = session.credentials().unwrap();
    assert_eq!(session.status().unwrap().state(), State::Fresh);
    assert_eq!(session.status().unwrap().access_key_tail().unwrap().len(), 4);

    clock.advance(29 * MINUTE);
    assert_eq!(session.credentials().unwrap().access_key_id(), first.access_key_id());
    assert_eq!(assumed(&sts), 1, "fresh in the first half of its life");

    clock.advance(18 * MINUTE);
    assert_eq!(session.status().unwrap().state(), State::Advisory);
    let same = session.credentials().unwrap();
    assert_eq!(same.access_key_id(), first.access_key_id(), "at once");
    wait_until_idle(&session);
    assert_eq!(assumed(&sts), 2);
    assert_ne!(session.credentials().unwrap().access_key_id(), first.access_key_id());
    assert_eq!(session.status().unwrap().generation(), 2);

    clock.advance(59 * MINUTE + MINUTE / 2);
    assert_eq!(session.status().unwrap().state(), State::Mandatory);
    session.credentials().unwrap();
    assert_eq!(session.status().unwrap().generation(), 3, "waited for the new one");

    clock.advance(61 * MINUTE);
    assert_eq!(session.status().unwrap().state(), State::Expired);
    session.credentials().unwrap();
    assert_eq!((session.status().unwrap().generation(), assumed(&sts)), (4, 4));
}

#[test]
fn threads_share_one_call() {
    let sts = LocalSts::start().unwrap();
    sts.configure(Settings::new().latency(Duration::from_millis(100))).unwrap();
    let (session, _clock) = session(&sts, "threads");
    let threads: Vec<_> = (0..32)
        .map(|_| session.clone())
        .map(|session| std::thread::spawn(move || session.credentials().unwrap()))
        .collect();
    let keys: BTreeSet<_> =
        threads.into_iter().map(|t| t.join().unwrap().access_key_id().to_owned()).collect();
    assert_eq!((keys.len(), assumed(&sts)), (1, 1));
}

#[test]
fn a_reader_sees_what_the_session_sees() {
    let session = SharedSession::builder(name("reader")).source(instant()).create().unwrap();
    let mut reader = session.reader();
    assert_whole(reader.credentials().unwrap());
    let second = session.refresh().unwrap();
    assert_eq!(reader.credentials().unwrap().access_key_id(), second.access_key_id());
}

#[test]
fn an_outage_fails_no_read_while_the_set_is_valid() {
    let sts = LocalSts::start().unwrap();
    let (session, clock) = session(&sts, "outage");
    let first = session.credentials().unwrap();
    sts.inject(Fault::Status(503), Times::UntilCleared).unwrap();
    clock.advance(44 * MINUTE);
    let step = Duration::from_secs(7);
    let (mut passed, mut attempts) = (44 * MINUTE, 1);
    while passed + step < 60 * MINUTE - Duration::from_secs(5) {
        let before = session.status().unwrap();
        let blocked = before.last_failure().is_some_and(|f| !f.next_attempt_in().is_zero());
        let set = session.credentials().unwrap();
        assert_eq!(set.access_key_id(), first.access_key_id());
        wait_until_idle(&session);
        let calls = session.status().unwrap().source_calls();
        assert!(calls == before.source_calls() || !blocked, "a call within the back-off");
        attempts = calls;
        clock.advance(step);
        passed += step;
    }
    assert!(attempts > 2, "the refresh was tried: {attempts}");
    assert_eq!(assumed(&sts) as u64, attempts);

    clock.advance(MINUTE);
    let error = session.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceTransient, "{error}");
    sts.clear_faults().unwrap();
    clock.advance(Duration::from_secs(6));
    assert_ne!(session.credentials().unwrap().access_key_id(), first.access_key_id());
}

#[test]
fn a_terminal_error_is_told_with_code_and_request() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let (session, clock) = session(&sts, "terminal");
    let error = session.credentials().unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::SourceTerminal, "credentials"));
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<SourceError>().unwrap();
    assert_eq!(cause.code(), Some("AccessDenied"));
    assert!(cause.request_id().is_some());
    // Nobody asks again before the back-off is over.
    session.credentials().unwrap_err();
    session.refresh().unwrap_err();
    assert_eq!(assumed(&sts), 1);
    clock.advance(Duration::from_secs(6));
    session.credentials().unwrap_err();
    assert_eq!(assumed(&sts), 2);
}

#[test]
fn a_set_that_cannot_be_used_is_never_published() {
    let sts = LocalSts::start().unwrap();
    for (fault, settings, is_too_large) in [
        (Some(Fault::IncompleteSet), Settings::new(), false),
        (Some(Fault::TruncatedBody), Settings::new(), false),
        (Some(Fault::MalformedBody), Settings::new(), false),
        (None, Settings::new().expired(MINUTE), false),
        (None, Settings::new().token_bytes(17_000), true),
    ] {
        let (session, clock) = session(&sts, "unusable");
        let first = session.credentials().unwrap();
        if let Some(fault) = &fault {
            sts.inject(fault.clone(), Times::Next(1)).unwrap();
        }
        sts.configure(settings).unwrap();
        let error = session.refresh().unwrap_err();
        let kinds = match is_too_large {
            true => &[ErrorKind::TooLarge][..],
            false => &[ErrorKind::SourceTransient, ErrorKind::SourceTerminal],
        };
        assert!(kinds.contains(&error.kind()), "{fault:?}: {error}");
        assert_eq!(session.credentials().unwrap().access_key_id(), first.access_key_id());
        assert_eq!(session.status().unwrap().generation(), 1);
        sts.configure(Settings::new()).unwrap();
        clock.advance(Duration::from_secs(301));
        session.refresh().unwrap();
    }
}

/// The SDK of a reader panics if it has to send such a set.
#[test]
fn a_set_that_no_request_can_carry_is_never_published() {
    for (id, token) in [("ASIA\u{95}", "token"), ("ASIA1", "to\nken"), ("ASIA1", "to\u{0}ken")] {
        let expiry = SystemTime::now() + Duration::from_secs(3600);
        let set = Credentials::new(id, "secret", Some(token.to_owned()), Some(expiry), "test");
        let source = Provider::new("odd", move || std::future::ready(set.clone()));
        let session = SharedSession::builder(name("odd")).source(source).create().unwrap();
        let error = session.credentials().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SourceTerminal);
        let text = error.to_string();
        assert!(text.contains("visible") && !text.contains("to\u{0}"), "{text}");
        assert_eq!(session.status().unwrap().generation(), 0);
    }
}

#[test]
fn the_largest_token_is_served() {
    let sts = LocalSts::start().unwrap();
    sts.configure(Settings::new().token_bytes(16_384)).unwrap();
    let (session, _clock) = session(&sts, "token");
    assert_eq!(session.credentials().unwrap().session_token().map(str::len), Some(16_384));
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
    assert_eq!(assumed(&sts), 1);
}

#[test]
fn invalidating_replaces_the_current_key_only() {
    let clock = ManualClock::new().unwrap();
    let session = SharedSession::builder(name("invalidate"))
        .source(instant())
        .clock(&clock)
        .create()
        .unwrap();
    assert!(!session.invalidate("ASIAEXAMPLE").unwrap(), "nothing is there yet");
    let first = session.credentials().unwrap();
    assert!(session.invalidate(first.access_key_id()).unwrap());
    assert!(!session.invalidate(first.access_key_id()).unwrap(), "already said");
    // So young a set is not replaced for that alone: a storm of rejections is no storm of calls.
    assert_eq!(session.credentials().unwrap().access_key_id(), first.access_key_id());
    clock.advance(Duration::from_secs(5));
    let second = session.credentials().unwrap();
    assert_ne!(second.access_key_id(), first.access_key_id());
    assert!(!session.invalidate(first.access_key_id()).unwrap(), "replaced already");
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.invalidations()), (2, 1));
}

#[test]
fn a_panicking_source_is_a_failure() {
    let panics = Provider::new("panics", || async {
        match BASE_SECRET {
            "" => Credentials::for_tests(),
            secret => panic!("{secret}"),
        }
    });
    let session = SharedSession::builder(name("panic")).source(panics).create().unwrap();
    let error = session.credentials().unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    assert!(!format!("{error:?}").contains(BASE_SECRET));
}

#[test]
fn a_source_that_hangs_is_given_up() {
    let hangs = Provider::new("slow", std::future::pending::<Credentials>)
        .timeout(Duration::from_millis(5));
    let session = SharedSession::builder(name("hangs")).source(hangs).create().unwrap();
    let error = session.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceTransient);
    assert!(error.to_string().contains("no answer within 5ms"), "{error}");
}

#[test]
fn runtimes_of_both_kinds_are_served() {
    let sts = LocalSts::start().unwrap();
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let multi = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (calls, runtime) in [single, multi].iter().enumerate() {
        let (session, _clock) = session(&sts, "runtime");
        let tasks = || session.clone();
        runtime.block_on(async {
            let tasks: Vec<_> = (0..100)
                .map(|_| tasks())
                .map(|s| tokio::spawn(async move { s.provide_credentials().await.unwrap() }))
                .collect();
            // A caller that goes away cancels nothing.
            let impatient = session.provide_credentials();
            let _ = tokio::time::timeout(Duration::ZERO, impatient).await;
            let mut keys = BTreeSet::new();
            for task in tasks {
                keys.insert(task.await.unwrap().access_key_id().to_owned());
            }
            assert_eq!(keys.len(), 1);
            // The blocking way works inside of a runtime, too.
            assert!(keys.contains(session.credentials().unwrap().access_key_id()));
        });
        assert_eq!(assumed(&sts), calls + 1);
    }
}

#[test]
fn the_next_request_sees_a_rotation() {
    let session = SharedSession::builder(name("sdk")).source(instant()).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let s3 = aws_sdk_s3::config::Builder::from(&session.sdk_config().await)
            .region(aws_sdk_s3::config::Region::new("us-east-1"))
            .build();
        let s3 = aws_sdk_s3::Client::from_conf(s3);
        for _ in 0..3 {
            let expiry = aws_sdk_s3::presigning::PresigningConfig::expires_in(MINUTE).unwrap();
            let request = s3.get_object().bucket("b").key("k").presigned(expiry).await.unwrap();
            let key = session.credentials().unwrap().access_key_id().to_owned();
            assert!(request.uri().contains(&format!("X-Amz-Credential={key}")));
            session.refresh().unwrap();
        }
    });
}

#[test]
fn errors_become_errors_of_the_sdk() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let (denied, _clock) = session(&sts, "sdk-error");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(denied.provide_credentials()).unwrap_err();
    assert!(matches!(error, CredentialsError::ProviderError(_)), "{error:?}");
    assert!(!format!("{error:?}").contains(BASE_SECRET));
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_text_shows_a_secret() {
    let captured = Captured::default();
    let writer = captured.clone();
    // For all threads, because a refresh has its own. What the SDK logs at TRACE is not the library's.
    let own = Targets::new().with_target("shmcreds", LevelFilter::TRACE);
    let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
    tracing_subscriber::registry().with(lines).with(own).init();
    let sts = LocalSts::start().unwrap();
    let role = role(&sts).external_id("external-hush").policy(r#"{"hush":"policy-hush"}"#);
    let builder = SharedSession::builder(name("secrets")).source(role);
    let builder_debug = format!("{builder:?}");
    let session = builder.create().unwrap();
    let set = session.credentials().unwrap();
    let mut reader = session.reader();
    reader.credentials().unwrap();
    let message = format!("{} {BASE_SECRET}", set.session_token().unwrap());
    sts.inject(Fault::error(400, "ValidationError", message), Times::UntilCleared).unwrap();
    let error = session.refresh().unwrap_err();
    let fetched = Fetched::new(set.clone()).server_time(Some(SystemTime::UNIX_EPOCH));
    let look = session.snapshot().unwrap();
    let tail = &set.access_key_id()[16..];
    let cause = std::error::Error::source(&error).unwrap();
    let status = session.status().unwrap();
    let log = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    let secrets = [
        set.secret_access_key(),
        set.session_token().unwrap(),
        set.access_key_id(),
        BASE_SECRET,
        "external-hush",
        "policy-hush",
    ];
    // Each text with words that show that it is the one that is meant.
    for (what, text, words) in [
        ("the builder", builder_debug, ["SharedSessionBuilder", "assume-role"]),
        ("the session", format!("{session:?} {session:#?}"), ["SharedSession", "t-secrets"]),
        ("a set of a source", format!("{fetched:?} {fetched:#?}"), ["Fetched", tail]),
        ("a look at the set", format!("{look:?} {look:#?}"), ["SetSnapshot", tail]),
        ("the reader", format!("{reader:?} {reader:#?}"), ["Reader", "t-secrets"]),
        (
            "the cause of the error",
            format!("{cause} {cause:?} {cause:#?}"),
            ["ValidationError", "[redacted]"],
        ),
        ("the error", format!("{error} {error:?} {error:#?}"), ["ValidationError", "[redacted]"]),
        ("the status", format!("{status} {status:?} {status:#?}"), ["fresh", "ValidationError"]),
        ("the log", log, ["published a new set", "ValidationError"]),
    ] {
        for word in words {
            assert!(text.contains(word), "{what} does not say {word}: {text}");
        }
        for (number, secret) in secrets.iter().enumerate() {
            assert!(!text.contains(secret), "{what} shows secret {number}: {text}");
        }
    }
}

#[test]
fn keys_without_an_end_sign_in_for_a_role_and_are_not_shared_themselves() {
    let keys = || {
        Provider::new("keys", || async {
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "keys")
        })
    };
    let error = SharedSession::builder(name("keys")).source(keys()).create().unwrap();
    let error = error.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceMisconfigured);
    assert!(error.to_string().contains("no expiry"), "{error}");
    let sts = LocalSts::start().unwrap();
    let role = role(&sts).base_source(keys());
    let session = SharedSession::builder(name("keys")).source(role).create().unwrap();
    session.credentials().unwrap();
}

#[test]
fn sessions_are_listed_and_a_live_one_is_not_removed() {
    let name = name("listed");
    let session = SharedSession::builder(&name).source(support::instant()).create().unwrap();
    assert!(SharedSession::list().unwrap().contains(&name));
    let error = SharedSession::remove(&name).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::InUse, "remove"));
    session.credentials().unwrap();
    session.unlink();
    session.credentials().unwrap();
    assert!(!SharedSession::list().unwrap().contains(&name));
    drop(session);
    assert_eq!(SharedSession::remove(&name).unwrap_err().kind(), ErrorKind::Absent);
    std::fs::write(support::segment(&name), "left").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(support::segment(&name), mode).unwrap();
    SharedSession::remove(&name).unwrap();
    assert!(!SharedSession::list().unwrap().contains(&name));
}

#[test]
fn an_empty_session_is_not_a_damaged_one() {
    for _ in 0..300 {
        let session = SharedSession::builder(name("cold")).source(instant()).create().unwrap();
        let looks = |session: SharedSession| {
            while session.status().unwrap().generation() == 0 {
                std::hint::spin_loop();
            }
        };
        let other = session.clone();
        let looking = std::thread::spawn(move || looks(other));
        session.credentials().unwrap();
        looking.join().unwrap();
    }
}

#[test]
fn windows_given_to_attach_are_those_of_its_refreshes() {
    let sts = LocalSts::start().unwrap();
    let (session, _clock) = session(&sts, "windows");
    session.credentials().unwrap();
    let hour = 60 * MINUTE;
    let builder = SharedSession::builder(session.name());
    let other = builder
        .advisory_window(hour / 3)
        .mandatory_window(Duration::from_secs(5))
        .refresh_spread(0.0)
        .attach()
        .unwrap();
    other.refresh().unwrap();
    let status = other.status().unwrap();
    let window = status.expires_in() - status.refresh_in();
    assert!(window.abs_diff(hour / 3) < Duration::from_secs(2), "{window:?}");
    // The creator's are those by lifetime.
    session.refresh().unwrap();
    let narrow = SharedSession::builder(session.name())
        .advisory_window(MINUTE)
        .mandatory_window(MINUTE)
        .refresh_spread(0.5)
        .attach()
        .unwrap();
    narrow.refresh().unwrap();
    let status = narrow.status().unwrap();
    // Half of the room from minute 30 to minute 59.
    let window = status.expires_in() - status.refresh_in();
    assert!(window >= MINUTE - Duration::from_secs(2) && window <= MINUTE * 31 / 2, "{window:?}");
}

#[test]
fn a_panic_of_the_source_is_told_to_async_callers() {
    #[derive(Debug)]
    struct Broken(AtomicU32);
    impl shmcreds::Source for Broken {
        fn describe(&self) -> String {
            "broken".into()
        }
        fn validate(&self) -> Result<(), String> {
            Ok(())
        }
        fn timeout(&self) -> Duration {
            // The first look is that of `create`.
            assert!(self.0.fetch_add(1, Ordering::Relaxed) < 1, "broken");
            MINUTE
        }
        fn fetch(&self) -> shmcreds::Fetching<'_> {
            Box::pin(std::future::pending())
        }
    }
    let source = Broken(AtomicU32::new(0));
    let session = SharedSession::builder(name("broken")).source(source).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..2 {
        let called = async { tokio::time::timeout(MINUTE, session.provide_credentials()).await };
        let error = runtime.block_on(called).expect("an answer").unwrap_err();
        assert!(matches!(error, CredentialsError::Unhandled(_)), "{error:?}");
    }
}

#[test]
fn a_damaged_set_is_replaced() {
    let session = SharedSession::builder(name("heal")).source(instant()).create().unwrap();
    let secret = session.credentials().unwrap().secret_access_key().to_owned();
    let path = support::segment(session.name());
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut windows = bytes.windows(secret.len());
    let at = windows.position(|window| window == secret.as_bytes()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"X", at as u64).unwrap();
    // The first handle has a copy of its own; a new one has not.
    let other = SharedSession::attach(session.name()).unwrap();
    assert_eq!(testing::decode_newest(&other).unwrap_err().kind(), ErrorKind::BadChecksum);
    assert_whole(&other.credentials().unwrap());
    assert_eq!(session.status().unwrap().generation(), 2);
    assert_whole(&session.credentials().unwrap());
}

#[test]
fn a_stop_handle_ends_exactly_what_it_is_given_to() {
    let session = SharedSession::builder(name("stop")).source(instant()).create().unwrap();
    let run = |stop: &StopHandle| {
        let (session, stop) = (session.clone(), stop.clone());
        std::thread::spawn(move || session.run_refresher(&stop).unwrap())
    };
    // Before the start.
    let early = StopHandle::new();
    early.stop();
    run(&early).join().unwrap();
    assert!(early.is_stopped());

    let (first, second) = (StopHandle::new(), StopHandle::new());
    let running = [run(&first), run(&second)];
    until("one refreshes", || session.status().unwrap().generation() == 1);
    // One that is given to nobody ends nothing.
    StopHandle::new().stop();
    early.stop();
    let [one, other] = running;
    // One of them is elected and the other waits: either ends by its own handle.
    first.stop();
    one.join().unwrap();
    assert!(!other.is_finished() && !second.is_stopped());
    second.stop();
    second.stop();
    other.join().unwrap();
    // After the end, and once more.
    first.stop();
    run(&first).join().unwrap();
    assert_eq!(session.status().unwrap().source_calls(), 1);
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
