//! The SDK's own sources, each against a local stand-in: created in one process, read in its children.
#![allow(unsafe_code)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_smithy_types::{DateTime, date_time::Format};
use shmcreds::{ErrorKind, Process, Provider, SharedSession, Source, testing::LocalSts};
use support::{Child, assumed, child, name, role};

fn main() {
    support::run_forking(&[
        ("the_containers_endpoint", the_containers_endpoint),
        ("the_instances_metadata", the_instances_metadata),
        ("a_web_identity", a_web_identity),
        ("a_profile_with_a_role", a_profile_with_a_role),
        ("a_program", a_program),
        ("a_role_by_a_role_with_a_device", a_role_by_a_role_with_a_device),
        ("an_absent_one_is_an_error_with_its_name", an_absent_one_is_an_error),
    ]);
}

/// Clears what this machine says of AWS, and says `variables` instead. For a process that only this
/// test has.
fn environment(variables: &[(&str, &str)]) {
    let old: Vec<String> = std::env::vars().map(|(key, _)| key).collect();
    let nowhere = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"].map(|key| (key, "/dev/null"));
    // SAFETY: the process has one thread.
    unsafe {
        old.iter().filter(|key| key.starts_with("AWS_")).for_each(|key| std::env::remove_var(key));
        std::env::set_var("AWS_EC2_METADATA_DISABLED", "true");
        std::env::set_var("AWS_REGION", "us-east-1");
        for (key, value) in nowhere.iter().chain(variables) {
            std::env::set_var(key, value);
        }
    }
}

/// Creates a session in a process with that environment; in its children reads three sets, each after
/// `before(cycle)`. Gives the keys.
fn three_cycles(
    variables: &[(&str, &str)],
    source: impl FnOnce() -> Box<dyn FnOnce(&str) -> SharedSession>,
    before: impl Fn(usize),
) -> Vec<String> {
    let said = child(|report| {
        environment(variables);
        let session = source()(&name("source"));
        for cycle in 0..3 {
            before(cycle);
            let worker = child(|report| {
                let session = SharedSession::attach(session.name()).unwrap();
                let set = if cycle == 0 { session.credentials() } else { session.refresh() };
                report.say(set.unwrap().access_key_id());
            });
            report.say(worker.finish() + "\n");
        }
        assert_eq!(session.status().unwrap().source_calls(), 3);
    });
    said.finish().lines().map(str::to_owned).collect()
}

fn of(source: impl Source) -> Box<dyn FnOnce(&str) -> SharedSession> {
    Box::new(|name| SharedSession::builder(name).source(source).create().unwrap())
}

struct Asked {
    method: String,
    path: String,
    headers: Vec<String>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// A server in a process of its own, which answers one request per connection. Gives its address.
fn stand_in(mut answer: impl FnMut(&Asked) -> (u16, String)) -> (Child, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = child(|_| {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let Some(Ok(first)) = lines.next() else { continue };
            let mut words = first.split(' ').map(str::to_owned);
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let headers = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let (status, body) = answer(&Asked { method, path, headers });
            let head = format!(
                "HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\nContent-Type: application/json\r\n\
                 x-aws-ec2-metadata-token-ttl-seconds: 600\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
        }
    });
    (server, url)
}

fn set_json(number: u32) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(3600);
    let expiration = DateTime::from_secs(since.as_secs() as i64).fmt(Format::DateTime).unwrap();
    format!(
        r#"{{"Code":"Success","Type":"AWS-HMAC","LastUpdated":"2026-01-01T00:00:00Z","Version":1,
        "AccessKeyId":"ASIA{number}","SecretAccessKey":"secret","Token":"token","SessionToken":"token",
        "Expiration":"{expiration}"}}"#
    )
}

fn the_containers_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let (known, mut calls) = (token.clone(), 0);
    let (_server, url) = stand_in(move |asked| {
        let expected = fs::read_to_string(&known).unwrap();
        if asked.path != "/creds" || asked.header("authorization") != Some(&expected) {
            return (403, r#"{"code":"Denied","message":"no"}"#.into());
        }
        calls += 1;
        (200, set_json(calls))
    });
    let uri = format!("{url}/creds");
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
    ];
    // The token is another one each time.
    let rotate = |cycle| fs::write(&token, format!("token-{cycle}")).unwrap();
    let keys = three_cycles(&variables, || of(Provider::container()), rotate);
    assert_eq!(keys, ["ASIA1", "ASIA2", "ASIA3"]);
}

fn the_instances_metadata() {
    let mut calls = 0;
    let (_server, url) = stand_in(move |asked| {
        let role = "/latest/meta-data/iam/security-credentials/";
        let ours = asked.header("x-aws-ec2-metadata-token") == Some("session");
        match (asked.method.as_str(), asked.path.as_str()) {
            ("PUT", "/latest/api/token") => (200, "session".into()),
            ("GET", path) if ours && path == role => (200, "web".into()),
            ("GET", path) if ours && path == format!("{role}web") => {
                calls += 1;
                (200, set_json(calls))
            }
            _ => (404, String::new()),
        }
    });
    let variables = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "false"),
    ];
    let keys = three_cycles(&variables, || of(Provider::imds()), |_| {});
    assert_eq!(keys, ["ASIA1", "ASIA2", "ASIA3"]);
}

fn all_different(keys: &[String]) -> bool {
    keys.len() == 3 && keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]
}

fn a_web_identity() {
    let sts = LocalSts::fork().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app"),
        ("AWS_ROLE_SESSION_NAME", "pod"),
        ("AWS_ENDPOINT_URL_STS", &sts.url()),
    ];
    let rotate = |cycle| fs::write(&token, "t".repeat(cycle + 1)).unwrap();
    let keys = three_cycles(&variables, || of(Provider::web_identity()), rotate);
    assert!(all_different(&keys), "{keys:?}");
    let calls = sts.calls().unwrap();
    assert!(calls.iter().all(|call| call.action == "AssumeRoleWithWebIdentity"));
    assert!(calls.iter().all(|call| call.access_key_id.is_none()), "it signs nothing");
    let tokens: Vec<&str> =
        calls.iter().map(|c| c.parameters["WebIdentityToken"].as_str()).collect();
    assert_eq!(tokens, [1, 2, 3].map(|bytes| format!("<redacted: {bytes} bytes>")));
}

fn a_profile_with_a_role() {
    let sts = LocalSts::fork().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let text = "[profile app]\nrole_arn = arn:aws:iam::123456789012:role/app\nsource_profile = base\n\
                [profile base]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n\
                aws_secret_access_key = wJalrXUtnFEMI\n";
    fs::write(&config, text).unwrap();
    let variables =
        [("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_ENDPOINT_URL_STS", &sts.url())];
    let keys = three_cycles(&variables, || of(Provider::profile("app")), |_| {});
    assert!(all_different(&keys), "{keys:?}");
    assert_eq!(assumed(&sts), 3);
    let signer = sts.calls().unwrap()[0].access_key_id.clone();
    assert_eq!(signer.as_deref(), Some("AKIAIOSFODNN7EXAMPLE"));
}

fn a_program() {
    let folder = tempfile::tempdir().unwrap();
    let answer = folder.path().join("answer");
    let source = || of(Process::new(["/bin/cat", answer.to_str().unwrap()]));
    let write = |cycle| fs::write(&answer, set_json(cycle as u32)).unwrap();
    let keys = three_cycles(&[], source, write);
    assert_eq!(keys, ["ASIA0", "ASIA1", "ASIA2"]);
}

fn a_role_by_a_role_with_a_device() {
    let sts = LocalSts::fork().unwrap();
    let hub = || role(&sts).mfa_command("123456789", ["/bin/echo", "123456"]);
    let app = || {
        let app = shmcreds::AssumeRole::new("arn:aws:iam::210987654321:role/app");
        of(app.region("us-east-1").endpoint_url(sts.url()).base_source(hub()))
    };
    let keys = three_cycles(&[], app, |_| {});
    assert!(all_different(&keys), "{keys:?}");
    let calls = sts.calls().unwrap();
    assert_eq!(calls.len(), 6, "two for each set");
    let codes = calls.iter().filter(|call| call.parameters.contains_key("TokenCode")).count();
    assert_eq!(codes, 3);
}

fn an_absent_one_is_an_error() {
    type Make = fn() -> Provider;
    let sources: [(Make, &str); 5] = [
        (Provider::container, "container endpoint"),
        (Provider::imds, "instance metadata"),
        (Provider::web_identity, "web identity"),
        (|| Provider::profile("absent"), "profile absent"),
        (Provider::default_chain, "default chain"),
    ];
    for (make, what) in sources {
        child(|_| {
            environment(&[]);
            let session = of(make())(&name("absent"));
            let error = session.credentials().unwrap_err();
            let kinds = [ErrorKind::SourceTerminal, ErrorKind::SourceTransient];
            assert!(kinds.contains(&error.kind()) && error.to_string().contains(what), "{error}");
        })
        .finish();
    }
}
