//! IoT Core's credentials provider: against a server that asks for a client certificate.

#[path = "../examples/stand_in/iot.rs"]
mod iot;
mod support;

use std::{net::TcpListener, sync::Arc, time::Duration};

use iot::{Authority, Device, Key};
use shmcreds::{
    ErrorKind, Fetched, IotCore, Pem, SharedSession, Source, SourceError, SourceErrorClass,
};

struct Server {
    endpoint: String,
    authority: Arc<Authority>,
}

/// Serves until the test's process ends.
fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let authority = Arc::new(Authority::new());
    let own = authority.clone();
    std::thread::spawn(move || iot::serve(listener, &own, "sensor-1"));
    Server { endpoint, authority }
}

impl Server {
    fn source(&self, alias: &str, device: Device) -> IotCore {
        let (certificate, key) = (Pem::text(device.certificate), Pem::text(device.key));
        IotCore::new(&self.endpoint, alias, certificate, key)
            .ca(Pem::text(self.authority.certificate()))
            .thing_name("sensor-1")
    }
}

fn fetch(source: &IotCore) -> Result<Fetched, SourceError> {
    source.validate().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(source.fetch())
}

#[test]
fn each_kind_of_key_gets_a_set() {
    let server = server();
    for kind in [Key::Ec, Key::EcSec1, Key::Rsa, Key::RsaPkcs1] {
        let fetched = fetch(&server.source("app", server.authority.device(kind))).unwrap();
        assert!(fetched.credentials.access_key_id().starts_with("ASIA"), "{kind:?}");
        assert_eq!(fetched.credentials.session_token(), Some("any"));
        assert!(fetched.credentials.expiry().is_some());
        assert!(fetched.server_time.is_some());
    }
}

#[test]
fn refusals_are_told_apart() {
    let server = server();
    let device = || server.authority.device(Key::Ec);
    let other = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    drop(listener);
    use SourceErrorClass::{Misconfigured, Terminal, Transient};
    for (source, class, says) in [
        (server.source("app", other.device(Key::Ec)), Terminal, "received fatal alert"),
        (
            server.source("app", device()).ca(Pem::text(other.certificate())),
            Misconfigured,
            "invalid peer certificate",
        ),
        (
            server.source("other", device()),
            Misconfigured,
            "ResourceNotFoundException: HTTP status 404: no such role",
        ),
        (
            server.source("app", device()).thing_name("sensor-2"),
            Terminal,
            "AccessDeniedException: HTTP status 403",
        ),
        (
            IotCore::new(silent, "app", Pem::text(device().certificate), Pem::text("")),
            Misconfigured,
            "private_key contains no",
        ),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let failure = runtime.block_on(source.fetch()).unwrap_err();
        assert_eq!(failure.class(), class, "{failure}");
        assert!(failure.to_string().contains(says), "{failure}");
    }
    let failure = fetch(&server.source("busy", device())).unwrap_err();
    assert_eq!(failure.class(), SourceErrorClass::Throttled, "{failure}");
    assert_eq!(failure.retry_after(), Some(Duration::from_secs(7)));
    let mut gone = server;
    gone.endpoint = "127.0.0.1:1".into();
    let failure = fetch(&gone.source("app", gone.authority.device(Key::Ec))).unwrap_err();
    assert_eq!(failure.class(), Transient, "{failure}");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let authority = Authority::new();
    let device = authority.device(Key::Ec);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let (certificate, key) = (Pem::text(device.certificate), Pem::text(device.key));
    let source = IotCore::new(endpoint, "app", certificate, key)
        .ca(Pem::text(authority.certificate()))
        .timeout(Duration::from_millis(50));
    let session = SharedSession::builder(support::name("silent")).source(source).create().unwrap();
    let error = session.credentials().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SourceTransient, "{error}");
    assert!(error.to_string().contains("50ms"), "{error}");
    drop(listener);
}

#[test]
fn invalid_inputs_are_named_without_their_contents() {
    let authority = Authority::new();
    let device = || authority.device(Key::Ec);
    let source = |endpoint: &str, alias: &str, certificate: String, key: String| {
        IotCore::new(endpoint, alias, Pem::text(certificate), Pem::text(key))
    };
    let good = || {
        let device = device();
        source("host", "app", device.certificate, device.key)
    };
    assert_eq!(good().validate(), Ok(()));
    assert_eq!(good().ca(Pem::text(authority.certificate())).validate(), Ok(()));
    let with = |endpoint, alias| {
        let device = device();
        source(endpoint, alias, device.certificate, device.key)
    };
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\naHVzaA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (source, problem) in [
        (with("", "app"), "endpoint "),
        (with("https://host", "app"), "endpoint "),
        (with("host/path", "app"), "endpoint "),
        (with("host:port", "app"), "endpoint "),
        (with("host", ""), "role_alias "),
        (with("host", "a/b"), "role_alias "),
        (with("host", &"x".repeat(129)), "role_alias "),
        (good().thing_name(""), "thing_name "),
        (good().thing_name("a b"), "thing_name "),
        (good().timeout(Duration::ZERO), "timeout "),
        (good().ca(Pem::text("hush")), "ca contains no certificate"),
        (good().ca(Pem::file("/no/such/file")), "ca \"/no/such/file\" cannot be read"),
        (source("host", "app", "hush".into(), device().key), "certificate contains no certificate"),
        (
            source("host", "app", device().certificate, "hush".into()),
            "private_key contains no private key",
        ),
        (
            source("host", "app", device().certificate, encrypted.into()),
            "private_key contains no private key",
        ),
        (
            source("host", "app", device().certificate, device().key),
            "private_key does not match the",
        ),
    ] {
        let error = source.validate().unwrap_err();
        assert!(error.starts_with(problem) && !error.contains("hush"), "{error}");
    }
}

#[test]
fn the_key_is_shown_nowhere() {
    let device = Authority::new().device(Key::Ec);
    let line = device.key.lines().nth(1).unwrap().to_owned();
    let source = IotCore::new("host", "app", Pem::text(device.certificate), Pem::text(device.key));
    let shown = format!("{source:?} {}", source.describe());
    assert!(!shown.contains(&line) && shown.contains("role-alias=\"app\""), "{shown}");
}
