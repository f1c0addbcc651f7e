//! What callers are told of a source that fails, and of a set that is damaged.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use shmcreds::{
    ErrorKind, Provider, SharedSession, SourceError,
    testing::{self, Fault, LocalSts, Times},
};

use crate::{
    MINUTE, session,
    support::{self, BASE_SECRET, assert_whole, assumed, instant, name},
};

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
fn errors_become_errors_of_the_sdk() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let (denied, _clock) = session(&sts, "sdk-error");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(denied.provide_credentials()).unwrap_err();
    assert!(matches!(error, CredentialsError::ProviderError(_)), "{error:?}");
    assert!(!format!("{error:?}").contains(BASE_SECRET));
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
