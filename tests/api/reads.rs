//! What threads and runtimes read, from the first set to the next one.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use aws_credential_types::provider::ProvideCredentials;
use shmcreds::{
    ErrorKind, SharedSession, State,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};

use crate::{
    MINUTE, session,
    support::{assert_whole, assumed, instant, name},
    wait_until_idle,
};

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
