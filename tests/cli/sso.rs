//! The token of `aws sso login`: used, renewed at a stand-in of IAM Identity Center, and refused by it.

use std::{fs, path::Path};

use shmcreds::testing::LocalSts;

use crate::{agents::agent, harness::*};

/// The SHA-1 of the session's name, `corp`.
const CACHE: &str = "ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
const CONFIG: &str = "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = app\n\
    region = eu-west-1\n[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\n";
const SET: &str = r#"{"roleCredentials":{"accessKeyId":"ASIASSO","secretAccessKey":"hush-key","sessionToken":"t",
    "expiration":32472144000000}}"#;
const RENEWED: &str = r#"{"accessToken":"hush-new","expiresIn":3600,"tokenType":"Bearer","refreshToken":"hush-refresh-2"}"#;

/// What `aws sso login` writes.
fn token(expires: &str) -> String {
    format!(
        r#"{{"accessToken":"hush-old","expiresAt":"{expires}","region":"eu-west-1","refreshToken":"hush-refresh",
        "clientId":"c","clientSecret":"hush-client","registrationExpiresAt":"2999-01-01T00:00:00Z",
        "startUrl":"https://corp.awsapps.com/start"}}"#
    )
}

/// Runs `exec --profile dev` in that home, with both services at `url`.
fn exec(home: &Path, url: &str) -> String {
    let sts = LocalSts::start().unwrap();
    let mut command = shmcreds(&sts);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_REGION").env("HOME", home);
    command.env("AWS_CONFIG_FILE", home.join("config"));
    command.env("AWS_ENDPOINT_URL_SSO", url).env("AWS_ENDPOINT_URL_SSO_OIDC", url);
    command.args(["exec", "--deadline", "3", "--name", &name("sso"), "--profile", "dev", "--"]);
    let output =
        command.args(["/bin/sh", "-c", "echo key; $SHMCREDS credentials $SHMCREDS_SESSION"]);
    let output = output.output().unwrap();
    let said = text(&output.stderr);
    assert!(!said.contains("hush"), "{said}");
    text(&output.stdout) + &said
}

/// A home with a token that expires then, and its cache file.
fn home(expires: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".aws/sso/cache");
    fs::create_dir_all(&folder).unwrap();
    fs::write(home.path().join("config"), CONFIG).unwrap();
    fs::write(folder.join(CACHE), token(expires)).unwrap();
    let cache = folder.join(CACHE);
    (home, cache)
}

#[test]
fn an_expired_token_is_renewed_once_and_kept_for_the_aws_cli() {
    let (home, cache) = home("2020-01-01T00:00:00Z");
    let (url, asked) = agent(vec![(200, RENEWED), (200, SET)]);
    let said = exec(home.path(), &url);
    assert!(said.contains("ASIASSO"), "{said}");
    let requests = asked.lock().unwrap().clone();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests[0].starts_with("POST /token"), "{requests:?}");
    assert!(requests[1].starts_with("GET /federation/credentials"), "{requests:?}");
    let kept = fs::read_to_string(cache).unwrap();
    assert!(kept.contains("hush-new") && kept.contains("hush-refresh-2"), "{kept}");
    // It is valid now: nobody renews it again.
    let said = exec(home.path(), &url);
    assert!(said.contains("ASIASSO"), "{said}");
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[test]
fn a_renewal_that_is_refused_for_good_ends_at_once() {
    for (status, error) in [
        (400, "invalid_grant"),
        (400, "expired_token"),
        (400, "unauthorized_client"),
        (400, "access_denied"),
        (400, "invalid_scope"),
        (401, "invalid_client"),
    ] {
        let (home, _cache) = home("2020-01-01T00:00:00Z");
        // A server may repeat what it was sent.
        let body =
            format!(r#"{{"error":"{error}","error_description":"no such token: hush-refresh"}}"#);
        let (url, asked) = agent(vec![(status, body.leak())]);
        let said = exec(home.path(), &url);
        assert!(said.contains("did not renew it") && said.contains(error), "{said}");
        assert!(said.contains("no such token"), "{said}");
        assert!(said.contains("run `aws sso login --profile dev`"), "{said}");
        assert!(said.contains("no credentials (terminal)"), "{said}");
        let requests = asked.lock().unwrap().clone();
        assert_eq!(requests.len(), 1, "it is not asked again: {requests:?}");
        assert!(requests[0].starts_with("POST /token"), "{requests:?}");
    }
}

#[test]
fn a_renewal_that_fails_for_now_is_tried_again() {
    for (status, body) in [
        (500, r#"{"error":"server_error"}"#),
        (503, "<html>busy</html>"),
        (429, ""),
        (400, r#"{"error":"slow_down"}"#),
        // It comes from no identity service.
        (418, "<html>tea</html>"),
    ] {
        let (home, _cache) = home("2020-01-01T00:00:00Z");
        let (url, asked) = agent(vec![(status, body), (200, RENEWED), (200, SET)]);
        let said = exec(home.path(), &url);
        assert!(said.contains("ASIASSO"), "{status}: {said}");
        assert_eq!(asked.lock().unwrap().len(), 3);
    }
    let (home, _cache) = home("2020-01-01T00:00:00Z");
    let (url, asked) = agent(vec![(403, "<html>Blocked by the proxy</html>")]);
    let said = exec(home.path(), &url);
    assert!(said.contains("Blocked by the proxy") && said.contains("HTTP status 403"), "{said}");
    assert_eq!(asked.lock().unwrap().len(), 1, "{said}");
}

#[test]
fn a_token_with_a_byte_order_mark_is_read() {
    let (home, cache) = home("2999-01-01T00:00:00Z");
    fs::write(&cache, format!("\u{feff}{}", token("2999-01-01T00:00:00Z"))).unwrap();
    let (url, _asked) = agent(vec![(200, SET)]);
    assert!(exec(home.path(), &url).contains("ASIASSO"));
}
