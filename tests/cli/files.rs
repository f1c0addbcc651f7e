//! The files that CMD gets, and what it keeps of the AWS config.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use nix::sys::signal::{Signal, kill};
use shmcreds::testing::LocalSts;

use crate::harness::*;

/// What a `credential_process` prints.
const SET: &str = r#"{"Version":1,"AccessKeyId":"ASIAEXAMPLE00001","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}"#;

const CONFIG: &str = "\
[default]
region = us-west-2
aws_access_key_id = AKIAHUSH
[profile production]
region = eu-central-1
retry_mode = adaptive
ca_bundle = /etc/ssl/corp.pem
s3 =
  addressing_style = path
credential_process = /bin/echo hush
aws_secret_access_key = hush
role_arn = arn:aws:iam::123456789012:role/app
source_profile = default
[profile plain]
source_profile = production
";

/// `exec` of a script with that config file, and a source that gives a set.
fn exec_with_config(
    sts: &LocalSts,
    options: &[&str],
    script: &str,
) -> (Command, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    fs::write(&config, CONFIG).unwrap();
    let mut command = shmcreds(sts);
    command.env("AWS_CONFIG_FILE", &config).env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command.env_remove("AWS_REGION").args(["exec", "--name", &name("config")]).args(options);
    command.args(["--process", "/bin/echo", "--process-arg", SET]);
    command.args(["--", "/bin/sh", "-c", script]);
    (command, folder)
}

/// The directories of files that there are.
fn directories() -> BTreeSet<PathBuf> {
    let prefix = format!("shmcreds-files-{}-", nix::unistd::geteuid());
    let entries = fs::read_dir("/dev/shm").unwrap().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    ours.map(|entry| entry.path()).collect()
}

#[test]
fn settings_that_are_no_credentials_reach_the_program() {
    let sts = LocalSts::start().unwrap();
    let script = "echo $AWS_REGION $AWS_DEFAULT_REGION $AWS_PROFILE; cat $AWS_CONFIG_FILE $AWS_SHARED_CREDENTIALS_FILE";
    for (profile, region) in
        [("production", "eu-central-1"), ("plain", "eu-central-1"), ("default", "us-west-2")]
    {
        for variable in ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"] {
            let (mut command, _folder) = exec_with_config(&sts, &[], script);
            let output = command.env(variable, profile).output().unwrap();
            let said = text(&output.stdout);
            assert_eq!(code(&output), 0, "{}", text(&output.stderr));
            assert_eq!(said.lines().next(), Some(format!("{region} {region}").as_str()), "{said}");
            for kept in ["[profile production]", "retry_mode = adaptive", "addressing_style = path"]
            {
                assert!(said.contains(kept), "{said}");
            }
            let default = said.split("[profile").next().unwrap();
            assert_eq!(default.contains("ca_bundle"), profile == "production", "{said}");
            for gone in ["hush", "AKIA", "credential_process", "role_arn", "source_profile"] {
                assert!(!said.to_lowercase().contains(&gone.to_lowercase()), "{gone}: {said}");
            }
        }
    }
}

#[test]
fn the_region_of_the_environment_counts_more_than_the_profile_s() {
    let sts = LocalSts::start().unwrap();
    for (variable, value, expected) in [
        ("AWS_REGION", "ap-south-1", "ap-south-1 ap-south-1"),
        ("AWS_DEFAULT_REGION", "ap-south-1", "ap-south-1 ap-south-1"),
        // Empty means unset.
        ("AWS_REGION", "", "eu-central-1 eu-central-1"),
    ] {
        for options in [&[][..], &["--keep-aws-files"]] {
            let script = "echo $AWS_REGION $AWS_DEFAULT_REGION";
            let (mut command, _folder) = exec_with_config(&sts, options, script);
            let output = command.env("AWS_PROFILE", "production").env(variable, value).output();
            assert_eq!(text(&output.unwrap().stdout).trim(), expected, "{variable}={value}");
        }
    }
}

#[test]
fn the_config_file_of_the_user_is_left_where_that_is_wanted() {
    let sts = LocalSts::start().unwrap();
    let (mut command, folder) =
        exec_with_config(&sts, &["--keep-aws-files"], "echo $AWS_CONFIG_FILE");
    let said = text(&command.output().unwrap().stdout);
    assert_eq!(said.trim(), folder.path().join("config").to_str().unwrap());
}

#[test]
fn the_token_is_in_a_file_for_every_child_and_gone_at_the_end() {
    let sts = LocalSts::start().unwrap();
    let script = "echo $AWS_CONTAINER_AUTHORIZATION_TOKEN; cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; echo; \
                  stat -f -c %T $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; echo $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; \
                  (cd /; env - cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE)";
    for options in [&[][..], &["--sealed"], &["--deferred"]] {
        let (mut command, _folder) = exec_with_config(&sts, options, script);
        let output = command.output().unwrap();
        let said = text(&output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 5, "{said} {}", text(&output.stderr));
        assert!(lines[0].len() == 64 && lines[0] == lines[1] && lines[0] == lines[4], "{said}");
        assert_eq!(lines[2], "tmpfs", "never on a disk");
        assert!(!said.ends_with('\n'), "the file ends without a newline");
        let file = PathBuf::from(lines[3]);
        assert!(!file.exists() && !file.parent().unwrap().exists(), "{file:?} is left");
    }
}

#[test]
fn another_user_reads_the_token_only_as_a_child_of_the_program() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let sts = LocalSts::start().unwrap();
    let script = "exec setpriv --reuid 12345 --clear-groups /bin/sh -c 'cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; \
                  echo; cat $AWS_CONFIG_FILE | head -1; ls $(dirname $AWS_CONFIG_FILE) || echo refused; \
                  echo x > $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE || echo refused'";
    let (mut command, _folder) = exec_with_config(&sts, &[], script);
    let said = text(&command.output().unwrap().stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        (lines[0].len(), &lines[1..]),
        (64, &["[default]", "refused", "refused"][..]),
        "{said}"
    );
}

#[test]
fn whatever_is_killed_no_file_is_left() {
    let sts = LocalSts::start().unwrap();
    let start = || {
        let script = "dirname $AWS_CONFIG_FILE; echo $SHMCREDS_SESSION; exec sleep 1000";
        let (command, _folder) = exec_with_config(&sts, &[], script);
        let mut running = Running::start(command);
        let directory = PathBuf::from(running.line());
        assert!(directories().contains(&directory));
        (running, directory)
    };
    let (mut running, directory) = start();
    running.signal(Signal::SIGKILL);
    running.wait_for_end();
    until("the supervisor has removed it", || !directory.exists());
    let (mut running, directory) = start();
    kill(child_of(running.pid()).unwrap(), Signal::SIGKILL).unwrap();
    running.wait_for_end();
    assert!(!directory.exists(), "the guard has removed it");
    // Both: the next one removes it, and leaves alone what lives.
    let (_alive, living) = start();
    let (mut running, directory) = start();
    let (session, supervisor) = (running.line(), child_of(running.pid()).unwrap());
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        kill(supervisor, signal).unwrap();
        running.signal(signal);
    }
    running.wait_for_end();
    until("the next one removes it", || {
        let (mut command, _folder) = exec_with_config(&sts, &[], "true");
        assert_eq!(code(&command.output().unwrap()), 0);
        !directory.exists()
    });
    assert!(living.exists());
    assert_eq!(code(&shmcreds(&sts).args(["remove", &session]).output().unwrap()), 0);
    assert_gone(&session);
}

#[test]
fn empty_means_unset_for_us_and_for_the_program() {
    let sts = LocalSts::start().unwrap();
    let mut command = shmcreds(&sts);
    for variable in [
        "AWS_PROFILE",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_SSO",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_MAX_ATTEMPTS",
        "AWS_RETRY_MODE",
        "AWS_SESSION_TOKEN",
        "AWS_USE_FIPS_ENDPOINT",
        "AWS_PAGER",
        "HTTPS_PROXY",
        "http_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ] {
        command.env(variable, "");
    }
    command.args(["exec", "--name", &name("empty")]).args(ROLE).args(["--", "env"]);
    let output = command.output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    // An empty pager is none, which is a setting.
    // What is none of its business is handed on as it is: cargo sets some to nothing.
    let ours = |line: &&str| line.ends_with('=') && !line.starts_with("CARGO_");
    let empty: Vec<&str> = said.lines().filter(ours).collect();
    assert_eq!(empty, ["AWS_PAGER="]);
    // An endpoint that is empty is AWS's own, and no panic.
    let mut command = shmcreds(&sts);
    command.env("AWS_ENDPOINT_URL_STS", "").env("HTTPS_PROXY", "http://127.0.0.1:9");
    command.args(["exec", "--deadline", "1"]).args(ROLE);
    let output = command.args(["--max-attempts", "1", "--", "true"]).output().unwrap();
    let said = text(&output.stderr);
    assert!(code(&output) == 69 && !said.contains("panicked"), "{said}");
}
