//! `AssumeRole` at a server: what arrives there, and what becomes of its answers.

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use shmcreds::{
    AssumeRole, ErrorKind, SharedSession, Source, SourceErrorClass,
    testing::{Fault, LocalSts, Settings, Times},
};
use support::role;

fn fetch(source: &impl Source) -> Result<shmcreds::Fetched, shmcreds::SourceError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(source.fetch())
}

#[test]
fn every_input_arrives() {
    let sts = LocalSts::start().unwrap();
    let source = role(&sts)
        .session_name("web")
        .duration(Duration::from_secs(1800))
        .external_id("external-42")
        .policy(r#"{"Version":"2012-10-17","Statement":[]}"#)
        .policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess")
        .policy_arn("arn:aws:iam::aws:policy/AnotherOne")
        .tag("team", "storage")
        .tag("stage", "test")
        .transitive_tag_key("team")
        .transitive_tag_key("stage")
        .source_identity("alice")
        .provided_context("arn:aws:iam::aws:contextProvider/IdentityCenter", "assertion")
        .provided_context("arn:aws:iam::aws:contextProvider/Another", "another")
        .mfa_command("arn:aws:iam::123456789012:mfa/alice", ["/bin/echo", "123456"]);
    source.validate().unwrap();
    fetch(&source).unwrap();
    let calls = sts.calls().unwrap();
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(call.access_key_id.as_deref(), Some("AKIAIOSFODNN7EXAMPLE"));
    let expected = [
        ("Action", "AssumeRole"),
        ("DurationSeconds", "1800"),
        ("ExternalId", "external-42"),
        ("Policy", r#"{"Version":"2012-10-17","Statement":[]}"#),
        ("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
        ("PolicyArns.member.2.arn", "arn:aws:iam::aws:policy/AnotherOne"),
        ("ProvidedContexts.member.1.ContextAssertion", "assertion"),
        (
            "ProvidedContexts.member.1.ProviderArn",
            "arn:aws:iam::aws:contextProvider/IdentityCenter",
        ),
        ("ProvidedContexts.member.2.ContextAssertion", "another"),
        ("ProvidedContexts.member.2.ProviderArn", "arn:aws:iam::aws:contextProvider/Another"),
        ("RoleArn", "arn:aws:iam::123456789012:role/app"),
        ("RoleSessionName", "web"),
        ("SerialNumber", "arn:aws:iam::123456789012:mfa/alice"),
        ("SourceIdentity", "alice"),
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "storage"),
        ("Tags.member.2.Key", "stage"),
        ("Tags.member.2.Value", "test"),
        // The log hides the code.
        ("TokenCode", "<redacted: 6 bytes>"),
        ("TransitiveTagKeys.member.1", "team"),
        ("TransitiveTagKeys.member.2", "stage"),
        ("Version", "2011-06-15"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(call.parameters, BTreeMap::from(expected));
}

#[test]
fn the_device_and_its_code_arrive_and_each_fetch_asks_once() {
    let sts = LocalSts::start().unwrap();
    let serial = "arn:aws:iam::123456789012:mfa/alice";
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let closure = role(&sts).mfa(serial, move || {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move { Ok::<_, std::io::Error>(format!("{}", 100_001 + number)) }
    });
    let command =
        role(&sts).mfa_command(serial, ["/bin/sh", "-c", "echo old 111111; echo 222222."]);
    for (source, code) in [(&closure, "100001"), (&closure, "100002"), (&command, "222222")] {
        sts.clear_calls().unwrap();
        source.validate().unwrap();
        fetch(source).unwrap();
        let call = &sts.calls().unwrap()[0];
        assert_eq!(call.parameters["SerialNumber"], serial);
        // The log may hide the code, and then says so.
        let sent = call.parameters["TokenCode"].as_str();
        assert!(sent == code || sent.contains("redacted"), "{sent}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn a_code_that_sts_does_not_take_has_an_error_of_its_own() {
    let sts = LocalSts::start().unwrap();
    let text = "MultiFactorAuthentication failed with invalid MFA one time pass code.";
    sts.inject(Fault::error(403, "AccessDenied", text), Times::UntilCleared).unwrap();
    let failure = fetch(&role(&sts).mfa_command("123456789", ["/bin/echo", "123456"])).unwrap_err();
    assert!(failure.message().starts_with("the MFA code is wrong, too old, or was"), "{failure}");
    assert_eq!(failure.code(), Some("AccessDenied"));
    assert!(!failure.to_string().contains("123456"));
}

#[test]
fn without_a_code_sts_is_not_asked() {
    let sts = LocalSts::start().unwrap();
    for (script, problem) in [
        ("exit 0", "no six-digit number"),
        ("echo 1234567", "no six-digit number"),
        ("echo 123456; exit 1", "exit status: 1"),
        ("echo 123456; kill -9 $$", "signal: 9"),
        ("sleep 1000", "no answer within 50ms"),
    ] {
        let source = role(&sts).mfa_command("123456789", ["/bin/sh", "-c", script]);
        let hangs = script.starts_with("sleep");
        let limit = Duration::from_millis(if hangs { 50 } else { 60_000 });
        let failure = fetch(&source.mfa_timeout(limit)).unwrap_err();
        assert!(failure.message().contains(problem), "{script}: {failure}");
        assert!(!failure.to_string().contains("123456"), "{failure}");
    }
    assert!(sts.calls().unwrap().is_empty());
}

#[test]
fn a_chain_of_roles_signs_with_the_first_ones_set() {
    let sts = LocalSts::start().unwrap();
    let app = AssumeRole::new("arn:aws:iam::210987654321:role/app")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .base_source(role(&sts).session_name("hub"));
    app.validate().unwrap();
    let fetched = fetch(&app).unwrap();
    assert_eq!(fetched.credentials.account_id().unwrap().as_str(), "210987654321");
    let calls = sts.calls().unwrap();
    let names: Vec<&str> =
        calls.iter().map(|call| call.parameters["RoleArn"].rsplit(':').next().unwrap()).collect();
    assert_eq!(names, ["role/app", "role/app"]);
    assert_eq!(calls[0].access_key_id.as_deref(), Some("AKIAIOSFODNN7EXAMPLE"));
    assert!(calls[1].access_key_id.as_deref().unwrap().starts_with("ASIA"));
    // What the first one fails with is what the chain fails with.
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    assert_eq!(fetch(&app).unwrap_err().code(), Some("AccessDenied"));
    // Roles of roles live an hour.
    let problem = app.duration(Duration::from_secs(3601)).validate().unwrap_err();
    assert!(problem.starts_with("duration is 3601s, must be at most 3600 s"), "{problem}");
}

#[test]
fn what_is_wrong_with_a_device_or_a_base_is_named() {
    let role = || AssumeRole::new("arn:aws:iam::123456789012:role/app");
    let mfa = |serial: &str| role().mfa_command(serial, ["/bin/true"]);
    for (source, problem) in [
        (mfa("12345678"), "mfa serial_number has 8 characters"),
        (mfa("123456789!"), "mfa serial_number"),
        (mfa("123456789").max_attempts(2), "max_attempts is 2, must be 1 with mfa"),
        (mfa("123456789").mfa_timeout(Duration::ZERO), "mfa_command timeout is 0"),
        (role().mfa_command("123456789", [""; 0]), "mfa_command names no program"),
        (role().base_source(AssumeRole::new("nonsense")), "base_source: role_arn"),
    ] {
        let found = source.validate().unwrap_err();
        assert!(found.starts_with(problem), "{found}");
    }
}

#[test]
fn what_is_not_given_is_not_sent() {
    let sts = LocalSts::start().unwrap();
    fetch(&role(&sts)).unwrap();
    let sent: BTreeMap<_, _> = sts.calls().unwrap()[0].parameters.clone();
    let names: Vec<&str> = sent.keys().map(String::as_str).collect();
    assert_eq!(names, ["Action", "RoleArn", "RoleSessionName", "Version"]);
}

#[test]
fn the_answer_is_taken_apart() {
    let sts = LocalSts::start().unwrap();
    sts.configure(Settings::new().date_skew(-300)).unwrap();
    let before = std::time::SystemTime::now();
    let fetched = fetch(&role(&sts)).unwrap();
    let set = &fetched.credentials;
    assert!(set.access_key_id().starts_with("ASIA"));
    assert!(set.session_token().is_some_and(|token| token.len() >= 100));
    assert_eq!(set.account_id().map(|id| id.as_str()), Some("123456789012"));
    let behind = before.duration_since(fetched.server_time.unwrap()).unwrap();
    assert!(behind > Duration::from_secs(100), "{behind:?}");
}

#[test]
fn refusals_and_faults_are_classified() {
    use SourceErrorClass::{Misconfigured, Terminal, Throttled, Transient};
    let sts = LocalSts::start().unwrap();
    let error = |status, code: &str| Fault::error(status, code, "no");
    for (fault, class, code) in [
        (Fault::AccessDenied, Terminal, Some("AccessDenied")),
        (error(400, "ValidationError"), Misconfigured, Some("ValidationError")),
        (error(403, "ExpiredToken"), Terminal, Some("ExpiredToken")),
        (error(403, "InvalidClientTokenId"), Terminal, Some("InvalidClientTokenId")),
        (error(400, "MalformedPolicyDocument"), Misconfigured, Some("MalformedPolicyDocument")),
        (Fault::Throttling, Throttled, Some("Throttling")),
        (Fault::Status(500), Transient, None),
        (Fault::Status(503), Transient, None),
        (Fault::Reset, Transient, None),
        (Fault::MalformedBody, Transient, None),
        (Fault::IncompleteSet, Transient, None),
    ] {
        sts.clear_calls().unwrap();
        sts.inject(fault.clone(), Times::UntilCleared).unwrap();
        let failure = fetch(&role(&sts)).unwrap_err();
        assert_eq!(failure.class(), class, "{fault:?}: {failure}");
        if let Some(code) = code {
            assert_eq!(failure.code(), Some(code), "{fault:?}");
            assert!(failure.request_id().is_some(), "{fault:?}");
        }
        assert_eq!(sts.calls().unwrap().len(), 1, "{fault:?}: one attempt");
        sts.clear_faults().unwrap();
    }
}

#[test]
fn attempts_are_as_many_as_asked_for() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::Status(503), Times::Next(2)).unwrap();
    fetch(&role(&sts).max_attempts(3)).unwrap();
    assert_eq!(sts.calls().unwrap().len(), 3);
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::BlackHole, Times::UntilCleared).unwrap();
    let failure = fetch(&role(&sts).read_timeout(Duration::from_millis(50))).unwrap_err();
    assert_eq!(failure.class(), SourceErrorClass::Transient, "{failure}");
}

#[derive(Debug)]
struct Nothing;

impl ProvideCredentials for Nothing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("no base set")))
    }
}

#[test]
fn a_missing_base_is_named() {
    let sts = LocalSts::start().unwrap();
    let source = role(&sts).credentials_provider("nothing", || async { Nothing });
    let failure = fetch(&source).unwrap_err();
    assert!(failure.to_string().contains("base credentials"), "{failure}");
    assert_eq!(failure.class(), SourceErrorClass::Misconfigured);
    assert!(sts.calls().unwrap().is_empty());
}

/// They come from files, programs and other servers. The SDK signs with them and sends the id and the token.
#[test]
fn base_keys_may_be_any_text() {
    let sts = LocalSts::start().unwrap();
    for odd in ["\u{95}", "a\nb: c", "a\u{0}b", "\u{1F511}", "a b", "/", ""] {
        for (id, secret, token) in [(odd, "s", "t"), ("AKIA1", odd, "t"), ("AKIA1", "s", odd)] {
            let base = Credentials::new(id, secret, Some(token.to_owned()), None, "test");
            let source =
                role(&sts).credentials_provider("odd", move || std::future::ready(base.clone()));
            // The empty text is refused by the SDK, in its own words, or signs.
            let Err(failure) = fetch(&source) else { continue };
            assert!(!failure.to_string().contains("panicked"), "{odd:?}: {failure}");
            if !odd.is_empty() {
                assert!(failure.to_string().contains("visible"), "{odd:?}: {failure}");
                assert_eq!(failure.class(), SourceErrorClass::Misconfigured, "{odd:?}");
            }
        }
    }
}

#[test]
fn what_the_server_repeats_is_hidden() {
    let sts = LocalSts::start().unwrap();
    let provider = "arn:aws:iam::aws:contextProvider/IdentityCenter";
    let source = role(&sts)
        .external_id("external-hush")
        .policy(r#"{"a":"policy-hush"}"#)
        .provided_context(provider, "assertion-hush")
        .provided_context(provider, "another-hush");
    for text in [
        r#"bad external-hush and {"a":"policy-hush"}"#,
        "bad assertion-hush",
        "bad another-hush of arn:aws:iam::aws:contextProvider/IdentityCenter",
    ] {
        sts.inject(Fault::error(400, "ValidationError", text), Times::Next(1)).unwrap();
        let failure = fetch(&source).unwrap_err();
        let shown = format!("{failure} {failure:?} {source:?}");
        assert!(!shown.contains("hush"), "{shown}");
    }
}

#[test]
fn an_address_that_cannot_be_used_shows_no_request() {
    let sts = LocalSts::start().unwrap();
    let secret = "tenant/42@hush:x";
    let source = role(&sts)
        .endpoint_url("http://[")
        .external_id(secret)
        .policy(r#"{"a":"tenant/42@hush:x"}"#)
        .tag("tenant", secret)
        .provided_context("arn:aws:iam::aws:contextProvider/IdentityCenter", secret)
        .mfa_command("123456789", ["/bin/echo", "654321"]);
    let problem = source.validate().unwrap_err();
    assert!(problem.starts_with("endpoint_url is not an address, must be"), "{problem}");
    // A session would not have it; a program that asks the source itself is no better off.
    let failure = fetch(&source).unwrap_err();
    let shown = format!("{failure} {failure:?} {source:?}");
    assert!(shown.contains("failed to apply endpoint"), "{shown}");
    for part in ["hush", "tenant", "654321", "Request {", "ExternalId"] {
        assert!(!shown.contains(part), "{shown}");
    }
}

#[test]
fn what_the_server_repeats_in_another_form_is_hidden() {
    let sts = LocalSts::start().unwrap();
    let source =
        role(&sts).external_id("tenant/42@hush:x").policy("{\n \"tenant/42@hush:x\":\n 1}");
    for text in [
        "bad tenant/42@hush:x",
        "bad ExternalId=tenant%2F42%40hush%3Ax",
        "bad ExternalId=tenant%2f42%40hush%3ax",
        "bad {\n \"tenant/42@hush:x\":\n 1}",
        "bad %7B%0A+%22tenant%2F42%40hush%3Ax%22%3A%0A+1%7D",
        "bad %7B%0A%20%22tenant%2F42%40hush%3Ax%22%3A%0A%201%7D",
    ] {
        sts.inject(Fault::error(400, "ValidationError", text), Times::Next(1)).unwrap();
        let failure = fetch(&source).unwrap_err();
        assert!(failure.message().contains("[redacted]"), "{failure}");
        for part in ["tenant", "hush", "%22", "%3A"] {
            assert!(!failure.message().contains(part), "{failure}");
        }
    }
}

#[test]
fn a_default_recipe_is_valid() {
    AssumeRole::new("arn:aws-cn:iam::123456789012:role/path/app").validate().unwrap();
    AssumeRole::new("arn:aws-us-gov:iam::123456789012:role/app").validate().unwrap();
}

#[test]
fn the_shared_set_and_the_source_have_identities() {
    let sts = LocalSts::start().unwrap();
    let session = SharedSession::builder(support::name("identity"))
        .source(role(&sts).session_name("web"))
        .create()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shared = runtime.block_on(session.identity()).unwrap();
    assert_eq!(shared.arn, "arn:aws:sts::123456789012:assumed-role/app/web");
    assert_eq!(shared.account, "123456789012");
    assert!(shared.user_id.ends_with(":web"), "{shared:?}");
    let own = runtime.block_on(session.source_identity()).unwrap();
    assert_eq!(own.arn, "arn:aws:iam::123456789012:user/local");
    assert_eq!(support::assumed(&sts), 1, "the session's own call");

    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let error = runtime.block_on(session.identity()).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::SourceTerminal, "identity"));
    let empty = SharedSession::builder(support::name("nobody")).source(role(&sts)).create();
    let error = runtime.block_on(empty.unwrap().identity()).unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::SourceTerminal, "identity"));
}
