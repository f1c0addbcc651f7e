//! What a user reads: help, errors, logs.

use serde_json::Value;
use shmcreds::testing::{Fault, LocalSts, Times};

use crate::harness::*;

#[test]
fn a_wrong_configuration_is_named_without_its_contents() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("shmcreds.toml");
    for (text_of, code_of, says) in [
        ("external-id = hush", 65, "line 1 is not TOML"),
        ("[hush]\nkey = \"hush\"", 65, "must be a text"),
        ("no-such-option = \"hu\"", 64, "--no-such-option"),
        ("duration-seconds = 1\nrole-arn = \"arn:aws:iam::123456789012:role/app\"", 64, "duration"),
    ] {
        std::fs::write(&config, text_of).unwrap();
        let mut command = shmcreds(&sts);
        command.args(["exec", "--config"]).arg(&config).args(["--", "/bin/echo", "started"]);
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), code_of, "{said}");
        assert!(said.contains(says), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn definitions_give_completions_and_a_manual() {
    let sts = LocalSts::start().unwrap();
    for (arguments, says) in [
        (&["completions", "bash"][..], "--role-arn"),
        (&["completions", "zsh"], "--role-arn"),
        (&["man"], "credential"),
        (&["exec", "--help"], "--external-id"),
    ] {
        let output = shmcreds(&sts).args(arguments).output().unwrap();
        assert_eq!(code(&output), 0);
        assert!(text(&output.stdout).contains(says), "{arguments:?}");
    }
}

/// What `exec` logs with these options: a first set, a failure, a rotation.
fn logged(options: &[&str]) -> String {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::Status(500), Times::Next(1)).unwrap();
    let script = "$SHMCREDS credentials $SHMCREDS_SESSION; echo $AWS_CONTAINER_AUTHORIZATION_TOKEN; \
                  $SHMCREDS refresh $SHMCREDS_SESSION >/dev/null; $SHMCREDS credentials $SHMCREDS_SESSION";
    let mut command = shmcreds(&sts);
    command.args(options).args(["exec", "--name", &name("log")]).args(ROLE);
    command.args(["--max-attempts", "3", "--external-id", "tenant-secret-42"]);
    let output = command.args(["--", "/bin/sh", "-c", script]).output().unwrap();
    let (said, log) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(code(&output), 0, "{log}");
    let lines: Vec<&str> = said.lines().collect();
    let sets = [lines[0], lines[2]].map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut secrets = vec![BASE_SECRET, "tenant-secret-42", lines[1]];
    for set in &sets {
        secrets.extend(["SecretAccessKey", "SessionToken"].map(|key| set[key].as_str().unwrap()));
    }
    assert_eq!(secrets.len(), 7);
    for secret in secrets {
        assert!(!secret.is_empty() && !log.contains(secret), "a secret is logged: {log}");
    }
    log
}

#[test]
fn logs_say_more_when_they_are_told_to_and_never_a_secret() {
    let [quiet, verbose, debug] = [&[][..], &["-v"], &["-vv"]].map(logged);
    assert!(!quiet.contains("INFO") && !quiet.contains("DEBUG"), "{quiet}");
    assert!(verbose.contains(" INFO ") && !verbose.contains("DEBUG"), "{verbose}");
    assert!(debug.contains(" INFO ") && debug.contains("DEBUG"), "{debug}");
    for log in [quiet, verbose, debug] {
        assert!(!log.contains('\x1b'), "no colour where there is no terminal: {log}");
    }
}

#[test]
fn json_logs_are_an_object_on_a_line() {
    for options in [&["--log-json", "-v"][..], &["--log-json", "-vv"]] {
        let log = logged(options);
        let mut levels = std::collections::BTreeSet::new();
        for line in log.lines() {
            let entry: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            assert!(entry["timestamp"].is_string() && entry["target"].is_string(), "{line}");
            levels.insert(entry["level"].as_str().unwrap().to_owned());
        }
        assert!(levels.contains("INFO"), "{log}");
        assert_eq!(levels.contains("DEBUG"), options[1] == "-vv");
    }
}

#[test]
fn a_mistake_is_one_line_that_says_what_to_do() {
    let sts = LocalSts::start().unwrap();
    for (arguments, says) in [
        (&["exec", "--rolearn", "x", "--", "true"][..], "'--role-arn'"),
        (&["exec"], "not provided: <CMD>"),
        (&["exec", "true"], "unexpected argument 'true'"),
        (&["serve"], "not provided: --name <NAME>"),
        (&["serve", "--name", "x", "--listen", "80"], "--listen <ADDRESS:PORT>"),
        (&["exec", "--external-id", "x", "--", "true"], "not provided: --role-arn <ARN>"),
        (&["exec", "--role-arn", "x", "--tag", "hush", "--", "true"], "must be KEY=VALUE"),
        (&["exec", "--imds", "--container", "--", "true"], "cannot be used with '--container'"),
        (&["exec", "--sts-regions", "a,b", "--", "true"], "not provided: --role-arn <ARN>"),
        (
            &["exec", "--role-arn", "x", "--sts-regions", "a", "--sts-region", "b", "--", "true"],
            "cannot be used with '--sts-region <REGION>'",
        ),
        (
            &["exec", "--role-arn", ROLE[1], "--sts-regions", "eu-west-1,EU", "--", "true"],
            "regions: region \"EU\"",
        ),
        (&["statsu"], "'status'"),
        (
            &["exec", "--timeout", "0", "--role-arn", ROLE[1], "--", "true"],
            "for '--timeout <SECONDS>': 0 is not in 1..=86400",
        ),
        (
            &["exec", "--timeout", "0", "--process", "/bin/true", "--", "true"],
            "for '--timeout <SECONDS>': 0 is not in 1..=86400",
        ),
        (
            &["exec", "--timeout", "0", "--imds", "--", "true"],
            "for '--timeout <SECONDS>': 0 is not in 1..=86400",
        ),
        (
            &["exec", "--timeout", "0", "--profile", "x", "--", "true"],
            "for '--timeout <SECONDS>': 0 is not in 1..=86400",
        ),
        (
            &["exec", "--timeout", "0", "--", "true"],
            "for '--timeout <SECONDS>': 0 is not in 1..=86400",
        ),
        (
            &["exec", "--read-timeout", "0", "--role-arn", ROLE[1], "--", "true"],
            "for '--read-timeout <SECONDS>'",
        ),
        (&["exec", "--deadline", "0", "--", "true"], "for '--deadline <SECONDS>'"),
    ] {
        let output = shmcreds(&sts).args(arguments).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), 64, "{said}");
        assert!(said.starts_with("shmcreds: ") && said.contains(says), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let output = shmcreds(&sts).args(["credentials", "absent"]).output().unwrap();
    assert!(text(&output.stderr).contains("`shmcreds list`"));
}

#[test]
fn whoever_has_no_credentials_is_told_why_and_what_to_do() {
    let sts = LocalSts::start().unwrap();
    let said_of = |command: &mut std::process::Command| {
        let output = command.output().unwrap();
        assert_eq!(code(&output), 69);
        let said = text(&output.stderr);
        let own: Vec<&str> = said.lines().filter(|line| line.starts_with("shmcreds: ")).collect();
        assert_eq!(own.len(), 1, "{said}");
        // The others are of the log, one for each time that it was tried.
        assert!(said.lines().count() > 1 && said.lines().last() == Some(own[0]), "{said}");
        own[0].to_owned()
    };
    let mut nothing = shmcreds(&sts);
    nothing.env_remove("AWS_ACCESS_KEY_ID").env("AWS_CONFIG_FILE", "/dev/null");
    nothing.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null").args(["exec"]).args(ROLE);
    let said = said_of(nothing.args(["--", "true"]));
    assert!(
        said.contains("no AWS_ACCESS_KEY_ID") && said.contains("check the source options"),
        "{said}"
    );
    let mut down = shmcreds(&sts);
    down.env("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9").args(["exec"]).args(ROLE);
    let said = said_of(down.args(["--deadline", "1", "--", "true"]));
    assert!(
        said.contains("Connection refused") && said.contains("check the network connection"),
        "{said}"
    );
}
