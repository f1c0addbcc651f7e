//! Endpoints of the host: the container endpoint and the instance metadata.

use std::{fs, io::Write, path::Path, time::Duration};

use shmcreds::{Provider, SharedSession, testing::ManualClock};

use crate::{
    of,
    sources::{environment, set_json, stand_in},
    support::{Child, child, name},
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

/// A metadata service that answers the request for a token with this status, and gives its sets to requests without a
/// token only. It notes the requests other than those for a token, and their tokens.
fn version_1(status: u16, log: &Path) -> (Child, String) {
    let log = log.to_owned();
    stand_in(move |asked| {
        if asked.method == "PUT" {
            return (status, "no such request".into());
        }
        let token = asked.header("x-aws-ec2-metadata-token").unwrap_or("without");
        let mut noted = fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        writeln!(noted, "{} {token}", asked.path).unwrap();
        let role = "/latest/meta-data/iam/security-credentials/";
        match asked.path.as_str() {
            path if path == role => (200, "web".into()),
            path if path == format!("{role}web") => (200, set_json(1)),
            _ => (404, String::new()),
        }
    })
}

/// The key that the instance gives, or the error, and the requests other than those for a token.
fn by_version_1(status: u16, variables: &[(&str, &str)], config: &str) -> (String, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let (log, file) = (folder.path().join("log"), folder.path().join("config"));
    fs::write(&file, config).unwrap();
    let (_server, url) = version_1(status, &log);
    let mut all = vec![
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_CONFIG_FILE", file.to_str().unwrap()),
    ];
    all.extend(variables);
    let said = child(|report| {
        environment(&all);
        let profile = std::env::var("TEST_PROFILE");
        let source = profile.map_or_else(|_| Provider::imds(), Provider::profile);
        let session = SharedSession::builder(name("one")).source(source).create().unwrap();
        report.say(match session.credentials() {
            Ok(set) => set.access_key_id().to_owned(),
            Err(error) => error.to_string(),
        });
    });
    let said = said.finish();
    let log = fs::read_to_string(log).unwrap_or_default();
    (said, log.lines().map(str::to_owned).collect())
}

/// As the AWS CLI does it: where the request for a token is unknown, or is not answered.
pub fn an_instance_that_knows_version_1_only() {
    let role = "/latest/meta-data/iam/security-credentials/";
    let without_token = [format!("{role} without"), format!("{role}web without")];
    for status in [403, 404, 405, 501, 0, 1] {
        let asked = by_version_1(status, &[("AWS_EC2_METADATA_V1_DISABLED", "false")], "");
        assert_eq!(asked, ("ASIA1".to_owned(), without_token.to_vec()), "{status}");
    }
    let chosen = "[profile app]\ncredential_source = Ec2InstanceMetadata\n";
    let asked = by_version_1(404, &[("TEST_PROFILE", "app")], chosen);
    assert_eq!(asked, ("ASIA1".to_owned(), without_token.to_vec()));
}

pub fn version_1_is_not_used_where_it_is_disabled_or_no_answer_asks_for_it() {
    let no = ("AWS_EC2_METADATA_V1_DISABLED", "true");
    let config = "[default]\nec2_metadata_v1_disabled = true\n\
                  [profile app]\ncredential_source = Ec2InstanceMetadata\nec2_metadata_v1_disabled = true\n";
    for (status, what) in
        [(403, "(HTTP status 403)"), (405, "(HTTP status 405)"), (0, "(no answer)")]
    {
        for (variables, config, origin) in [
            (vec![no], "", "AWS_EC2_METADATA_V1_DISABLED disables"),
            (vec![], config, "config line 2 disables"),
            (vec![("TEST_PROFILE", "app")], config, "config line 5 disables"),
        ] {
            let (error, requests) = by_version_1(status, &variables, config);
            assert!(error.contains(what) && error.contains(origin), "{status}: {error}");
            assert_eq!(error.contains("HttpPutResponseHopLimit"), status == 0, "{error}");
            assert_eq!(requests, [""; 0], "{status}");
        }
    }
    let (error, requests) = by_version_1(400, &[], "");
    assert_eq!(requests, [""; 0], "{error}");
    assert!(error.contains("HTTP status 400"), "{error}");
}

/// What a container sees whose answers end at the host: version 2 is required.
pub fn a_token_that_is_required_and_does_not_come() {
    let (_server, url) =
        stand_in(|asked| if asked.method == "PUT" { (0, String::new()) } else { (401, "".into()) });
    let variables = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
        ("AWS_EC2_METADATA_DISABLED", "false"),
    ];
    let said = child(|report| {
        environment(&variables);
        let session = SharedSession::builder(name("hops")).source(Provider::imds());
        let error = session.create().unwrap().credentials().unwrap_err();
        report.say(format!("{:?}: {error}", error.kind()));
    });
    let said = said.finish();
    assert!(said.starts_with("SourceTransient"), "{said}");
    for word in ["no session token (no answer)", "HTTP status 401", "HttpPutResponseHopLimit"] {
        assert!(said.contains(word), "{said}");
    }
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
    let clock = ManualClock::new().unwrap();
    let container = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str());
    let instance = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str());
    for (variable, source) in
        [(container, Provider::container as fn() -> Provider), (instance, Provider::imds)]
    {
        let said = child(|report| {
            environment(&[variable, ("AWS_EC2_METADATA_DISABLED", "false")]);
            let builder = SharedSession::builder(name("busy")).source(source()).clock(&clock);
            let session = builder.create().unwrap();
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
