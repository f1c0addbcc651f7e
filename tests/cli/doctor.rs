//! `doctor`: it names the fault before a user meets it, and changes nothing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use shmcreds::{SharedSession, testing::LocalSts};

use crate::harness::{ROLE, Running, code, name, said_soon, shmcreds, text};

/// The findings, by their subjects.
fn findings(output: &Output) -> BTreeMap<String, Vec<Value>> {
    let all: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {} {}", text(&output.stdout), text(&output.stderr)));
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for one in all {
        let level = one["level"].as_str().unwrap();
        assert!(["ok", "note", "fault"].contains(&level), "{one}");
        assert!(!one["found"].as_str().unwrap().is_empty(), "{one}");
        assert!(!one["why"].as_str().unwrap().is_empty(), "{one}");
        found.entry(one["subject"].as_str().unwrap().to_owned()).or_default().push(one);
    }
    found
}

fn doctor(sts: &LocalSts, arguments: &[&str]) -> std::process::Command {
    let mut command = shmcreds(sts);
    command.arg("doctor").args(arguments).env_remove("XDG_RUNTIME_DIR");
    command
}

/// Whether something of this level was found, and says so.
fn has(found: &[Value], level: &str, word: &str) -> bool {
    found.iter().any(|one| {
        one["level"] == level && one["found"].as_str().is_some_and(|found| found.contains(word))
    })
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(name("doctor"));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_thing_has_a_line_and_the_exit_code_is_the_worst() {
    let sts = LocalSts::start().unwrap();
    // Where no other test has sessions.
    let folder = Folder(PathBuf::from("/dev/shm").join(name("doctor")));
    fs::create_dir(&folder.0).unwrap();
    let ask = |arguments: &[&str]| {
        doctor(&sts, arguments).env("SHMCREDS_DIR", &folder.0).output().unwrap()
    };
    let json = ask(&["--json"]);
    let found = findings(&json);
    for subject in [
        "kernel",
        "pidfd_open",
        "memfd_create",
        "memfd_secret",
        "fcntl F_SEAL_FUTURE_WRITE",
        "openat2",
        "/proc",
        "directory",
        "file size",
        "open files",
        "locked memory",
        "swap",
        "core dumps",
        "ptrace_scope",
        "namespaces",
        "container",
        "process",
        "sessions",
        "clock",
        "variables",
        "proxies",
        "profile",
        "instance metadata",
        "identity",
    ] {
        assert!(found.contains_key(subject), "{subject} is missing");
    }
    let plain = ask(&[]);
    let lines = text(&plain.stdout);
    let levels: Vec<&str> = lines.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(levels.len(), found.values().map(Vec::len).sum::<usize>());
    let worst = ["ok", "note", "fault"].iter().rposition(|level| levels.contains(level)).unwrap();
    assert_eq!((code(&plain), code(&json)), (worst as i32, worst as i32), "{lines}");
    assert_eq!(sts.calls().unwrap().len(), 0, "it asked nobody");
}

#[test]
fn variables_are_named_without_their_values() {
    let sts = LocalSts::start().unwrap();
    let mut command = doctor(&sts, &[]);
    command
        .env("AWS_SESSION_TOKEN", "hush-token")
        .env("HTTPS_PROXY", "http://user:hush-pass@proxy");
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    let output = command.output().unwrap();
    let said = text(&output.stdout);
    for word in ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "HTTPS_PROXY", "NO_PROXY does not name"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    for secret in ["hush", crate::support::BASE_SECRET, "AKIAIOSFODNN7EXAMPLE"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[test]
fn a_directory_that_cannot_hold_a_session_is_a_fault() {
    let (sts, disk) = (LocalSts::start().unwrap(), Folder::new());
    for (directory, word) in [
        ("/proc", "is on proc"),
        ("relative", "not absolute"),
        ("/dev/shm/no-such-directory", "does not exist"),
    ] {
        let output = doctor(&sts, &["--json"]).env("SHMCREDS_DIR", directory).output().unwrap();
        let found = findings(&output);
        assert!(has(&found["directory"], "fault", word), "{directory}: {found:?}");
        assert_eq!(code(&output), 2);
    }
    let mut command = doctor(&sts, &["--json"]);
    command.env("SHMCREDS_DIR", &disk.0);
    command.env("SHMCREDS_DANGEROUS_SECRETS_ON_DISK", "yes");
    let found = findings(&command.output().unwrap());
    let named = |word: &str| has(&found["variables"], "note", word);
    assert!(named("SHMCREDS_DANGEROUS_SECRETS_ON_DISK is set") && named("SHMCREDS_DIR is set"));
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0, "it changes nothing");
}

#[test]
fn a_session_of_dead_processes_is_named() {
    let sts = LocalSts::start().unwrap();
    let [left, used] = ["left", "used"].map(name);
    let serve = |name: &str| {
        let mut command = shmcreds(&sts);
        command.args(["serve", "--name", name]).args(ROLE);
        let mut running = Running::start(command);
        assert!(running.line().starts_with("http://"));
        running
    };
    let (mut killed, mut alive) = (serve(&left), serve(&used));
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    let found = findings(&doctor(&sts, &["--json"]).output().unwrap());
    let sessions = &found["sessions"];
    assert!(has(sessions, "note", &format!("{left:?} is left")), "{sessions:?}");
    assert!(!has(sessions, "note", &used), "{sessions:?}");
    assert!(SharedSession::list().unwrap().contains(&left), "it changes nothing");
    alive.child.kill().unwrap();
    alive.child.wait().unwrap();
    for name in [left, used] {
        SharedSession::remove(&name).unwrap();
    }
}

#[test]
fn the_chain_of_a_profile_is_told_step_by_step() {
    let (sts, folder) = (LocalSts::start().unwrap(), Folder::new());
    let config = folder.0.join("config");
    let settings = "[profile web]\nrole_arn = arn:aws:iam::123456789012:role/web\nsource_profile = base\n\
                    external_id = hush-id\nnonsense = 1\n\n[profile base]\ncredential_process = /bin/get hush-argument\n";
    fs::write(&config, settings).unwrap();
    let ask = |profile: &str| {
        let mut command = doctor(&sts, &["--json", "--profile", profile]);
        command.env("AWS_CONFIG_FILE", &config).env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command.output().unwrap()
    };
    let output = ask("web");
    let found = findings(&output);
    let profile = &found["profile"];
    let path = config.to_str().unwrap();
    for word in [
        format!("\"web\" assumes arn:aws:iam::123456789012:role/web ({path} line 2)"),
        format!("with the credentials of \"base\" ({path} line 3)"),
        format!("\"base\" runs a program: credential_process ({path} line 8)"),
    ] {
        assert!(has(profile, "ok", &word), "{word}: {profile:?}");
    }
    assert!(has(profile, "note", &format!("\"web\" sets nonsense ({path} line 5)")), "{profile:?}");
    assert!(!text(&output.stdout).contains("hush"), "{profile:?}");
    let output = ask("missing");
    assert!(has(&findings(&output)["profile"], "fault", "missing"));
    assert_eq!(code(&output), 2);
}

/// Makes each kind of path that is no config file; gives its name and what is said about it.
fn paths_without_a_file(folder: &Path) -> Vec<(PathBuf, &'static str)> {
    let place = |name: &str| folder.join(name);
    let rights = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
    nix::unistd::mkfifo(&place("pipe"), rights).unwrap();
    std::os::unix::fs::symlink(place("b"), place("a")).unwrap();
    std::os::unix::fs::symlink(place("a"), place("b")).unwrap();
    fs::File::create(place("huge")).unwrap().set_len(1 << 30).unwrap();
    vec![
        (place("pipe"), "it is a pipe, must be a file"),
        (place("a"), "ELOOP"),
        (place("huge"), "it has more than 4194304 bytes"),
        (folder.to_owned(), "EISDIR"),
        (PathBuf::from("/dev/zero"), "it has more than 4194304 bytes"),
    ]
}

#[test]
fn a_path_that_leads_to_no_file_is_named_and_nobody_waits() {
    let (sts, folder) = (LocalSts::start().unwrap(), Folder::new());
    for (path, problem) in paths_without_a_file(&folder.0) {
        for variable in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"] {
            let other = match variable {
                "AWS_CONFIG_FILE" => "AWS_SHARED_CREDENTIALS_FILE",
                _ => "AWS_CONFIG_FILE",
            };
            let mut command = doctor(&sts, &[]);
            command.env(variable, &path).env(other, "/dev/null");
            let said = said_soon(command);
            let told =
                |line: &str| line.starts_with("note") && line.contains(path.to_str().unwrap());
            assert!(said.lines().any(|line| told(line) && line.contains(problem)), "{said}");
            let mut command = shmcreds(&sts);
            command.env(variable, &path).env(other, "/dev/null");
            command.args(["exec", "--name", &name("no-file"), "--profile", "app", "--", "true"]);
            let said = said_soon(command);
            assert!(said.contains(path.to_str().unwrap()) && said.contains(problem), "{said}");
        }
    }
}

#[test]
fn limits_that_are_too_low_are_named() {
    let sts = LocalSts::start().unwrap();
    for (limit, subject, level, told) in [
        ("-f 0", "file size", "fault", "0 bytes, and a session needs"),
        ("-f 1000", "file size", "ok", "bytes"),
        ("-n 20", "open files", "note", "20, and fewer than 64"),
        ("-n 64", "open files", "ok", "64"),
    ] {
        let limited = doctor(&sts, &["--json"]);
        let mut command = std::process::Command::new("/bin/sh");
        // What it says goes through a pipe: a file would have no room.
        command.args(["-c", &format!("ulimit {limit}; exec \"$@\""), "sh"]);
        command.arg(limited.get_program()).args(limited.get_args());
        let found = findings(&command.output().unwrap());
        assert!(has(&found[subject], level, told), "{limit}: {:?}", found[subject]);
    }
}

#[test]
fn the_way_to_the_instance_metadata_is_told() {
    let (sts, folder) = (LocalSts::start().unwrap(), Folder::new());
    let config = folder.0.join("config");
    fs::write(&config, "[profile old]\nec2_metadata_v1_disabled = true\n").unwrap();
    for (arguments, variables, level, told) in [
        (
            vec![],
            vec![("AWS_EC2_METADATA_DISABLED", "true")],
            "ok",
            "AWS_EC2_METADATA_DISABLED is set",
        ),
        (vec![], vec![], "ok", "http://169.254.169.254; version 1 is used"),
        (
            vec![],
            vec![("AWS_EC2_METADATA_V1_DISABLED", "true")],
            "ok",
            "AWS_EC2_METADATA_V1_DISABLED disables",
        ),
        (vec!["--profile", "old"], vec![], "ok", "config line 2 disables version 1"),
        (
            vec![],
            vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", "1.2.3.4")],
            "fault",
            "is not an address",
        ),
    ] {
        let mut command = doctor(&sts, &arguments);
        command.arg("--json").env_remove("AWS_EC2_METADATA_DISABLED").envs(variables);
        command.env("AWS_CONFIG_FILE", &config).env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        let found = findings(&command.output().unwrap());
        assert!(has(&found["instance metadata"], level, told), "{told}: {found:?}");
    }
}

#[test]
fn online_tells_whose_the_credentials_are() {
    let sts = LocalSts::start().unwrap();
    let output = doctor(&sts, &["--json", "--online", ROLE[0], ROLE[1]]).output().unwrap();
    let found = findings(&output);
    let identity = &found["identity"];
    assert!(
        has(identity, "ok", "account 123456789012, arn:aws:sts::123456789012:assumed-role/app/"),
        "{identity:?}"
    );
    assert!(has(identity, "ok", "valid until 20"), "{identity:?}");
    assert!(
        found["clock"].iter().any(|one| one["found"].as_str().unwrap().contains("off the clock"))
    );
    assert_eq!(sts.count("AssumeRole").unwrap(), 1);
    assert_eq!(sts.count("GetCallerIdentity").unwrap(), 1);

    use shmcreds::testing::{Fault, Times};
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let output = doctor(&sts, &["--json", "--online", ROLE[0], ROLE[1]]).output().unwrap();
    assert!(has(&findings(&output)["identity"], "fault", "AccessDenied"));
    assert_eq!(code(&output), 2);
    let output = doctor(&sts, &["--json", "--role-arn", "no-arn"]).output().unwrap();
    assert!(has(&findings(&output)["source"], "fault", "role_arn"), "{}", text(&output.stdout));
}
