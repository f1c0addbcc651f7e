//! The SDK's own sources, each against a local stand-in: created in one process, read in its children.
#![allow(unsafe_code)]

#[path = "../examples/stand_in/iot.rs"]
mod iot;
#[path = "support/sources.rs"]
mod sources;
mod support;

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::Credentials;
use nix::sys::signal::{SigHandler, Signal, signal};
use shmcreds::{
    AssumeRole, CredentialProcess, ErrorKind, IotCore, Pem, Provider, SharedSession, Source,
    testing::{Fault, LocalSts, Times},
};
use sources::{START_URL, environment, set_json, signed_in, stand_in};
use support::{Child, assumed, child, name, role};

fn main() {
    support::run_forking(&[
        ("the_containers_endpoint", || the_containers_endpoint(Provider::container)),
        ("what_the_sdk_finds", || the_containers_endpoint(Provider::default_chain)),
        ("the_instances_metadata", the_instances_metadata),
        ("a_web_identity", a_web_identity),
        ("a_profile_with_a_role", a_profile_with_a_role),
        ("a_profile_that_leads_to_itself_is_an_error", a_profile_that_leads_to_itself_is_an_error),
        ("a_single_sign_on", a_single_sign_on),
        ("a_program", a_program),
        ("a_program_that_leaves_something_running", a_program_that_leaves_something_running),
        ("a_program_whose_end_nobody_sees", a_program_whose_end_nobody_sees),
        ("no_error_shows_a_secret", no_error_shows_a_secret),
        ("a_busy_server_is_left_alone_as_long_as_it_says", a_busy_server),
        ("a_device_with_a_certificate", a_device_with_a_certificate),
        ("a_role_by_a_role_with_a_device", a_role_by_a_role_with_a_device),
        ("a_closure", a_closure),
        ("a_refusal_keeps_its_code_and_its_id", a_refusal_keeps_its_code_and_its_id),
        ("a_device_in_every_mood", a_device_in_every_mood),
        ("each_refresh_asks_the_device_once", each_refresh_asks_the_device_once),
        ("whose_they_are", whose_they_are),
        ("no_debug_shows_a_secret", no_debug_shows_a_secret),
        ("an_absent_one_is_an_error_with_its_name", an_absent_one_is_an_error),
    ]);
}

/// Creates a session in a process with that environment; in its children reads three sets, each after
/// `before(cycle)`. Gives the keys.
fn three_cycles(
    variables: &[(&str, &str)],
    source: impl FnOnce() -> Made,
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

type Made = Box<dyn FnOnce(&str) -> SharedSession>;

fn of(source: impl Source) -> Made {
    Box::new(|name| SharedSession::builder(name).source(source).create().unwrap())
}

fn the_containers_endpoint(source: fn() -> Provider) {
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
    let keys = three_cycles(&variables, || of(source()), rotate);
    assert_eq!(keys, ["ASIA1", "ASIA2", "ASIA3"]);
}

fn the_instances_metadata() {
    let (mut calls, mut hiccups) = (0, 1);
    let (_server, url) = stand_in(move |asked| {
        let role = "/latest/meta-data/iam/security-credentials/";
        let ours = asked.header("x-aws-ec2-metadata-token") == Some("session");
        match (asked.method.as_str(), asked.path.as_str()) {
            ("PUT", "/latest/api/token") if hiccups > 0 => {
                hiccups -= 1;
                (503, String::new())
            }
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

fn a_profile_that_leads_to_itself_is_an_error() {
    let role = |name: &str, source: &str| {
        format!(
            "[profile {name}]\nrole_arn = arn:aws:iam::123456789012:role/{name}\nsource_profile = {source}\n"
        )
    };
    for text in [
        role("app", "app"),
        role("app", "hub") + &role("hub", "app"),
        role("app", "hub") + &role("hub", "rim") + &role("rim", "hub"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        fs::write(&config, text).unwrap();
        child(|_| {
            environment(&[("AWS_CONFIG_FILE", config.to_str().unwrap())]);
            let session = of(Provider::profile("app"))(&name("cycle"));
            let error = session.credentials().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SourceMisconfigured, "{error}");
        })
        .finish();
    }
}

fn a_single_sign_on() {
    let mut calls = 0;
    let (_server, url) = stand_in(move |asked| {
        let known = asked.header("x-amz-sso_bearer_token") == Some("signed-in");
        if !known || !asked.path.contains("account_id=123456789012") {
            return (401, r#"{"message":"no"}"#.into());
        }
        calls += 1;
        let hour =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(3600);
        let set = format!(
            r#"{{"roleCredentials":{{"accessKeyId":"ASIA{calls}","secretAccessKey":"secret",
            "sessionToken":"token","expiration":{}}}}}"#,
            hour.as_millis()
        );
        (200, set)
    });
    let home = signed_in("signed-in");
    let variables =
        [("HOME", home.path().to_str().unwrap()), ("AWS_ENDPOINT_URL_SSO", url.as_str())];
    let source = || of(Provider::sso(START_URL, "us-east-1", "123456789012", "reader"));
    let keys = three_cycles(&variables, source, |_| {});
    assert_eq!(keys, ["ASIA1", "ASIA2", "ASIA3"]);
}

/// What no error may show, in the shapes that a source meets it.
const KEY: &str = "ASIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "IQoJb3JpZ2luX2VjEOwerTyuiopASDFGHJKL1234567890wJalrXUtnFEMIbPx==";
const EXTERNAL_ID: &str = "tenant-hush-42";
const CODE: &str = "271828";

/// Asks for credentials, which fails; gives everything that a program could print of it.
fn complaint(session: &SharedSession) -> String {
    let error = session.credentials().unwrap_err();
    let mut all = format!("{error} {error:?} {:?} {session:?}", session.status().unwrap());
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        all += &format!(" {error} {error:?}");
        cause = error.source();
    }
    all
}

/// The stand-in says 7 s.
fn a_busy_server() {
    let (_server, url) = stand_in(|asked| match asked.path.as_str() {
        "/latest/api/token" => (200, "session".into()),
        "/latest/meta-data/iam/security-credentials/" => (200, "web".into()),
        _ => (429, String::new()),
    });
    let uri = format!("{url}/creds");
    let container = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str());
    let instance = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str());
    for (variable, source) in
        [(container, Provider::container as fn() -> Provider), (instance, Provider::imds)]
    {
        let said = child(|report| {
            environment(&[variable, ("AWS_EC2_METADATA_DISABLED", "false")]);
            let session = SharedSession::builder(name("busy")).source(source()).create().unwrap();
            let error = session.credentials().unwrap_err();
            let cause = std::error::Error::source(&error).unwrap();
            let cause = cause.downcast_ref::<shmcreds::SourceError>().unwrap();
            // What the server says is in the segment as the time of the next attempt.
            let next = error.retry_after().unwrap();
            let waits = next > Duration::from_secs(5) && next <= Duration::from_secs(8);
            report.say(format!("{} {waits}", cause.class()));
        });
        assert_eq!(said.finish(), "throttled true");
    }
}

fn no_error_shows_a_secret() {
    let sts = LocalSts::fork().unwrap();
    let echo = format!("got {KEY}, {SECRET}, {TOKEN}, {EXTERNAL_ID} and {CODE}");
    let fault = Fault::error(400, "ValidationError", &echo);
    sts.inject(fault, Times::UntilCleared).unwrap();
    let body = format!(r#"{{"code":"Denied","message":"{KEY} {SECRET} {TOKEN}"}}"#);
    let (_server, url) = stand_in(move |_| (400, body.clone()));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let profile = format!(
        "[profile app]\nrole_arn = arn:aws:iam::123456789012:role/app\nsource_profile = base\n\
         external_id = {EXTERNAL_ID}\n\
         [profile base]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    );
    let (token, config) = (file("token", TOKEN), file("config", &profile));
    let device = iot::Authority::new().device(iot::Key::Ec);
    let (certificate, key) = (file("cert.pem", &device.certificate), file("key.pem", &device.key));
    let (uri, sts_url, home) = (format!("{url}/creds"), sts.url(), signed_in(TOKEN));
    let fail = format!("echo '{echo}'; echo '{echo}' >&2; exit 1");
    let given_role = || role(&sts).external_id(EXTERNAL_ID);
    let serial = "123456789";
    let refuse = || async { Err::<Credentials, _>(format!("refused {KEY} {SECRET} {TOKEN}")) };

    type Row<'a> = (&'static str, Made, Vec<(&'static str, &'a str)>);
    let rows: [Row<'_>; 13] = [
        ("a role", of(given_role()), vec![]),
        ("a code", of(given_role().mfa(serial, || async { Ok::<_, String>(CODE.into()) })), vec![]),
        (
            "a failing device",
            of(given_role().mfa_command(serial, ["/bin/sh", "-c", &fail])),
            vec![],
        ),
        ("no code", of(role(&sts).mfa_command(serial, ["/bin/echo", TOKEN])), vec![]),
        ("a failing program", of(CredentialProcess::new(["/bin/sh", "-c", &fail])), vec![]),
        ("no set", of(CredentialProcess::new(["/bin/echo", &echo])), vec![]),
        ("a closure", of(Provider::from_fn("closure", refuse)), vec![]),
        (
            "a container",
            of(Provider::container()),
            vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token),
            ],
        ),
        (
            "a web identity",
            of(Provider::web_identity()),
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", &token),
                ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app"),
                ("AWS_ENDPOINT_URL_STS", &sts_url),
            ],
        ),
        (
            "a profile",
            of(Provider::profile("app")),
            vec![("AWS_CONFIG_FILE", &config), ("AWS_ENDPOINT_URL_STS", &sts_url)],
        ),
        (
            "an instance",
            of(Provider::imds()),
            vec![
                ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url),
                ("AWS_EC2_METADATA_DISABLED", "false"),
            ],
        ),
        (
            "a single sign-on",
            of(Provider::sso(START_URL, "us-east-1", "123456789012", "reader")),
            vec![("HOME", home.path().to_str().unwrap()), ("AWS_ENDPOINT_URL_SSO", &url)],
        ),
        (
            "a certificate",
            of(IotCore::new("127.0.0.1:1", "app", Pem::file(&certificate), Pem::file(&key))),
            vec![],
        ),
    ];
    let line = device.key.lines().nth(1).unwrap();
    for (what, make, variables) in rows {
        let worker = child(|report| {
            environment(&variables);
            report.say(complaint(&make(&name("hush"))));
        });
        let said = worker.finish();
        assert!(said.contains("the source failed"), "{what}");
        for (secret, which) in [(KEY, "key"), (SECRET, "secret"), (TOKEN, "token"), (line, "line")]
        {
            assert!(!said.contains(secret), "{what} shows a {which}");
        }
        // These two look like any other text: whoever was told one knows it to be secret.
        // What a failing program says itself is shown, without all that has the shape of a secret.
        let external_id = ["a profile", "a web identity", "a failing program"].contains(&what);
        let code = external_id || what == "a role";
        assert!(external_id || !said.contains(EXTERNAL_ID), "{what} shows the external id");
        assert!(code || !said.contains(CODE), "{what} shows the code");
    }
}

fn a_program() {
    let folder = tempfile::tempdir().unwrap();
    let answer = folder.path().join("answer");
    let source = || of(CredentialProcess::new(["/bin/cat", answer.to_str().unwrap()]));
    let write = |cycle| fs::write(&answer, set_json(cycle as u32)).unwrap();
    let keys = three_cycles(&[], source, write);
    assert_eq!(keys, ["ASIA0", "ASIA1", "ASIA2"]);
}

/// As one does that starts a daemon: it answers and ends, and the daemon has its standard output.
fn a_program_that_leaves_something_running() {
    let folder = tempfile::tempdir().unwrap();
    let set = set_json(1);
    let script = "while test -e \"$0\"; do sleep 0.05; done & echo \"$1\"";
    let folder = folder.path().to_str().unwrap();
    let source = || of(CredentialProcess::new(["/bin/sh", "-c", script, folder, &set]));
    assert_eq!(three_cycles(&[], source, |_| {}), ["ASIA1"; 3]);
}

/// The kernel keeps no exit status for a process that ignores SIGCHLD, as some servers do.
fn a_program_whose_end_nobody_sees() {
    let set = set_json(1);
    let ask = |script: &str| {
        child(|report| {
            // SAFETY: the process has one thread, and no handler is installed.
            unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
            let source = CredentialProcess::new(["/bin/sh", "-c", script, &set]);
            let session = SharedSession::builder(name("unseen")).source(source).create().unwrap();
            report.say(match session.credentials() {
                Ok(set) => set.access_key_id().to_owned(),
                Err(error) => error.to_string(),
            });
        })
        .finish()
    };
    assert_eq!(ask("echo \"$0\""), "ASIA1");
    let said = ask("exit 3");
    assert!(said.contains("gave no usable set"), "{said}");
}

fn a_device_with_a_certificate() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key, ca] = ["cert.pem", "key.pem", "ca.pem"].map(|f| folder.path().join(f));
    let authority = iot::Authority::new();
    fs::write(&ca, authority.certificate()).unwrap();
    let _server = child(|_| iot::serve(listener, &authority, "sensor-1"));
    let source = || {
        of(IotCore::new(&endpoint, "app", Pem::file(&certificate), Pem::file(&key))
            .thing_name("sensor-1")
            .ca(Pem::file(&ca)))
    };
    // The device has another certificate and key each time.
    let renew = |_| {
        let device = authority.device(iot::Key::Ec);
        fs::write(&certificate, device.certificate).unwrap();
        fs::write(&key, device.key).unwrap();
    };
    renew(0);
    let keys = three_cycles(&[], source, renew);
    assert_eq!(keys, ["ASIA1", "ASIA2", "ASIA3"]);
}

fn a_role_by_a_role_with_a_device() {
    let sts = LocalSts::fork().unwrap();
    let hub = || role(&sts).mfa_command("123456789", ["/bin/echo", "123456"]);
    let app = || {
        let app = AssumeRole::new("arn:aws:iam::210987654321:role/app");
        of(app.region("us-east-1").endpoint_url(sts.url()).base_source(hub()))
    };
    let keys = three_cycles(&[], app, |_| {});
    assert!(all_different(&keys), "{keys:?}");
    let calls = sts.calls().unwrap();
    assert_eq!(calls.len(), 6, "two for each set");
    let codes = calls.iter().filter(|call| call.parameters.contains_key("TokenCode")).count();
    assert_eq!(codes, 3);
}

fn a_closure() {
    let folder = tempfile::tempdir().unwrap();
    let vault = folder.path().join("vault");
    let known = vault.clone();
    let ask = move || {
        let key = fs::read_to_string(&known);
        async {
            let hour = SystemTime::now() + Duration::from_secs(3600);
            key.map(|key| {
                Credentials::new(key, "secret", Some("token".into()), Some(hour), "vault")
            })
        }
    };
    let write = |cycle: usize| fs::write(&vault, format!("ASIA{cycle}")).unwrap();
    let keys = three_cycles(&[], || of(Provider::from_fn("vault", ask)), write);
    assert_eq!(keys, ["ASIA0", "ASIA1", "ASIA2"]);
}

/// Those of the service, also where the SDK has a type of its own for the error.
fn a_refusal_keeps_its_code_and_its_id() {
    let sts = LocalSts::fork().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let text = "[profile app]\nrole_arn = arn:aws:iam::123456789012:role/app\nsource_profile = base\n\
                [profile base]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = any\n";
    let (token, config) = (file("token", "signed"), file("config", text));
    let web_identity = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app"),
        ("AWS_ENDPOINT_URL_STS", &sts.url()),
    ];
    let profile = [("AWS_CONFIG_FILE", config.as_str()), ("AWS_ENDPOINT_URL_STS", &sts.url())];
    use ErrorKind::{SourceMisconfigured, SourceTerminal};
    for (code, kind) in [
        ("AccessDenied", SourceTerminal),
        ("ExpiredTokenException", SourceTerminal),
        ("IDPRejectedClaim", SourceTerminal),
        ("PackedPolicyTooLarge", SourceMisconfigured),
        ("RegionDisabledException", SourceMisconfigured),
    ] {
        sts.clear_faults().unwrap();
        sts.inject(Fault::error(400, code, "no"), Times::UntilCleared).unwrap();
        let rows: [(Provider, &[(&str, &str)]); 2] =
            [(Provider::web_identity(), &web_identity), (Provider::profile("app"), &profile)];
        for (source, variables) in rows {
            child(|_| {
                environment(variables);
                let error = of(source)(&name("refusal")).credentials().unwrap_err();
                assert_eq!(error.kind(), kind, "{error}");
                let said = error.to_string();
                assert!(said.contains(&format!("{code}: no (request id 00000000-")), "{error}");
            })
            .finish();
        }
    }
}

const SERIAL: &str = "arn:aws:iam::123456789012:mfa/alice";

/// A role whose device is a shell script, which leaves its pid in `asked`, a line each time; `$0` for it.
fn with_device(sts: &LocalSts, asked: &Path, script: &str) -> AssumeRole {
    let script = format!("echo $$ >> \"$0\"; {script}");
    role(sts).mfa_command(SERIAL, ["/bin/sh", "-c", &script, asked.to_str().unwrap()])
}

/// Gone, or waiting for a parent to notice.
fn is_dead(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X']) || stat.is_empty()
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

const HANGS: &str = "echo 271828; sleep 1000 & echo $! >> \"$0\"; wait";

/// Each through a whole session, in a worker.
fn a_device_in_every_mood() {
    let wrong = "MultiFactorAuthentication failed with invalid MFA one time pass code.";
    let wrong = Fault::error(403, "AccessDenied", wrong);
    use ErrorKind::{SourceTerminal, SourceTransient};
    type Row<'a> = (&'a str, Option<&'a Fault>, Option<(ErrorKind, &'a str)>, usize);
    let rows: [Row<'_>; 10] = [
        ("echo 271828", None, None, 1),
        ("while test -e \"$0\"; do sleep 0.05; done & echo 271828", None, None, 1),
        ("echo old 111111, new 271828.", None, None, 1),
        ("echo 271828 >&2", None, Some((SourceTransient, "no six-digit number")), 0),
        ("true", None, Some((SourceTransient, "no six-digit number")), 0),
        ("echo 2718281", None, Some((SourceTransient, "no six-digit number")), 0),
        ("echo 271828; exit 3", None, Some((SourceTransient, "exit status: 3")), 0),
        ("echo 271828; kill -9 $$", None, Some((SourceTransient, "signal: 9")), 0),
        (HANGS, None, Some((SourceTransient, "no answer within 1s")), 0),
        ("echo 271828", Some(&wrong), Some((SourceTerminal, "the MFA code is wrong, too old")), 1),
    ];
    let sts = LocalSts::fork().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (number, (script, fault, expected, calls)) in rows.into_iter().enumerate() {
        sts.clear_calls().unwrap();
        sts.clear_faults().unwrap();
        if let Some(fault) = fault {
            sts.inject(fault.clone(), Times::UntilCleared).unwrap();
        }
        let asked = folder.path().join(number.to_string());
        let limit = Duration::from_secs(if script == HANGS { 1 } else { 60 });
        let source = with_device(&sts, &asked, script).mfa_timeout(limit);
        let session = SharedSession::builder(name("mood")).source(source).create().unwrap();
        let worker = child(|report| match session.credentials() {
            Ok(_) => report.say("a set"),
            Err(error) => {
                let (kind, text) = expected.unwrap_or_else(|| panic!("{script}: {error}"));
                assert_eq!(error.kind(), kind, "{script}: {error}");
                assert!(error.to_string().contains(text), "{script}: {error}");
                assert!(!format!("{error} {error:?}").contains(CODE), "{script} shows the code");
            }
        });
        assert_eq!(worker.finish(), if expected.is_none() { "a set" } else { "" }, "{script}");
        assert_eq!(assumed(&sts), calls, "{script}");
        let pids = lines(&asked);
        // On a busy machine the one that hangs may not have come to it.
        assert!(pids.len() == 1 || script == HANGS && pids.len() <= 2, "{script}: {pids:?}");
        for pid in pids {
            support::until("the program and what it has started end", || is_dead(&pid));
        }
    }
}

fn each_refresh_asks_the_device_once() {
    let sts = LocalSts::fork().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked");
    let source = with_device(&sts, &asked, "echo 271828");
    let session = SharedSession::builder(name("once")).source(source).create().unwrap();
    for cycle in 1..=2 {
        let worker = || child(|report| report.say(session.credentials().unwrap().access_key_id()));
        let workers: Vec<_> = (0..8).map(|_| worker()).collect();
        let keys: BTreeSet<String> = workers.into_iter().map(Child::finish).collect();
        assert_eq!((keys.len(), lines(&asked).len(), assumed(&sts)), (1, cycle, cycle));
        if cycle == 1 {
            child(|_| drop(session.refresh().unwrap())).finish();
        }
    }
}

fn whose_they_are() {
    let sts = LocalSts::fork().unwrap();
    let user = "arn:aws:iam::123456789012:user/local";
    let hub = "arn:aws:sts::123456789012:assumed-role/app/hub";
    let app = "arn:aws:sts::210987654321:assumed-role/app/web";
    let chain = AssumeRole::new("arn:aws:iam::210987654321:role/app")
        .session_name("web")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .base_source(role(&sts).session_name("hub"));
    let set = set_json(1);
    let rows: [(Made, &str, &str); 3] = [
        (of(role(&sts).session_name("hub")), hub, user),
        (of(chain), app, hub),
        // STS is the environment's, and the source is who its sets are of.
        (of(CredentialProcess::new(["/bin/echo", &set])), user, user),
    ];
    for (make, shared, own) in rows {
        child(|_| {
            environment(&[("AWS_ENDPOINT_URL_STS", &sts.url())]);
            let session = make(&name("whose"));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let identity = session.identity().await.unwrap();
                assert_eq!(identity.arn, shared);
                assert_eq!(identity.account, shared.split(':').nth(4).unwrap());
                assert_eq!(session.source_identity().await.unwrap().arn, own);
                sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
                let error = session.source_identity().await.unwrap_err();
                assert_eq!(error.operation(), "source_identity", "{error}");
                assert!(error.to_string().contains("request id"), "{error}");
                sts.clear_faults().unwrap();
            });
        })
        .finish();
    }
}

fn no_debug_shows_a_secret() {
    let answer = set_json(1).replace("\"secret\"", &format!("{SECRET:?}"));
    let answer = answer.replace("\"token\"", &format!("{TOKEN:?}"));
    assert!(answer.contains(SECRET) && answer.contains(TOKEN));
    let worker = child(|report| {
        let source = CredentialProcess::new(["/bin/echo", &answer]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        report.say(format!("{:?}", runtime.block_on(source.fetch()).unwrap()));
        let builder = SharedSession::builder(name("debug")).source(source.clone());
        report.say(format!("{source:?} {builder:?}"));
        let session = builder.create().unwrap();
        let mut reader = session.reader();
        assert_eq!(reader.credentials().unwrap().secret_access_key(), SECRET);
        let status = session.status().unwrap();
        report
            .say(format!("{reader:?} {session:?} {status:?} {:?}", session.credentials().unwrap()));
    });
    let said = worker.finish();
    assert!(said.contains("SharedSession") && said.contains("Reader"), "{said}");
    assert!(!said.contains(SECRET) && !said.contains(TOKEN), "{said}");
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
            let kinds = [ErrorKind::SourceMisconfigured, ErrorKind::SourceTransient];
            assert!(kinds.contains(&error.kind()) && error.to_string().contains(what), "{error}");
        })
        .finish();
    }
}
