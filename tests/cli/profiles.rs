//! Profiles as people have them on disk, each read by the program, with a local STS.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use shmcreds::testing::{Call, Fault, LocalSts, Times};

use crate::harness::*;

const KEYS: &str =
    "[base]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = hush\n";
const SET: &str = r#"{"Version":1,"AccessKeyId":"ASIAHELPER","SecretAccessKey":"s","SessionToken":"t","Expiration":"2999-01-01T00:00:00Z"}"#;
const ROLE_ARN: &str = "arn:aws:iam::123456789012:role/app";

/// A home of its own with both files, and an STS.
struct Home {
    sts: LocalSts,
    folder: tempfile::TempDir,
}

impl Home {
    fn new(config: &str, credentials: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".aws")).unwrap();
        let home = Home { sts: LocalSts::start().unwrap(), folder };
        home.write(".aws/config", config);
        home.write(".aws/credentials", credentials);
        home
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A program that prints `text`.
    fn helper(&self, name: &str, script: &str) -> String {
        let path = self.write(name, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `shmcreds exec` whose CMD prints the set and its Region; of AWS, the environment has only STS.
    fn command(&self, options: &[&str]) -> Command {
        let mut command = shmcreds(&self.sts);
        for key in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"] {
            command.env_remove(key);
        }
        command.env("HOME", self.folder.path());
        command.args(["exec", "--name", &name("profile")]).args(options);
        let script = "$SHMCREDS credentials $SHMCREDS_SESSION; echo region=$AWS_REGION";
        command.args(["--", "/bin/sh", "-c", script]);
        command
    }

    fn run(&self, options: &[&str]) -> Output {
        self.command(options).output().unwrap()
    }

    fn succeed(&self, options: &[&str]) -> String {
        let output = self.run(options);
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        text(&output.stdout)
    }

    fn fail(&self, options: &[&str]) -> String {
        let output = self.run(options);
        let said = text(&output.stderr);
        assert_eq!(code(&output), 69, "{said}");
        assert!(!said.contains("panicked") && !said.contains("hush"), "{said}");
        said
    }

    fn call(&self) -> Call {
        let mut calls = self.sts.calls().unwrap();
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls.remove(0)
    }
}

#[test]
fn everything_that_a_role_says_arrives_at_sts() {
    let config = format!(
        "[profile app]\nregion = eu-central-1\nrole_arn = {ROLE_ARN}\nsource_profile = base\n\
         duration_seconds = 900\nrole_session_name = jo@example.com\nexternal_id = ext/42\n\
         mfa_serial = arn:aws:iam::123456789012:mfa/jo\n"
    );
    let home = Home::new(&config, KEYS);
    let said =
        home.succeed(&["--profile", "app", "--mfa-command=echo", "--mfa-command-arg=271828"]);
    assert!(said.contains("region=eu-central-1"), "{said}");
    let call = home.call();
    assert_eq!(call.region.as_deref(), Some("eu-central-1"));
    assert_eq!(call.access_key_id.as_deref(), Some("AKIAIOSFODNN7EXAMPLE"));
    for (parameter, value) in [
        ("RoleArn", ROLE_ARN),
        ("DurationSeconds", "900"),
        ("RoleSessionName", "jo@example.com"),
        ("ExternalId", "ext/42"),
        ("SerialNumber", "arn:aws:iam::123456789012:mfa/jo"),
        ("TokenCode", "<redacted: 6 bytes>"),
    ] {
        assert_eq!(call.parameters.get(parameter).map(String::as_str), Some(value), "{parameter}");
    }
}

#[test]
fn a_role_beside_a_profile_is_assumed_in_the_profiles_region() {
    let home = Home::new("[profile base]\nregion = eu-west-3\n", KEYS);
    home.succeed(&["--profile", "base", "--role-arn", ROLE_ARN]);
    assert_eq!(home.call().region.as_deref(), Some("eu-west-3"));
}

#[test]
fn the_region_of_cmd_is_that_of_its_profile() {
    let config = "[default]\nregion = us-west-2\n[profile app]\nregion = eu-central-1\n\
                  credential_process = echo '$SET'\n";
    let home = Home::new(&config.replace("$SET", SET), "");
    for (variables, options, region) in [
        (&[][..], &["--profile", "app"][..], "eu-central-1"),
        (&[("AWS_PROFILE", "app")], &[], "eu-central-1"),
        (&[("AWS_DEFAULT_PROFILE", "app")], &[], "eu-central-1"),
        (&[("AWS_REGION", "eu-west-2")], &["--profile", "app"], "eu-west-2"),
        (&[("AWS_REGION", "")], &["--profile", "app"], "eu-central-1"),
        (&[], &["--profile", "app", "--keep-aws-files"], "eu-central-1"),
    ] {
        let output = home.command(options).envs(variables.iter().copied()).output().unwrap();
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        let said = text(&output.stdout);
        assert!(said.contains(&format!("region={region}\n")), "{variables:?} {options:?}: {said}");
    }
}

#[test]
fn a_device_without_its_command_is_named() {
    let config = format!(
        "[profile app]\nrole_arn = {ROLE_ARN}\nsource_profile = base\nmfa_serial = arn:aws:mfa/jo\n"
    );
    let home = Home::new(&config, KEYS);
    let said = home.fail(&["--profile", "app"]);
    assert!(said.contains("arn:aws:mfa/jo") && said.contains("--mfa-command"), "{said}");
    assert_eq!(home.sts.calls().unwrap().len(), 0);
}

#[test]
fn services_and_addresses_of_the_profile_are_asked() {
    let home = Home::new("", KEYS);
    for config in [
        "[profile app]\nservices = local\n$ROLE[services local]\nsts =\n  endpoint_url = $URL\n",
        "[profile app]\nendpoint_url = $URL\n$ROLE",
        "[profile app]\nsts_regional_endpoints = legacy\nendpoint_url = $URL\n$ROLE",
    ] {
        let role = format!("region = eu-west-1\nrole_arn = {ROLE_ARN}\nsource_profile = base\n");
        home.write(".aws/config", &config.replace("$ROLE", &role).replace("$URL", &home.sts.url()));
        home.sts.clear_calls().unwrap();
        let mut command = home.command(&["--profile", "app"]);
        let output = command.env("AWS_ENDPOINT_URL_STS", "").output().unwrap();
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        assert_eq!(home.call().region.as_deref(), Some("eu-west-1"));
    }
}

#[test]
fn attempts_of_the_profile_are_made() {
    let config = format!(
        "[profile app]\nregion = eu-west-1\nmax_attempts = 3\nrole_arn = {ROLE_ARN}\nsource_profile = base\n"
    );
    let home = Home::new(&config, KEYS);
    home.sts.inject(Fault::Status(500), Times::Next(2)).unwrap();
    home.succeed(&["--profile", "app"]);
    assert_eq!(home.sts.count("AssumeRole").unwrap(), 3);
}

#[test]
fn keys_with_an_expiry_are_shared_and_without_one_the_profile_is_named() {
    let keys = "[saml]\naws_access_key_id = ASIASAML\naws_secret_access_key = hush\n\
                aws_session_token = hush-token\n";
    let home =
        Home::new("", &format!("{keys}x_security_token_expires = 2999-01-01T00:00:00+00:00\n"));
    assert!(home.succeed(&["--profile", "saml"]).contains("ASIASAML"));
    home.write(".aws/credentials", keys);
    let said = home.fail(&["--profile", "saml"]);
    assert!(said.contains("saml") && said.contains("aws_expiration"), "{said}");
    let mut command = home.command(&[]);
    command.env("AWS_ACCESS_KEY_ID", "ASIAENV").env("AWS_SECRET_ACCESS_KEY", "hush");
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("AWS_CREDENTIAL_EXPIRATION"), "{said}");
    let output = command.env("AWS_CREDENTIAL_EXPIRATION", "2999-01-01 00:00:00Z").output().unwrap();
    assert!(text(&output.stdout).contains("ASIAENV"), "{}", text(&output.stderr));
}

#[test]
fn a_helper_that_fails_says_why() {
    let home = Home::new("", "");
    let helper = home.helper("helper", "echo 'expired; run: mytool login' >&2; exit 1");
    home.write(
        ".aws/config",
        &format!("[profile app]\ncredential_process = {helper} --secret hush\n"),
    );
    for options in
        [&["--deadline=1", "--profile", "app"][..], &["--deadline=1", "--process", &helper]]
    {
        assert!(home.fail(options).contains("run: mytool login"));
    }
}

#[test]
fn a_helper_may_be_quoted_or_stand_in_the_home() {
    let home = Home::new("", "");
    let answer = format!("[ \"$1 $2\" = \"--user helen x\" ] && echo '{SET}'");
    fs::create_dir(home.folder.path().join("my tools")).unwrap();
    let quoted = home.helper("my tools/helper", &answer);
    home.helper("helper", &answer);
    for line in [
        format!("\"{quoted}\" \"--user\" \"helen x\""),
        "~/helper --user 'helen x'".to_owned(),
        "$HOME/helper --user 'helen x' # the old one".to_owned(),
    ] {
        home.write(".aws/config", &format!("[profile app]\ncredential_process = {line}\n"));
        assert!(home.succeed(&["--profile", "app"]).contains("ASIAHELPER"), "{line}");
    }
}

#[test]
fn an_odd_file_is_read_and_a_missing_profile_is_told_from_it() {
    let config = format!(
        "\u{feff}[profile app] # mine\r\n    region = eu-west-1\r\n    credential_process = echo '{SET}'\r\n\
         [profile other\r\nhush\r\n[profile \"two words\"]\r\ncredential_process = echo '{SET}'\r\n[bare]\r\nx = 1\r\n"
    );
    let home = Home::new(&config, "");
    assert!(home.succeed(&["--profile", "app"]).contains("region=eu-west-1"));
    assert!(home.succeed(&["--profile", "two words"]).contains("ASIAHELPER"));
    let said = home.fail(&["--profile", "bare"]);
    assert!(said.contains("[bare] must be written [profile bare]"), "{said}");
    let said = home.fail(&["--profile", "other"]);
    assert!(said.contains(".aws/config line 4"), "{said}");
    let said = home.fail(&["--profile", "apq"]);
    assert!(said.contains(".aws/credentials") && said.contains("app, two words"), "{said}");
}

#[test]
fn a_web_identity_of_a_profile_signs_in_for_another() {
    let pod = format!("{ROLE_ARN}-pod");
    let config = format!(
        "[profile pod]\nrole_arn = {pod}\nweb_identity_token_file = ~/token\nrole_session_name = pod\n\
         duration_seconds = 1800\n[profile app]\nregion = eu-west-1\nrole_arn = {ROLE_ARN}\nsource_profile = pod\n"
    );
    let home = Home::new(&config, "");
    let said = home.fail(&["--profile", "app"]);
    assert!(said.contains("/token\" cannot be read"), "{said}");
    home.write("token", "");
    assert!(home.fail(&["--profile", "app"]).contains("/token\" is empty"));
    home.write("token", "hush\n");
    home.succeed(&["--profile", "app"]);
    let calls = home.sts.calls().unwrap();
    assert_eq!(calls[0].action, "AssumeRoleWithWebIdentity");
    assert_eq!(calls[0].parameters["WebIdentityToken"], "<redacted: 4 bytes>");
    assert_eq!(calls[0].parameters["DurationSeconds"], "1800");
    assert_eq!(calls[0].parameters["RoleSessionName"], "pod");
    assert_eq!(calls[1].access_key_id, calls[0].issued_access_key_id);
    assert_eq!(calls[1].region.as_deref(), Some("eu-west-1"));
}

#[test]
fn a_sign_in_that_is_over_says_what_to_do() {
    let home = Home::new(
        "[profile sso]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = reader\n\
         [sso-session corp]\nsso_start_url = https://example.awsapps.com/start\nsso_region = eu-west-1\n\
         [profile browser]\nlogin_session = arn:aws:iam::123456789012:user/jo\nregion = eu-west-1\n",
        "",
    );
    let said = home.fail(&["--profile", "sso"]);
    assert!(
        said.contains(".aws/sso/cache/") && said.contains("aws sso login --profile sso"),
        "{said}"
    );
    let said = home.fail(&["--profile", "browser"]);
    assert!(
        said.contains(".aws/login/cache/") && said.contains("aws login --profile browser"),
        "{said}"
    );
    let output = home.command(&[]).env("AWS_PROFILE", "browser").output().unwrap();
    assert!(text(&output.stderr).contains("aws login --profile browser"));
}

#[test]
fn where_nothing_is_configured_it_says_what_was_looked_for() {
    let home = Home::new("[profile app]\nregion = eu-west-1\n", "");
    let said = home.fail(&[]);
    for place in
        ["AWS_ACCESS_KEY_ID", ".aws/config", "the profiles are: app", "AWS_EC2_METADATA_DISABLED"]
    {
        assert!(said.contains(place), "{place}: {said}");
    }
    let output = home.command(&[]).env("AWS_PROFILE", "ap").output().unwrap();
    assert!(text(&output.stderr).contains("no profile \"ap\""), "{}", text(&output.stderr));
}

#[test]
fn a_value_that_breaks_its_rule_is_named_with_file_and_line() {
    let home = Home::new("", KEYS);
    for line in [
        "region = EU West",
        "endpoint_url = localhost",
        "services = nope",
        "max_attempts = 0",
        "retry_mode = bogus",
        "use_fips_endpoint = maybe",
        "ca_bundle = /no/such/file",
        "duration_seconds = 1",
        "role_session_name = a b",
    ] {
        let config =
            format!("[profile app]\nrole_arn = {ROLE_ARN}\nsource_profile = base\n{line}\n");
        home.write(".aws/config", &config);
        let mut command = home.command(&["--profile", "app"]);
        // An address of the environment would count more.
        if line.starts_with("endpoint_url") || line.starts_with("services") {
            command.env("AWS_ENDPOINT_URL_STS", "");
        }
        // With an address over http, no authority is needed.
        if line.starts_with("ca_bundle") {
            command.env("AWS_ENDPOINT_URL_STS", "https://127.0.0.1:1");
        }
        let output = command.output().unwrap();
        let (said, key) = (text(&output.stderr), line.split(' ').next().unwrap());
        assert_eq!(code(&output), 69, "{said}");
        let named = match key {
            "duration_seconds" => "duration is 1s",
            "role_session_name" => "session_name \"a b\"",
            _ => key,
        };
        assert!(said.contains(named) && said.contains("(misconfigured)"), "{line}: {said}");
        if key != "ca_bundle" {
            assert!(said.contains(".aws/config line "), "{line}: {said}");
        }
    }
}

#[test]
fn a_session_that_asks_itself_is_noticed_and_another_is_answered() {
    let home = Home::new("", "");
    let inner = name("inner");
    home.write(
        ".aws/config",
        &format!(
            "[profile own]\ncredential_process = {BINARY} credentials {inner}\n\
             [profile inner]\ncredential_process = echo '{SET}'\n"
        ),
    );
    let mut itself = shmcreds(&home.sts);
    itself.env("HOME", home.folder.path()).env_remove("AWS_ACCESS_KEY_ID");
    let began = std::time::Instant::now();
    let arguments = ["exec", "--name", &inner, "--profile", "own", "--", "/bin/true"];
    let output = itself.args(arguments).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(code(&output), 69, "{said}");
    assert!(said.contains(&format!("{inner}\" asks itself")), "{said}");
    assert!(said.contains("(misconfigured)"), "{said}");
    assert!(began.elapsed() < std::time::Duration::from_secs(25), "it has waited for itself");
    // A session whose source is another one is answered.
    let mut outer = shmcreds(&home.sts);
    outer.env("HOME", home.folder.path()).env_remove("AWS_ACCESS_KEY_ID");
    let script =
        format!("$SHMCREDS exec --name {} --profile own -- /bin/echo answered", name("outer"));
    outer.args(["exec", "--name", &inner, "--profile", "inner", "--keep-aws-files"]);
    let output = outer.args(["--", "/bin/sh", "-c", &script]).output().unwrap();
    assert_eq!(text(&output.stdout), "answered\n", "{}", text(&output.stderr));
}

#[test]
fn a_proxy_between_is_named_without_its_password() {
    let config = format!(
        "[profile app]\nregion = eu-west-1\nrole_arn = {ROLE_ARN}\nsource_profile = base\n"
    );
    let home = Home::new(&config, KEYS);
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let mut command = home.command(&["--deadline", "2", "--profile", "app"]);
        command.env("AWS_ENDPOINT_URL_STS", "").env(variable, "http://jo:hush@127.0.0.1:9");
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), 69, "{said}");
        assert!(said.contains("STS in eu-west-1 through the proxy 127.0.0.1:9"), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
}
