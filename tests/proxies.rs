//! No request goes where it was not meant for. A proxy would get the token of what is on this machine or its
//! host, and its answer would be taken for credentials; so would whatever a redirect leads to.

#[path = "../examples/stand_in/iot.rs"]
mod iot;
#[path = "support/sources.rs"]
mod sources;
mod support;

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
};

use aws_credential_types::Credentials;
use shmcreds::{AssumeRole, IotCore, Pem, Provider, SharedSession, Source, testing::LocalSts};
use sources::{environment, profile_with_a_role, set_json, stand_in};
use support::{Child, child, name, role};

fn main() {
    support::run_forking(&[
        ("the_containers_endpoint", the_containers_endpoint),
        ("the_instances_metadata", the_instances_metadata),
        ("the_region_of_the_instance", the_region_of_the_instance),
        ("an_sts_on_this_machine", an_sts_on_this_machine),
        ("a_sign_on_on_this_machine", a_sign_on_on_this_machine),
        ("a_device_takes_no_proxy", a_device_takes_no_proxy),
        ("what_is_elsewhere_takes_the_proxy", what_is_elsewhere_takes_the_proxy),
        ("a_role_takes_the_proxy_that_the_program_gives", a_role_takes_the_given_proxy),
        (
            "a_role_trusts_the_authorities_that_the_program_gives",
            a_role_trusts_the_given_authorities,
        ),
        ("a_proxy_that_wants_a_login_is_misconfigured", a_proxy_that_wants_a_login),
        ("no_redirect_is_followed", no_redirect_is_followed),
        ("an_endless_answer_is_cut_off", an_endless_answer_is_cut_off),
    ]);
}

/// A proxy that notes what it is asked, and answers everything with a set of its own.
struct Proxy {
    _server: Child,
    url: String,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Proxy {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("asked");
        fs::write(&log, "").unwrap();
        let path = log.clone();
        let (_server, url) = stand_in(move |asked| {
            let mut log = OpenOptions::new().append(true).open(&path).unwrap();
            writeln!(log, "{} {}", asked.method, asked.path).unwrap();
            (200, set_json(666))
        });
        Proxy { _server, url, log, _folder: folder }
    }

    /// All ways to name it.
    fn variables(&self) -> Vec<(&str, &str)> {
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
            .map(|variable| (variable, self.url.as_str()))
            .to_vec()
    }

    fn seen(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

/// The key that the source gives with that environment and the proxy, which must see nothing.
fn key(variables: &[(&str, &str)], source: impl FnOnce() -> Box<dyn Source>) -> String {
    let proxy = Proxy::new();
    let mut all = proxy.variables();
    all.extend(variables);
    let said = child(|report| {
        environment(&all);
        let source: std::sync::Arc<dyn Source> = source().into();
        let session = SharedSession::builder(name("proxy")).source(source).create().unwrap();
        let key = session.credentials().map(|set| set.access_key_id().to_owned());
        report.say(key.unwrap_or_else(|error| error.to_string()));
    })
    .finish();
    assert_eq!(proxy.seen(), "", "the proxy was asked; the source gave {said:?}");
    said
}

fn the_containers_endpoint() {
    let (_server, url) = stand_in(|asked| match asked.header("authorization") {
        Some("token") => (200, set_json(1)),
        _ => (403, r#"{"code":"Denied","message":"no"}"#.into()),
    });
    let by_name = url.replace("127.0.0.1", "localhost");
    for place in [url, by_name] {
        for source in [Provider::container, Provider::default_chain] {
            let uri = format!("{place}/creds");
            let variables = [
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token"),
            ];
            assert_eq!(key(&variables, || Box::new(source())), "ASIA1", "{uri}");
        }
    }
}

/// A metadata service with a role and a Region. It answers the request for a token with this status.
fn metadata(token: u16) -> (Child, String) {
    stand_in(move |asked| {
        let role = "/latest/meta-data/iam/security-credentials/";
        match asked.path.as_str() {
            "/latest/api/token" => (token, "session".into()),
            "/latest/meta-data/placement/region" => (200, "eu-central-1".into()),
            path if path == role => (200, "web".into()),
            path if path == format!("{role}web") => (200, set_json(1)),
            _ => (404, String::new()),
        }
    })
}

fn the_instances_metadata() {
    for token in [200, 405] {
        let (_server, url) = metadata(token);
        let variables = [
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
            ("AWS_EC2_METADATA_DISABLED", "false"),
        ];
        for source in [Provider::imds, Provider::default_chain] {
            assert_eq!(key(&variables, || Box::new(source())), "ASIA1");
        }
    }
}

/// A role with base credentials that a closure gives.
fn signed_role() -> AssumeRole {
    let role = AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("web");
    role.credentials_provider("base", || async {
        Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "base")
    })
}

fn the_region_of_the_instance() {
    let (_server, url) = metadata(200);
    let sts = LocalSts::fork().unwrap();
    let sts_url = sts.url();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "token").unwrap();
    let variables = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_REGION", ""),
        ("AWS_ENDPOINT_URL_STS", &sts_url),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app"),
    ];
    let web = key(&variables, || Box::new(Provider::web_identity()));
    assert!(web.starts_with("ASIA"), "{web}");
    let role = key(&variables, || Box::new(signed_role()));
    assert!(role.starts_with("ASIA"), "{role}");
}

fn an_sts_on_this_machine() {
    let sts = LocalSts::fork().unwrap();
    let url = sts.url();
    let given = key(&[], || Box::new(role(&sts)));
    assert!(given.starts_with("ASIA"), "{given}");
    let variables = [
        ("AWS_ENDPOINT_URL_STS", url.as_str()),
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "any"),
    ];
    let by_environment = key(&variables, || {
        Box::new(AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("web"))
    });
    assert!(by_environment.starts_with("ASIA"), "{by_environment}");
    let config = profile_with_a_role();
    let variables =
        [("AWS_ENDPOINT_URL_STS", url.as_str()), ("AWS_CONFIG_FILE", config.to_str().unwrap())];
    let by_profile = key(&variables, || Box::new(Provider::profile("app")));
    assert!(by_profile.starts_with("ASIA"), "{by_profile}");
    // Whose they are is asked there, too.
    let proxy = Proxy::new();
    let mut all = proxy.variables();
    all.push(("AWS_ENDPOINT_URL_STS", &url));
    child(|_| {
        environment(&all);
        let source = shmcreds::CredentialProcess::new(["/bin/echo", &set_json(1)]);
        let session = SharedSession::builder(name("proxy")).source(source).create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(session.identity()).unwrap();
    })
    .finish();
    assert_eq!(proxy.seen(), "");
}

fn a_sign_on_on_this_machine() {
    let (_server, url) = stand_in(|_| {
        let set = r#"{"roleCredentials":{"accessKeyId":"ASIA1","secretAccessKey":"secret",
            "sessionToken":"token","expiration":32503680000000}}"#;
        (200, set.into())
    });
    let home = sources::signed_in("signed-in");
    let variables =
        [("HOME", home.path().to_str().unwrap()), ("AWS_ENDPOINT_URL_SSO", url.as_str())];
    let given = key(&variables, || {
        Box::new(Provider::sso(sources::START_URL, "us-east-1", "123456789012", "reader"))
    });
    assert_eq!(given, "ASIA1");
}

fn what_is_elsewhere_takes_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "token").unwrap();
    let proxy = Proxy::new();
    let mut all = proxy.variables();
    all.extend([
        ("AWS_ENDPOINT_URL_STS", "http://sts.example.invalid"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app"),
    ]);
    let error = child(|report| {
        environment(&all);
        let source = Provider::web_identity();
        let session = SharedSession::builder(name("proxy")).source(source).create().unwrap();
        // What the proxy answers is no answer of STS.
        report.say(session.credentials().unwrap_err().to_string());
    })
    .finish();
    let seen = proxy.seen();
    assert!(seen.contains("POST http://sts.example.invalid/"), "{seen:?}: {error}");
}

/// The role of the program's own way to STS.
fn own_way(sts: &str) -> AssumeRole {
    let keys = Credentials::new("AKIAIOSFODNN7EXAMPLE", support::BASE_SECRET, None, None, "base");
    let role = AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("web");
    role.region("us-east-1").endpoint_url(sts).base_keys(keys)
}

fn error_of(source: AssumeRole) -> String {
    let session = SharedSession::builder(name("way")).source(source).create().unwrap();
    let error = session.credentials().unwrap_err();
    format!("{:?}: {error}", error.kind())
}

fn a_role_takes_the_given_proxy() {
    let (given, named) = (Proxy::new(), Proxy::new());
    let mut variables = named.variables();
    variables.push(("NO_PROXY", "sts.example.invalid"));
    let with_user = given.url.replace("http://", "http://me:hush@");
    let error = child(|report| {
        environment(&variables);
        report.say(error_of(own_way("http://sts.example.invalid").proxy(&with_user)));
    })
    .finish();
    let seen = given.seen();
    assert!(seen.contains("POST http://sts.example.invalid/"), "{seen:?}: {error}");
    assert_eq!(named.seen(), "", "what the environment names is not asked");
    assert!(!error.contains("hush"), "{error}");
    // A request to this machine takes no proxy, wherever the proxy is set.
    let sts = LocalSts::fork().unwrap();
    child(|_| {
        environment(&variables);
        let source = own_way(sts.url().as_ref()).proxy(&with_user);
        let session = SharedSession::builder(name("way")).source(source).create().unwrap();
        session.credentials().unwrap();
    })
    .finish();
    assert_eq!((given.seen(), named.seen().as_str()), (seen, ""));
    // Through TLS it is named without its user.
    let error = child(|report| {
        environment(&variables);
        report.say(error_of(own_way("https://sts.example.invalid").proxy(&with_user)));
    })
    .finish();
    assert!(given.seen().contains("CONNECT sts.example.invalid:443"), "{}", given.seen());
    assert!(error.contains("through the proxy 127.0.0.1:") && !error.contains("hush"), "{error}");
}

fn a_proxy_that_wants_a_login() {
    let (_proxy, url) = stand_in(|_| (407, "log in".into()));
    // Through TLS, and without.
    for (sts, told) in [
        (
            "https://sts.example.invalid",
            "proxy authorization required; write its user and password",
        ),
        ("http://sts.example.invalid", "HTTP status 407"),
    ] {
        let error = child(|report| {
            environment(&[]);
            report.say(error_of(own_way(sts).proxy(&url)));
        })
        .finish();
        assert!(error.starts_with("SourceMisconfigured") && error.contains(told), "{error}");
    }
}

fn a_role_trusts_the_given_authorities() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent.pem");
    let error = child(|report| {
        // Another bundle of the environment does not count.
        environment(&[("AWS_CA_BUNDLE", "/dev/null")]);
        report.say(error_of(own_way("https://localhost:1").ca_bundle(&absent)));
    })
    .finish();
    assert!(error.contains("absent.pem\" cannot be read"), "{error}");
    // Those of the bundle, and no others.
    let authority = iot::Authority::new();
    let bundle = folder.path().join("ca.pem");
    fs::write(&bundle, authority.certificate()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let _server = child(|_| iot::serve(listener, &authority, "sensor-1"));
    let asked = |bundle: Option<&std::path::Path>| {
        child(|report| {
            environment(&[]);
            let role = own_way(&address);
            report.say(error_of(match bundle {
                Some(bundle) => role.ca_bundle(bundle),
                None => role,
            }));
        })
        .finish()
    };
    let (trusted, unknown) = (asked(Some(&bundle)), asked(None));
    assert!(!trusted.contains("UnknownIssuer"), "{trusted}");
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
    assert!(
        unknown.starts_with("SourceMisconfigured") && unknown.contains("AWS_CA_BUNDLE"),
        "{unknown}"
    );
}

fn a_device_takes_no_proxy() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let authority = iot::Authority::new();
    let device = authority.device(iot::Key::Ec);
    let _server = child(|_| iot::serve(listener, &authority, "sensor-1"));
    let given = key(&[], || {
        let (certificate, key) = (Pem::text(device.certificate), Pem::text(device.key));
        let source = IotCore::new(endpoint, "app", certificate, key).thing_name("sensor-1");
        Box::new(source.ca(Pem::text(authority.certificate())))
    });
    assert_eq!(given, "ASIA1");
}

/// The environment of a source, and what makes it, given where to ask.
type Asking = (Vec<(&'static str, String)>, fn(&str) -> Box<dyn Source>);

/// Sources that ask `url`.
fn asking(url: &str) -> Vec<Asking> {
    let of = |name, value: String| vec![(name, value)];
    vec![
        (of("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}/creds")), |_| {
            Box::new(Provider::container())
        }),
        (
            vec![
                ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.to_owned()),
                ("AWS_EC2_METADATA_DISABLED", "false".to_owned()),
            ],
            |_| Box::new(Provider::imds()),
        ),
        (vec![], |url| Box::new(signed_role().endpoint_url(url))),
        (of("AWS_ENDPOINT_URL_STS", url.to_owned()), |_| Box::new(signed_role())),
    ]
}

/// What becomes of each source that asks `url`: an error.
fn refused(url: &str) -> Vec<String> {
    asking(url)
        .into_iter()
        .map(|(variables, source)| {
            child(|report| {
                let variables: Vec<_> = variables.iter().map(|(k, v)| (*k, v.as_str())).collect();
                environment(&variables);
                let source: std::sync::Arc<dyn Source> = source(url).into();
                let session = SharedSession::builder(name("refused")).source(source);
                report.say(session.create().unwrap().credentials().unwrap_err().to_string());
            })
            .finish()
        })
        .collect()
}

fn no_redirect_is_followed() {
    let thief = Proxy::new();
    for status in [301, 302, 303, 307, 308] {
        let place = thief.url.clone();
        let (_server, url) = stand_in(move |_| (status, format!("{place}/stolen")));
        for error in refused(&url) {
            assert_eq!(thief.seen(), "", "{status}: {error}");
        }
    }
}

fn an_endless_answer_is_cut_off() {
    let (_server, url) = stand_in(|_| (200, "x".repeat(8 * 1024 * 1024)));
    for error in refused(&url) {
        assert!(error.contains("length limit exceeded"), "{error}");
    }
}
