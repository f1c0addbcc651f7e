//! The options of the sources: what is said on the command line, or in a file, arrives.

use std::{collections::BTreeMap, process::Command};

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
    let said = text(&output.stderr);
    assert!(said.contains("--mfa-timeout") && said.contains("1..=86400"), "{said}");
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

/// A set of keys in the `credential_process` format.
const SET: &str = r#"{"Version":1,"AccessKeyId":"ASIAEXAMPLE00001","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}"#;

/// Each source: in a file, and as arguments. None but `process` gives a set here.
fn every_source() -> Vec<(String, Vec<String>)> {
    let process_arg = format!("process-arg = ['{SET}']");
    let iot = ["iot-role-alias", "iot-certificate", "iot-private-key"];
    [
        &["profile = 'no-such-profile'"][..],
        &["default-chain = true"],
        &["web-identity = true"],
        &["container = true"],
        &["imds = true"],
        &[
            "sso-start-url = 'https://x.awsapps.com/start'",
            "sso-region = 'eu-west-1'",
            "sso-account-id = '123456789012'",
            "sso-role-name = 'app'",
        ],
        &["process = '/bin/echo'", &process_arg],
        &[
            "iot-endpoint = 'x.credentials.iot.eu-west-1.amazonaws.com'",
            &format!("{} = 'app'", iot[0]),
            &format!("{} = '/no/such/file'", iot[1]),
            &format!("{} = '/no/such/file'", iot[2]),
        ],
    ]
    .iter()
    .map(|lines| {
        let argument = |line: &&str| {
            let (key, value) = line.split_once(" = ").unwrap();
            let value = value.trim_matches(|c| "[]'".contains(c));
            if value == "true" { format!("--{key}") } else { format!("--{key}={value}") }
        };
        (lines.join("\n"), lines.iter().map(argument).collect())
    })
    .collect()
}

#[test]
fn a_source_on_the_command_line_takes_the_place_of_that_in_the_file() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shmcreds.toml");
    let run = |arguments: &[String]| {
        let mut command = shmcreds(&sts);
        command.env_remove("AWS_ACCESS_KEY_ID").env("AWS_CONFIG_FILE", "/dev/null");
        command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command.args(["exec", "--deadline", "1", "--config"]).arg(&file);
        command.args(arguments).args(["--", "/bin/echo", "started"]).output().unwrap()
    };
    let sources = every_source();
    for (number, (lines, _)) in sources.iter().enumerate() {
        std::fs::write(&file, lines).unwrap();
        for (other, (_, arguments)) in sources.iter().enumerate() {
            let output = run(arguments);
            // The process gives a set, and nothing else does.
            let expected = if arguments[0].starts_with("--process") { 0 } else { 69 };
            let said = text(&output.stderr);
            let is_refused_by_name = arguments[0].starts_with("--iot") && code(&output) == 64;
            assert!(
                code(&output) == expected || is_refused_by_name,
                "{lines}, then {arguments:?}: {said}"
            );
            assert!(!said.contains("cannot be used with"), "{number} {other}: {said}");
        }
    }
}

#[test]
fn an_option_on_the_command_line_belongs_to_what_the_file_says() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shmcreds.toml");
    let lines = format!("role-arn = '{}'\nexternal-id = 'of-the-file'\ntag = ['a=1']\n", ROLE[1]);
    std::fs::write(&file, lines).unwrap();
    let mut command = shmcreds(&sts);
    command.args(["exec", "--name", &name("both"), "--duration-seconds", "1800", "--config"]);
    command.arg(&file).args(["--tag", "b=2", "--role-session-name", "of-the-line"]);
    let output = command.args(["--", "/bin/true"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let parameters = &sts.calls().unwrap()[0].parameters;
    assert_eq!(parameters["DurationSeconds"], "1800");
    assert_eq!(parameters["RoleSessionName"], "of-the-line");
    assert_eq!(parameters["Tags.member.1.Key"], "b");
    assert!(!parameters.contains_key("Tags.member.2.Key"), "{parameters:?}");
}

#[test]
fn two_sources_in_one_place_are_refused() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shmcreds.toml");
    std::fs::write(&file, "profile = 'a'\nimds = true\n").unwrap();
    let mut command = shmcreds(&sts);
    let output =
        command.args(["exec", "--config"]).arg(&file).args(["--", "true"]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(code(&output), 64, "{said}");
    assert!(said.contains("shmcreds.toml") && said.contains("cannot be used with"), "{said}");
}

#[test]
fn a_source_that_is_named_counts_more_than_the_environment() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let set = SET.replace("ASIAEXAMPLE00001", "ASIAEXAMPLE00002");
    std::fs::write(folder.path().join("set"), set).unwrap();
    let profile =
        |name: &str, program: &str| format!("[profile {name}]\ncredential_process = {program}\n");
    let cat = format!("cat {}", folder.path().join("set").display());
    std::fs::write(&config, profile("good", &cat) + &profile("bad", "/bin/false")).unwrap();
    for arguments in [&["--profile", "good"][..], &["--process", "/bin/echo", "--process-arg", SET]]
    {
        let mut command = shmcreds(&sts);
        command.env("AWS_CONFIG_FILE", &config).env("AWS_PROFILE", "bad");
        command.env("AWS_ROLE_ARN", ROLE[1]).env("AWS_WEB_IDENTITY_TOKEN_FILE", "/no/such/file");
        command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/");
        command.args(["exec", "--name", &name("named")]).args(arguments);
        command.args(["--", "/bin/sh", "-c", "$SHMCREDS credentials $SHMCREDS_SESSION"]);
        let output = command.output().unwrap();
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let expected = if arguments[0] == "--profile" { "00002" } else { "00001" };
        assert!(text(&output.stdout).contains(expected), "{arguments:?}");
    }
}

/// It is read once, so a shell may write it (`--config <(...)`).
#[test]
fn a_configuration_file_may_be_a_pipe() {
    let (sts, name) = (LocalSts::start().unwrap(), name("piped"));
    let role = "arn:aws:iam::123456789012:role/piped";
    let script = format!(
        "exec \"$SHMCREDS\" exec --name {name} --config <(sleep 0.2; echo 'role-arn = \"{role}\"') -- /bin/echo started"
    );
    let mut bash = Command::new("/bin/bash");
    for (key, value) in shmcreds(&sts).get_envs() {
        match value {
            Some(value) => bash.env(key, value),
            None => bash.env_remove(key),
        };
    }
    bash.args(["-c", &script]);
    let output = ended_soon(bash);
    assert_eq!(text(&output.stdout), "started\n", "{}", text(&output.stderr));
    assert!(sts.calls().unwrap().iter().any(|call| call.parameters["RoleArn"] == role));
}
