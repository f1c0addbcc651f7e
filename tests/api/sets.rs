//! Sets that are published, and those that never are.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use shmcreds::{
    ErrorKind, Provider, SharedSession,
    testing::{Fault, LocalSts, Settings, Times},
};

use crate::{
    MINUTE, session,
    support::{name, role},
};

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
