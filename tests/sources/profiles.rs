//! Sources that read the AWS files or the environment: a web identity, a profile, SSO.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use shmcreds::{ErrorKind, Provider, testing::LocalSts};

use crate::{
    host::all_different,
    of,
    sources::{START_URL, environment, profile_with_a_role, signed_in, stand_in},
    support::{assumed, child, name},
    three_cycles,
};

pub fn a_web_identity() {
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

pub fn a_profile_with_a_role() {
    let sts = LocalSts::fork().unwrap();
    let config = profile_with_a_role();
    let variables =
        [("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_ENDPOINT_URL_STS", &sts.url())];
    let keys = three_cycles(&variables, || of(Provider::profile("app")), |_| {});
    assert!(all_different(&keys), "{keys:?}");
    assert_eq!(assumed(&sts), 3);
    let signer = sts.calls().unwrap()[0].access_key_id.clone();
    assert_eq!(signer.as_deref(), Some("AKIAIOSFODNN7EXAMPLE"));
}

pub fn a_profile_that_leads_to_itself_is_an_error() {
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

pub fn a_single_sign_on() {
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
