//! `exec --roles`: CMD gets one role, and finds the others.

use serde_json::Value;
use shmcreds::testing::LocalSts;

use crate::{harness::*, roles::*};

fn exec_roles(
    sts: &LocalSts,
    name: &str,
    folder: &Folder,
    arguments: &[&str],
    script: &str,
) -> std::process::Command {
    let mut command = shmcreds(sts);
    command.args(["exec", "--name", name, "--roles"]).arg(folder.file()).args(arguments);
    command.args(["--", "/bin/sh", "-c", script]);
    command
}

const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 0.01; done";

#[test]
fn cmd_gets_its_role_and_finds_the_others() {
    let sts = LocalSts::start().unwrap();
    let name = name("exec-roles");
    let folder = Folder::new(
        "allow = [\"arn:aws:iam::*:role/tenant\"]\n[role-arn]\n[grant.team]\nallow = \"arn:aws:iam::*:role/team-*\"",
        &[("alpha", "id-of-alpha"), ("beta", "id-of-beta")],
    );
    let script = format!(
        "echo $AWS_CONTAINER_CREDENTIALS_FULL_URI; echo $AWS_CONTAINER_AUTHORIZATION_TOKEN; \
         cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; echo; echo $SHMCREDS_SESSION; cat $SHMCREDS_ROLES; echo; {WAIT}"
    );
    let mut running =
        Running::start(exec_roles(&sts, &name, &folder, &["--role", "beta"], &script));
    let (url, token) = (running.line(), running.line());
    assert!(url.ends_with("/v1/roles/beta"), "{url}");
    assert_eq!(running.line(), token);
    assert_eq!(running.line(), name);
    assert_eq!(assumed(&sts), 1, "CMD starts with the set of its role");
    assert!(is_of(&ask(&url, "/v1/roles/beta", &token).1, "id-of-beta"));
    let directory: Value = serde_json::from_str(&running.line()).unwrap();
    let entry = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().unwrap().to_owned();
        (text("uri"), text("token"))
    };
    assert_eq!(entry(&directory["roles"]["beta"]), (url.clone(), token.clone()));
    let (alpha_url, alpha) = entry(&directory["roles"]["alpha"]);
    assert!(is_of(&set_of(&alpha_url, "/v1/roles/alpha", &alpha), "id-of-alpha"));
    assert_eq!(ask(&url, "/v1/roles/alpha", &token).0, 403);
    let (prefix, any) = entry(&directory["role_arn"]);
    assert!(prefix.ends_with("/v1/role-arn/"), "{prefix}");
    set_of(&url, &format!("/v1/role-arn/{TENANT}"), &any);
    let (prefix, team) = entry(&directory["grants"]["team"]);
    assert!(prefix.ends_with("/v1/role-arn/"), "{prefix}");
    set_of(&url, "/v1/role-arn/arn:aws:iam::123456789012:role/team-7", &team);
    assert_eq!(ask(&url, &format!("/v1/role-arn/{TENANT}"), &team).1["code"], "NotAllowed");
    assert!(folder.names().is_empty(), "the token files are for `serve`");
    // Also for programs that read the files of AWS only.
    let helper = shmcreds(&sts).args(["credentials", &name, "--role", "alpha"]).output().unwrap();
    assert!(is_of(&serde_json::from_slice(&helper.stdout).unwrap(), "id-of-alpha"));
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert_gone(&name);
}

#[test]
fn keys_and_a_helper_of_the_role() {
    let sts = LocalSts::start().unwrap();
    let name = name("exec-old");
    let folder = Folder::new("", &[("alpha", "id-of-alpha"), ("beta", "id-of-beta")]);
    let script = "echo $AWS_SECRET_ACCESS_KEY; grep -c credential_process $AWS_CONFIG_FILE; \
                  $(sed -n 's/^credential_process = //p' $AWS_CONFIG_FILE | head -1)";
    let options =
        ["--role", "alpha", "--static-keys", "--credential-process", "--valid-for", "30m"];
    let output = exec_roles(&sts, &name, &folder, &options, script).output().unwrap();
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((code(&output), lines.len()), (0, 3), "{}", text(&output.stderr));
    let set: Value = serde_json::from_str(lines[2]).unwrap();
    assert!(is_of(&set, "id-of-alpha"));
    assert_eq!(set["SecretAccessKey"], lines[0]);
    assert_eq!(assumed(&sts), 1);
    assert_gone(&name);
}

#[test]
fn what_does_not_fit_is_refused() {
    let sts = LocalSts::start().unwrap();
    let folder = Folder::new("", &[("alpha", "id-of-alpha"), ("beta", "id-of-beta")]);
    for (options, says) in [
        (&["--role", "gamma"][..], "its roles are: alpha, beta"),
        (&[], "--role"),
        (&["--role", "alpha", "--sealed"], "--sealed"),
        (&["--role", "alpha", "--consumers-keep", "30m"], "--consumers-keep"),
    ] {
        let name = name("exec-refused");
        let output = exec_roles(&sts, &name, &folder, options, "echo ran").output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), 64, "{said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
        assert!(output.stdout.is_empty());
        assert_gone(&name);
    }
    let refused = shmcreds(&sts)
        .args(["exec", "--role", "x", "--role-arn", ROLE[1], "--", "true"])
        .output()
        .unwrap();
    assert!(code(&refused) == 64 && text(&refused.stderr).contains("--roles"));
    for option in [["--group", "7"], ["--token-file", "/x"], ["--consumers-keep", "1m"]] {
        let name = name("serve-refused");
        let output = serve_roles(&sts, &name, &folder.file()).args(option).output().unwrap();
        assert!(code(&output) == 64 && text(&output.stderr).contains(option[0]));
        assert_gone(&name);
    }
}

/// The guard, and CMD, end with a supervisor that is killed.
#[test]
fn a_killed_supervisor_leaves_nothing() {
    let sts = LocalSts::start().unwrap();
    let name = name("exec-killed");
    let folder = Folder::new("", &[("alpha", "id-of-alpha")]);
    let script = format!("echo $SHMCREDS_ROLES; {WAIT}");
    let mut running =
        Running::start(exec_roles(&sts, &name, &folder, &["--role", "alpha"], &script));
    let directory = running.line();
    assert!(std::path::Path::new(&directory).exists());
    let supervisor = child_of(running.pid()).unwrap();
    nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGKILL).unwrap();
    running.wait_for_end();
    assert!(!std::path::Path::new(&directory).exists());
    assert_gone(&name);
}
