//! What nobody may read in any output: every secret that goes in, in every way to fail.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use shmcreds::testing::{Fault, LocalSts, Times};

use crate::harness::*;

const PROFILE_SECRET: &str = "hushSECRETkey/abcdefghijklmnopqrstuvwx12";
/// Everything secret: what has the shape of a key, and what has none.
const SECRETS: [&str; 9] = [
    PROFILE_SECRET,
    BASE_SECRET,
    "hush-session-token",
    "hush-external-id",
    "hush-option-id",
    "hush-argument",
    "hush-password",
    "hush-proxy",
    "hush-policy",
];

const CONFIG: &str = "\
[profile app]
role_arn = arn:aws:iam::123456789012:role/app
source_profile = base
external_id = hush-external-id
[profile base]
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = hushSECRETkey/abcdefghijklmnopqrstuvwx12
aws_session_token = hush-session-token
[profile helper]
credential_process = /bin/sh -c \"echo hush-argument >&2; exit 3\" x hush-argument
[profile loop]
role_arn = arn:aws:iam::123456789012:role/app
source_profile = loop
external_id = hush-external-id
okta_password = hush-password
";

/// A program that fails, each in its own way.
fn failing(sts: &LocalSts, config: &Path, level: &[&str]) -> Vec<Command> {
    let arguments = [
        &["--profile", "app"][..],
        &["--profile", "helper"],
        &["--profile", "loop"],
        &["--profile", "absent"],
        &["--role-arn", ROLE[1], "--external-id", "hush-option-id"],
        &[
            "--role-arn",
            ROLE[1],
            "--policy",
            "{\"hush-policy\": 1}",
            "--external-id",
            "hush-option-id",
        ],
        &["--role-arn", ROLE[1], "--profile", "helper", "--external-id", "hush-option-id"],
        &["--process", "/bin/sh", "--process-arg", "-c", "--process-arg", "exit 3"],
        &["--container"],
        &["--web-identity"],
        &["--default-chain"],
    ];
    let command = |arguments: &&[&str]| {
        let mut command = shmcreds(sts);
        command.env("AWS_CONFIG_FILE", config).env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command.env("AWS_SESSION_TOKEN", "hush-session-token");
        command.env("HTTPS_PROXY", "http://jo:hush-proxy@127.0.0.1:9");
        command.args(level).args(["exec", "--name", &name("leak"), "--deadline", "1"]);
        command.args(*arguments).args(["--", "/bin/true"]);
        command
    };
    arguments.iter().map(command).collect()
}

fn assert_clean(output: &str, what: &str) {
    for secret in SECRETS {
        let shown = output.find(secret).map(|at| &output[at.saturating_sub(200)..at]);
        assert_eq!(shown, None, "{secret} is shown: {what}");
    }
}

#[test]
fn no_failure_shows_a_secret_at_any_level() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    std::fs::write(&config, CONFIG).unwrap();
    for fault in
        [None, Some(Fault::AccessDenied), Some(Fault::Throttling), Some(Fault::MalformedBody)]
    {
        let sts = LocalSts::start().unwrap();
        let what = format!("{fault:?}");
        if let Some(fault) = fault {
            sts.inject(fault, Times::UntilCleared).unwrap();
        }
        for level in [&[][..], &["-v"], &["-vv"], &["--log-json", "-vv"]] {
            // All at once: most of them wait for their deadline.
            let start = |mut command: Command| {
                let what = format!("{what} {level:?} {:?}", command.get_args());
                let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
                (what, child.unwrap())
            };
            let running: Vec<_> = failing(&sts, &config, level).into_iter().map(start).collect();
            for (what, child) in running {
                let output = child.wait_with_output().unwrap();
                let said = text(&output.stdout) + &text(&output.stderr);
                assert_clean(&said, &what);
                let own =
                    |line: &&str| line.starts_with("shmcreds: ") || line.contains(" shmcreds::");
                let foreign: Vec<&str> = said.lines().filter(|line| !own(line)).collect();
                assert!(!level.is_empty() || foreign.is_empty(), "{what}: {foreign:?}");
            }
        }
    }
}

#[test]
fn a_broken_line_is_not_quoted() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    std::fs::write(&config, format!("[profile app]\n{PROFILE_SECRET}\n")).unwrap();
    let mut command = shmcreds(&sts);
    command.env("AWS_CONFIG_FILE", &config).args(["-vv", "exec", "--profile", "app"]);
    let output = command.args(["--", "true"]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(code(&output), 69, "{said}");
    assert_clean(&said, &said);
}
