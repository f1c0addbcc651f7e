//! Endpoints of the host: the container endpoint and the instance metadata.

use std::{fs, time::Duration};

use shmcreds::{Provider, SharedSession};

use crate::{
    of,
    sources::{environment, set_json, stand_in},
    support::{child, name},
    three_cycles,
};

pub fn the_containers_endpoint(source: fn() -> Provider) {
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

pub fn the_instances_metadata() {
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

pub fn all_different(keys: &[String]) -> bool {
    keys.len() == 3 && keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]
}

/// The stand-in says 7 s.
pub fn a_busy_server() {
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
