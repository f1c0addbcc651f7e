//! No text shows a secret.

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use shmcreds::{
    Fetched, SharedSession,
    testing::{Fault, LocalSts, Times},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::support::{BASE_SECRET, name, role};

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
