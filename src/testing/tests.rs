//! Each behaviour and each fault, as an SDK client or a plain HTTP client sees it.

use std::{
    collections::HashSet,
    fmt::Debug,
    io::{self, Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime},
};

use aws_sdk_sts::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    error::{ProvideErrorMetadata, SdkError},
    operation::assume_role::{AssumeRoleError, AssumeRoleOutput},
};
use aws_smithy_types::date_time::{DateTime, Format};

use super::{Fault, LocalSts, Settings, Times, http, is_set_of};

const ROLE: &str = "arn:aws:iam::210987654321:role/some/path/app";
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/sts/\
                      aws4_request, SignedHeaders=host, Signature=00";

fn client_of(sts: &LocalSts, credentials: Credentials) -> Client {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .endpoint_url(sts.url())
        .build();
    Client::from_conf(config)
}

fn client(sts: &LocalSts) -> Client {
    client_of(sts, Credentials::new(KEY, "secret", None, None, "test"))
}

type Assumed = Result<AssumeRoleOutput, SdkError<AssumeRoleError>>;

async fn assume(client: &Client) -> Assumed {
    client.assume_role().role_arn(ROLE).role_session_name("worker").send().await
}

/// The status and the code of an error answer.
fn answered<E: ProvideErrorMetadata + Debug, T: Debug>(
    outcome: Result<T, SdkError<E>>,
) -> (u16, String) {
    let error = outcome.expect_err("the call should fail");
    let status = error.raw_response().expect("an answer").status().as_u16();
    (status, error.code().unwrap_or_default().to_owned())
}

/// The answer for a plain HTTP client: status, `Date` and body.
fn post(sts: &LocalSts, form: &[(&str, &str)]) -> (u16, String, String) {
    let answer = post_with(sts, &[("Authorization", SIGNED)], form);
    let header = |name| answer.header(name).unwrap().to_owned();
    let (date, id) = (header("Date"), header("x-amzn-RequestId"));
    let body = String::from_utf8(answer.body).unwrap();
    assert!(body.contains("xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\""), "{body}");
    assert!(body.contains(&id) || !body.contains("</RequestId>"), "{body}");
    (answer.status, date, body)
}

fn post_with(sts: &LocalSts, headers: &[(&str, &str)], form: &[(&str, &str)]) -> http::Answer {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    http::post(sts.addr(), "/", headers, body.as_bytes()).unwrap()
}

/// Sends a call on a socket and does not read the answer.
fn raw_call(sts: &LocalSts) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(sts.addr())?;
    let body = "Action=GetCallerIdentity";
    write!(stream, "POST / HTTP/1.1\r\nhost: sts\r\nauthorization: {SIGNED}\r\n")?;
    write!(stream, "content-length: {}\r\n\r\n{body}", body.len())?;
    Ok(stream)
}

#[tokio::test]
async fn issues_distinct_sets() {
    let sts = LocalSts::start().unwrap();
    let client = client(&sts);
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let output = assume(&client).await.unwrap();
        let set = output.credentials().unwrap();
        let id = set.access_key_id();
        assert!(id.starts_with("ASIA") && id.len() == 20, "{id}");
        assert!(id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()), "{id}");
        assert_eq!(set.secret_access_key().len(), 40);
        assert_eq!(set.session_token().len(), 512);
        for part in [id, set.session_token()] {
            assert!(seen.insert(part.to_owned()));
        }
        // The secret tells the inputs.
        let (secret, token) = (set.secret_access_key(), set.session_token());
        let of = |id: &str, secret: &str, token: &str| {
            Credentials::new(id, secret, Some(token.to_owned()), None, "test")
        };
        let inputs = [("RoleArn", ROLE), ("RoleSessionName", "worker")];
        assert!(is_set_of(&of(id, secret, token), &inputs));
        assert!(!is_set_of(&of(id, secret, token), &inputs[..1]));
        assert!(!is_set_of(&of("ASIA", secret, token), &inputs));
        assert!(!is_set_of(&of(id, secret, &token[1..]), &inputs));
        let user = output.assumed_role_user().unwrap();
        assert_eq!(user.arn(), "arn:aws:sts::210987654321:assumed-role/app/worker");
        let (role_id, session) = user.assumed_role_id().split_once(':').unwrap();
        assert!(role_id.starts_with("AROA") && role_id.len() == 21, "{role_id}");
        assert_eq!(session, "worker");
        assert_eq!(output.source_identity(), None);
    }
}

#[tokio::test]
async fn returns_what_was_asked_for() {
    let sts = LocalSts::start().unwrap();
    let before = unix_now();
    let request = client(&sts).assume_role().role_arn(ROLE).role_session_name("worker");
    let output = request.duration_seconds(900).source_identity("alice").send().await.unwrap();
    assert_eq!(output.source_identity(), Some("alice"));
    assert!((before + 900..=unix_now() + 900).contains(&expiration(&output)));
}

#[tokio::test]
async fn identifies_its_callers() {
    let sts = LocalSts::start().unwrap();
    let identity = client(&sts).get_caller_identity().send().await.unwrap();
    assert_eq!(identity.arn(), Some("arn:aws:iam::123456789012:user/local"));
    assert_eq!(identity.account(), Some(LocalSts::ACCOUNT));

    let output = assume(&client(&sts)).await.unwrap();
    let set = output.credentials().unwrap();
    let token = Some(set.session_token().to_owned());
    let session =
        Credentials::new(set.access_key_id(), set.secret_access_key(), token, None, "test");
    let identity = client_of(&sts, session).get_caller_identity().send().await.unwrap();
    let user = output.assumed_role_user().unwrap();
    assert_eq!(identity.arn(), Some(user.arn()));
    assert_eq!(identity.user_id(), Some(user.assumed_role_id()));
    assert_eq!(identity.account(), Some("210987654321"));
}

#[test]
fn refuses_what_sts_refuses() {
    let sts = LocalSts::start().unwrap();
    let base = [("Action", "AssumeRole"), ("RoleArn", ROLE), ("RoleSessionName", "worker")];
    let with = |name, value| [&base[..], &[(name, value)]].concat();
    let without = |name| base.into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    for (form, code, message) in [
        (without("RoleArn"), "ValidationError", "Value null at 'roleArn'"),
        (without("RoleSessionName"), "ValidationError", "Value null at 'roleSessionName'"),
        (with("RoleSessionName", "a b"), "ValidationError", "regular expression pattern"),
        (with("RoleSessionName", "a"), "ValidationError", "length greater than or equal to 2"),
        (with("RoleArn", "arn:aws:iam::1:user/local"), "ValidationError", "is invalid"),
        (with("DurationSeconds", "899"), "ValidationError", "greater than or equal to 900"),
        (with("DurationSeconds", "43201"), "ValidationError", "less than or equal to 43200"),
        (with("DurationSeconds", "soon"), "MalformedInput", ""),
        (vec![("Action", "AssumeRole")], "ValidationError", "2 validation errors detected"),
        (vec![("Action", "GetNothing")], "InvalidAction", "Could not find operation GetNothing"),
        (without("Action"), "MissingAction", ""),
    ] {
        let (status, _, body) = post(&sts, &form);
        assert_eq!(status, 400, "{form:?}");
        assert!(body.contains("<Type>Sender</Type>"), "{body}");
        assert!(body.contains(&format!("<Code>{code}</Code>")), "{form:?}: {body}");
        assert!(body.contains(message), "{form:?}: {body}");
    }
    for seconds in ["900", "43200"] {
        assert_eq!(post(&sts, &with("DurationSeconds", seconds)).0, 200);
    }
}

#[tokio::test]
async fn logs_calls_without_secrets() {
    let sts = LocalSts::start().unwrap();
    let before = SystemTime::now();
    let output = assume(&client(&sts)).await.unwrap();
    let set = output.credentials().unwrap();
    post(&sts, &[("Action", "AssumeRoleWithWebIdentity"), ("WebIdentityToken", "eyJ")]);

    let calls = sts.calls().unwrap();
    assert_eq!(calls.iter().map(|call| call.number).collect::<Vec<_>>(), [1, 2]);
    let call = &calls[0];
    assert_eq!((call.action.as_str(), call.status), ("AssumeRole", Some(200)));
    assert_eq!(call.parameters["RoleArn"], ROLE);
    assert_eq!(call.access_key_id.as_deref(), Some(KEY));
    assert_eq!(call.issued_access_key_id.as_deref(), Some(set.access_key_id()));
    assert!((before..=SystemTime::now()).contains(&call.received));
    assert_eq!((calls[1].status, &calls[1].issued_access_key_id), (Some(400), &None));
    let text = format!("{calls:?}");
    for secret in [set.secret_access_key(), set.session_token(), "eyJ"] {
        assert!(!text.contains(secret));
    }

    assert_eq!(sts.count("AssumeRole").unwrap(), 1);
    sts.clear_calls().unwrap();
    assert_eq!(sts.count("AssumeRole").unwrap(), 0);
}

#[tokio::test]
async fn error_faults_last_as_long_as_asked() {
    let sts = LocalSts::start().unwrap();
    let client = client(&sts);
    sts.inject(Fault::Status(500), Times::Next(0)).unwrap();
    sts.inject(Fault::Status(500), Times::Next(2)).unwrap();
    sts.inject(Fault::Status(503), Times::Next(1)).unwrap();
    sts.inject(Fault::Throttling, Times::Next(1)).unwrap();
    sts.inject(Fault::ThrottlingFor(7), Times::Next(1)).unwrap();
    sts.inject(Fault::AccessDenied, Times::Next(1)).unwrap();
    sts.inject(Fault::error(418, "Tea<pot", "short & stout"), Times::UntilCleared).unwrap();
    for (status, code) in [
        (500, "InternalFailure"),
        (500, "InternalFailure"),
        (503, "ServiceUnavailable"),
        (400, "Throttling"),
        (400, "Throttling"),
        (403, "AccessDenied"),
        (418, "Tea<pot"),
        (418, "Tea<pot"),
    ] {
        assert_eq!(answered(assume(&client).await), (status, code.to_owned()));
    }
    sts.clear_faults().unwrap();
    assume(&client).await.unwrap();
    let statuses: Vec<_> = sts.calls().unwrap().iter().map(|call| call.status.unwrap()).collect();
    assert_eq!(statuses, [500, 500, 503, 400, 400, 403, 418, 418, 200]);
}

#[test]
fn denies_with_the_message_of_sts() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::AccessDenied, Times::Next(1)).unwrap();
    let (_, _, body) = post(&sts, &[("Action", "AssumeRole"), ("RoleArn", ROLE)]);
    let words = format!(
        "User: arn:aws:iam::123456789012:user/local is not authorized to perform: \
         sts:AssumeRole on resource: {ROLE}"
    );
    assert!(body.contains(&words), "{body}");
}

#[test]
fn resets_connections() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::Reset, Times::Next(1)).unwrap();
    let error = raw_call(&sts).unwrap().read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(sts.calls().unwrap()[0].status, None);
}

#[tokio::test]
async fn a_black_hole_delays_no_other_call() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::BlackHole, Times::Next(1)).unwrap();
    let mut hole = raw_call(&sts).unwrap();
    hole.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let error = hole.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assume(&client(&sts)).await.unwrap();
    assert_eq!(sts.calls().unwrap()[0].status, None);
    let addr = sts.addr();
    drop(sts);
    TcpStream::connect(addr).unwrap_err();
}

#[tokio::test]
async fn settings_stick_and_a_fault_overrides_them() {
    let sts = LocalSts::start().unwrap();
    let client = client(&sts);
    sts.configure(Settings::new().lifetime(Duration::from_secs(1)).token_bytes(4096)).unwrap();
    let expired = Settings::new().expired(Duration::from_secs(60)).token_bytes(1);
    sts.inject(Fault::Under(expired), Times::Next(1)).unwrap();
    for (lifetime, token_bytes) in [(-60, 1), (1, 4096), (1, 4096)] {
        let before = unix_now();
        let output = assume(&client).await.unwrap();
        assert!((before + lifetime..=unix_now() + lifetime).contains(&expiration(&output)));
        assert_eq!(output.credentials().unwrap().session_token().len(), token_bytes);
    }
}

#[tokio::test]
async fn waits_before_the_answer() {
    let sts = LocalSts::start().unwrap();
    let latency = Duration::from_millis(30);
    sts.configure(Settings::new().latency(latency)).unwrap();
    let started = std::time::Instant::now();
    assume(&client(&sts)).await.unwrap();
    assert!(started.elapsed() >= latency);
}

#[tokio::test]
async fn skew_shows_in_date_and_expiration() {
    let sts = LocalSts::start().unwrap();
    for skew in [-7200, 7200] {
        sts.configure(Settings::new().date_skew(skew)).unwrap();
        let before = unix_now() + skew;
        let (_, date, _) = post(&sts, &[("Action", "GetCallerIdentity")]);
        let date = DateTime::from_str(&date, Format::HttpDate).unwrap().secs();
        let output = assume(&client(&sts)).await.unwrap();
        let after = unix_now() + skew;
        assert!((before..=after).contains(&date));
        assert!((before + 3600..=after + 3600).contains(&expiration(&output)));
    }
}

#[tokio::test]
async fn survives_absurd_settings() {
    let sts = LocalSts::start().unwrap();
    for skew in [i64::MIN, i64::MAX] {
        sts.configure(Settings::new().date_skew(skew).lifetime(Duration::MAX)).unwrap();
        let _ = assume(&client(&sts)).await;
    }
    assert_eq!(sts.count("AssumeRole").unwrap(), 2);
}

#[tokio::test]
async fn spoils_the_body() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::MalformedBody, Times::Next(1)).unwrap();
    let outcome = assume(&client(&sts)).await;
    assert!(outcome.unwrap_err().raw_response().unwrap().status().is_success());

    sts.inject(Fault::TruncatedBody, Times::Next(1)).unwrap();
    let output = assume(&client(&sts)).await.unwrap();
    // The client accepts the partial answer as complete.
    assert!(output.credentials().unwrap().session_token().len() < 512);

    sts.inject(Fault::IncompleteSet, Times::Next(1)).unwrap();
    let (status, _, body) =
        post(&sts, &[("Action", "AssumeRole"), ("RoleArn", ROLE), ("RoleSessionName", "worker")]);
    assert_eq!(status, 200);
    assert!(body.contains("<SessionToken>") && !body.contains("SecretAccessKey"), "{body}");
}

#[test]
fn serves_many_connections_at_once() {
    let sts = LocalSts::start().unwrap();
    let streams: Vec<_> = (0..200).map(|_| raw_call(&sts).unwrap()).collect();
    for mut stream in streams {
        let mut status = [0; 15];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK");
    }
    assert_eq!(sts.count("GetCallerIdentity").unwrap(), 200);
}

#[test]
fn requires_a_signature() {
    let sts = LocalSts::start().unwrap();
    let answer = post_with(&sts, &[], &[("Action", "GetCallerIdentity")]);
    assert_eq!(answer.status, 403, "{answer:?}");
    assert_eq!(sts.calls().unwrap()[0].access_key_id, None);
}

#[test]
fn fork_refuses_a_process_with_threads() {
    let error = std::thread::spawn(LocalSts::fork).join().unwrap().unwrap_err();
    assert!(error.to_string().contains("LocalSts::start"), "{error}");
}

fn unix_now() -> i64 {
    DateTime::from(SystemTime::now()).secs()
}

fn expiration(output: &AssumeRoleOutput) -> i64 {
    output.credentials().unwrap().expiration().secs()
}
