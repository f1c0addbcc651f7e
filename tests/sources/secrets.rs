//! No error and no `Debug` text shows a secret.

use std::fs;

use aws_credential_types::Credentials;
use shmcreds::{
    CredentialProcess, IotCore, Pem, Provider, SharedSession, Source,
    testing::{Fault, LocalSts, Times},
};

use crate::{
    Made,
    devices::CODE,
    iot, of,
    sources::{START_URL, environment, set_json, signed_in, stand_in},
    support::{child, name, role},
};

/// What no error may show, in the shapes that a source meets it.
const KEY: &str = "ASIAIOSFODNN7EXAMPLE";

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

const TOKEN: &str = "IQoJb3JpZ2luX2VjEOwerTyuiopASDFGHJKL1234567890wJalrXUtnFEMIbPx==";

const EXTERNAL_ID: &str = "tenant-hush-42";

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

pub fn no_error_shows_a_secret() {
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
        // These two look like any other text: the person who was given one knows that it is secret.
        // What a failing program says itself is shown, without all that has the shape of a secret.
        let external_id = ["a profile", "a web identity", "a failing program"].contains(&what);
        let code = external_id || what == "a role";
        assert!(external_id || !said.contains(EXTERNAL_ID), "{what} shows the external id");
        assert!(code || !said.contains(CODE), "{what} shows the code");
    }
}

pub fn no_debug_shows_a_secret() {
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
