//! `AssumeRole` at a server: what arrives there, and what becomes of its answers.

mod support;

use std::{collections::BTreeMap, time::Duration};

use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError, future};
use shmcreds::{
    AssumeRole, FailureClass, Source,
    testing::{Fault, LocalSts, Settings, Times},
};
use support::role;

fn fetch(source: &impl Source) -> Result<shmcreds::Fetched, shmcreds::Failure> {
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
        .tag("team", "storage")
        .tag("stage", "test")
        .transitive_tag_key("team")
        .source_identity("alice")
        .provided_context("arn:aws:iam::aws:contextProvider/IdentityCenter", "assertion");
    source.validate().unwrap();
    fetch(&source).unwrap();
    let calls = sts.calls().unwrap();
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(call.access_key_id.as_deref(), Some("AKIAIOSFODNN7EXAMPLE"));
    let expected = [
        ("Action", "AssumeRole"),
        ("RoleArn", "arn:aws:iam::123456789012:role/app"),
        ("RoleSessionName", "web"),
        ("DurationSeconds", "1800"),
        ("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "storage"),
        ("Tags.member.2.Key", "stage"),
        ("Tags.member.2.Value", "test"),
        ("TransitiveTagKeys.member.1", "team"),
        ("SourceIdentity", "alice"),
        (
            "ProvidedContexts.member.1.ProviderArn",
            "arn:aws:iam::aws:contextProvider/IdentityCenter",
        ),
    ];
    for (name, value) in expected {
        assert_eq!(call.parameters.get(name).map(String::as_str), Some(value), "{name}");
    }
    // The log hides some values; that they were there is what counts.
    for name in ["ExternalId", "Policy", "ProvidedContexts.member.1.ContextAssertion"] {
        assert!(call.parameters.contains_key(name), "{name}: {:?}", call.parameters);
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
    use FailureClass::{Terminal, Transient};
    let sts = LocalSts::start().unwrap();
    let error = |status, code: &str| Fault::error(status, code, "no");
    for (fault, class, code) in [
        (Fault::AccessDenied, Terminal, Some("AccessDenied")),
        (error(400, "ValidationError"), Terminal, Some("ValidationError")),
        (error(403, "ExpiredToken"), Terminal, Some("ExpiredToken")),
        (error(403, "InvalidClientTokenId"), Terminal, Some("InvalidClientTokenId")),
        (error(400, "MalformedPolicyDocument"), Terminal, Some("MalformedPolicyDocument")),
        (Fault::Throttling, Transient, Some("Throttling")),
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
    assert_eq!(failure.class(), FailureClass::Transient, "{failure}");
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
    assert_eq!(failure.class(), FailureClass::Terminal);
    assert!(sts.calls().unwrap().is_empty());
}

#[test]
fn what_the_server_repeats_is_hidden() {
    let sts = LocalSts::start().unwrap();
    let source = role(&sts).external_id("external-hush").policy(r#"{"a":"policy-hush"}"#);
    let text = r#"bad external-hush and {"a":"policy-hush"}"#;
    sts.inject(Fault::error(400, "ValidationError", text), Times::Next(1)).unwrap();
    let failure = fetch(&source).unwrap_err();
    let shown = format!("{failure} {failure:?} {source:?}");
    assert!(!shown.contains("hush"), "{shown}");
}

#[test]
fn a_default_recipe_is_valid() {
    AssumeRole::new("arn:aws-cn:iam::123456789012:role/path/app").validate().unwrap();
    AssumeRole::new("arn:aws-us-gov:iam::123456789012:role/app").validate().unwrap();
}
