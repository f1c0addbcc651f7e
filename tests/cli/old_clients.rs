//! What `exec` does for programs that know no endpoint.

use shmcreds::testing::LocalSts;

use crate::harness::*;

/// `exec` of a script with a source that gives a set.
fn exec(options: &[&str], script: &str) -> std::process::Output {
    let sts = LocalSts::start().unwrap();
    let mut command = shmcreds(&sts);
    command.args(["exec", "--name", &name("old")]).args(ROLE).args(options);
    command.args(["--", "/bin/sh", "-c", script]).output().unwrap()
}

#[test]
fn the_helper_is_in_both_files_of_the_program() {
    let script = "for file in $AWS_CONFIG_FILE $AWS_SHARED_CREDENTIALS_FILE; do \
                  sed -n 's/^credential_process = //p' $file | head -n 1 >$file.helper; sh $file.helper; rm $file.helper; done; \
                  echo ${AWS_ACCESS_KEY_ID-none}; echo $AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let output = exec(&["--credential-process"], script);
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said} {}", text(&output.stderr));
    assert!(lines[0].contains("\"AccessKeyId\":\"ASIA"), "{said}");
    assert_eq!(
        (lines[0], lines[2]),
        (lines[1], "none"),
        "the same set, and no key in the environment"
    );
    assert!(lines[3].starts_with("http://127.0.0.1:"), "{said}");
    let without = exec(&[], "cat $AWS_CONFIG_FILE; echo $AWS_SHARED_CREDENTIALS_FILE");
    assert_eq!(text(&without.stdout), "[default]\n/dev/null\n");
}

#[test]
fn the_keys_are_in_the_environment_only_where_that_is_wanted() {
    let names =
        "$AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY $AWS_SESSION_TOKEN $AWS_CREDENTIAL_EXPIRATION";
    for options in [&["--static-keys"][..], &["--static-keys", "--sealed"]] {
        let script = format!("echo {names}; $SHMCREDS credentials $SHMCREDS_SESSION");
        let output = exec(options, &script);
        let said = text(&output.stdout);
        let mut lines = said.lines();
        let set: serde_json::Value =
            serde_json::from_str(lines.nth(1).unwrap_or("{}")).unwrap_or_default();
        let value = |key: &str| set[key].as_str().unwrap_or_default().to_owned();
        let all = ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"].map(value);
        assert!(all[0].starts_with("ASIA"), "{said} {}", text(&output.stderr));
        assert_eq!(said.lines().next(), Some(all.join(" ").as_str()));
    }
    assert_eq!(text(&exec(&[], &format!("echo {names}")).stdout), "\n");
}

#[test]
fn a_helper_that_could_not_work_is_refused() {
    for other in ["--sealed", "--keep-aws-files"] {
        let output = exec(&["--credential-process", other], "echo started");
        let said = text(&output.stderr);
        assert_eq!(code(&output), 64, "{said}");
        assert!(said.contains("--credential-process") && said.contains(other), "{said}");
        assert!(output.stdout.is_empty());
    }
}
