//! The options of the sources: what is said on the command line, or in a file, arrives.

use std::collections::BTreeMap;

use shmcreds::testing::LocalSts;

use crate::harness::*;

/// Every option of a role, and what STS is sent for it.
const OPTIONS: [(&str, &str, &str, &str); 12] = [
    ("role-session-name", "web", "RoleSessionName", "web"),
    ("duration-seconds", "1800", "DurationSeconds", "1800"),
    ("external-id", "tenant-42", "ExternalId", "tenant-42"),
    ("policy", "{}", "Policy", "{}"),
    ("policy-arn", "arn:aws:iam::aws:policy/ReadOnlyAccess", "PolicyArns.member.1.arn", ""),
    ("tag", "team=web", "Tags.member.1.Value", "web"),
    ("transitive-tag-key", "team", "TransitiveTagKeys.member.1", "team"),
    ("source-identity", "alice", "SourceIdentity", "alice"),
    (
        "provided-context",
        "arn:aws:iam::aws:contextProvider/IdentityCenter=signed",
        "ProvidedContexts.member.1.ContextAssertion",
        "signed",
    ),
    ("mfa-serial", "arn:aws:iam::123456789012:mfa/alice", "SerialNumber", ""),
    ("mfa-command", "/bin/echo", "TokenCode", "<redacted: 6 bytes>"),
    ("mfa-command-arg", "271828", "TokenCode", "<redacted: 6 bytes>"),
];

fn assert_all_arrived(sts: &LocalSts) {
    let calls = sts.calls().unwrap();
    let [call] = &calls[..] else { panic!("one call, not {}", calls.len()) };
    for (option, given, parameter, expected) in OPTIONS {
        let sent = call.parameters.get(parameter).map(String::as_str);
        assert_eq!(sent, Some(if expected.is_empty() { given } else { expected }), "--{option}");
    }
}

#[test]
fn every_option_of_a_role_arrives_from_the_command_line() {
    let sts = LocalSts::start().unwrap();
    let name = name("options");
    let mut command = shmcreds(&sts);
    command.args(["exec", "--name", &name]).args(ROLE).args(["--mfa-timeout", "60"]);
    command.args(OPTIONS.map(|(option, given, ..)| format!("--{option}={given}")));
    let output = command.args(["--", "/bin/true"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_all_arrived(&sts);
}

#[test]
fn every_option_of_a_role_arrives_from_the_file() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shmcreds.toml");
    let given = OPTIONS.map(|(option, given, ..)| (option, given));
    let all: BTreeMap<&str, &str> = given.into_iter().chain([("role-arn", ROLE[1])]).collect();
    let lines: Vec<String> =
        all.iter().map(|(key, value)| format!("{key} = '{value}'\n")).collect();
    std::fs::write(&file, lines.concat() + "mfa-timeout = 60\n").unwrap();
    let mut command = shmcreds(&sts);
    command.args(["exec", "--name", &name("file"), "--config"]).arg(&file);
    let output = command.args(["--", "/bin/true"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_all_arrived(&sts);
}

#[test]
fn the_time_for_a_code_is_checked_by_name() {
    let sts = LocalSts::start().unwrap();
    let mut command = shmcreds(&sts);
    command.arg("exec").args(ROLE).args(["--mfa-serial", "123456789"]);
    command.args(["--mfa-command", "/bin/true", "--mfa-timeout", "0", "--", "/bin/true"]);
    let output = command.output().unwrap();
    assert_eq!(code(&output), 64);
    assert!(text(&output.stderr).contains("mfa_command timeout is 0"), "{}", text(&output.stderr));
}

#[test]
fn a_profile_alone_is_enough() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let profiles = format!(
        "[profile app]\nrole_arn = {}\nsource_profile = base\nexternal_id = tenant-42\n\
         [profile base]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n\
         aws_secret_access_key = {BASE_SECRET}\n",
        ROLE[1]
    );
    std::fs::write(&file, profiles).unwrap();
    let mut command = shmcreds(&sts);
    command.env("AWS_CONFIG_FILE", &file).env_remove("AWS_ACCESS_KEY_ID");
    command.args(["exec", "--name", &name("profile"), "--profile", "app", "--", "/bin/sh", "-c"]);
    let output = command.arg("$SHMCREDS credentials $SHMCREDS_SESSION").output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("ASIA"));
    assert_eq!(assumed(&sts), 1);
    assert!(sts.calls().unwrap()[0].parameters.contains_key("ExternalId"));
}
