//! The command line, used as a user would: started, asked, killed.

mod support;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use shmcreds::testing::{Fault, LocalSts, Times};
use support::{BASE_SECRET, assumed, name, segment};

const BINARY: &str = env!("CARGO_BIN_EXE_shmcreds");

/// `shmcreds` with an environment in which nothing but `sts` is AWS.
fn shmcreds(sts: &LocalSts) -> Command {
    let mut command = Command::new(BINARY);
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("AWS_")) {
        command.env_remove(key);
    }
    command
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", BASE_SECRET)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ENDPOINT_URL_STS", sts.url())
        .env("SHMCREDS", BINARY);
    command
}

const ROLE: [&str; 2] = ["--role-arn", "arn:aws:iam::123456789012:role/app"];

/// `shmcreds exec` of a shell script.
fn exec(sts: &LocalSts, name: &str, script: &str) -> Command {
    let mut command = shmcreds(sts);
    command.args(["exec", "--name", name]).args(ROLE).args(["--", "/bin/sh", "-c", script]);
    command
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{:?}: {}", output.status, text(&output.stderr)))
}

fn assert_gone(name: &str) {
    assert!(!Path::new(&segment(name)).exists(), "the segment of {name} is left");
    assert!(!Path::new(&support::lock(name)).exists(), "the locks of {name} are left");
}

/// A running `exec` or `serve`, with what it has said.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits until nobody can say anything any more: this process, CMD, and what that started.
    fn silence(&mut self) -> String {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        rest
    }

    fn wait(mut self) -> i32 {
        self.silence();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A session whose CMD waits for SIGTERM; its URL and token.
fn kept(sts: &LocalSts, name: &str) -> (Running, String, String) {
    let script = "echo $AWS_CONTAINER_CREDENTIALS_FULL_URI; echo $AWS_CONTAINER_AUTHORIZATION_TOKEN; \
                  trap 'exit 0' TERM; while :; do sleep 0.01; done";
    let mut running = Running::start(exec(sts, name, script));
    let (url, token) = (running.line(), running.line());
    (running, url, token)
}

/// Sends `request` as it is; gives the status and the whole answer.
fn raw(url: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address(url)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A server that does not read all of a huge request resets it after its answer.
    let _ = stream.read_to_end(&mut answer);
    let answer = text(&answer);
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    (status, answer)
}

fn address(url: &str) -> &str {
    url.strip_prefix("http://").unwrap().split('/').next().unwrap()
}

fn get(url: &str, path: &str, headers: &str) -> (u16, String) {
    let host = address(url);
    raw(url, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n"))
}

fn credentials(url: &str, token: &str) -> Value {
    let (status, answer) = get(url, "/credentials", &format!("Authorization: {token}\r\n"));
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[test]
fn a_program_and_its_children_get_one_set() {
    let sts = LocalSts::start().unwrap();
    let name = name("one");
    let script = "for i in 1 2 3 4; do $SHMCREDS credentials $SHMCREDS_SESSION; done; \
                  $SHMCREDS status $SHMCREDS_SESSION --json; $SHMCREDS list; \
                  $SHMCREDS remove $SHMCREDS_SESSION; echo $?; $SHMCREDS metrics $SHMCREDS_SESSION; exit 7";
    let output = exec(&sts, &name, script).output().unwrap();
    assert_eq!(code(&output), 7, "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    let sets: BTreeSet<&str> = lines[..4].iter().copied().collect();
    assert_eq!((sets.len(), assumed(&sts)), (1, 1));
    let set: Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(set["Version"], 1);
    assert_eq!(set["AccountId"], "123456789012");
    let expiration = set["Expiration"].as_str().unwrap();
    assert!(expiration.len() == 20 && expiration.ends_with('Z'), "{expiration}");
    assert!(set["SessionToken"].as_str().unwrap().len() > 50);
    let status: Value = serde_json::from_str(lines[4]).unwrap();
    assert_eq!((&status["state"], &status["source_calls"]), (&"fresh".into(), &1.into()));
    assert!(status["source"].as_str().unwrap().contains("role/app"));
    assert!(lines[5..].contains(&name.as_str()));
    assert!(lines[5..].contains(&"73"), "a live session is not removed");
    assert!(said.contains("shmcreds_source_calls_total 1\n"), "{said}");
    assert_gone(&name);
}

#[test]
fn the_environment_leads_to_the_endpoint_alone() {
    let sts = LocalSts::start().unwrap();
    let name = name("environment");
    let mut command = exec(&sts, &name, "env");
    command
        .env("AWS_PROFILE", "x")
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", "x")
        .env_remove("AWS_PROFILE");
    let said = text(&command.output().unwrap().stdout);
    for gone in ["AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_WEB_IDENTITY_TOKEN_FILE="] {
        assert!(!said.contains(gone), "{gone}");
    }
    for there in
        ["AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "AWS_CONFIG_FILE=/dev/null"]
    {
        assert!(said.contains(there), "{there}");
    }
    assert!(said.contains(&format!("SHMCREDS_SESSION={name}")));
}

#[test]
fn exit_codes_say_what_happened() {
    let sts = LocalSts::start().unwrap();
    let of = |arguments: &[&str]| {
        let output = shmcreds(&sts).args(arguments).output().unwrap();
        (code(&output), text(&output.stderr))
    };
    let run = |program: &[&str]| {
        let name = name("code");
        let all = [&["exec", "--name", &name], &ROLE[..], &["--"], program].concat();
        let outcome = of(&all);
        assert_gone(&name);
        outcome
    };
    assert_eq!(run(&["/bin/true"]).0, 0);
    assert_eq!(run(&["/bin/sh", "-c", "kill -9 $$"]).0, 128 + 9);
    let (code, said) = run(&["no-such-program"]);
    assert!(code == 127 && said.contains("no-such-program"), "{said}");
    assert_eq!(run(&["/dev/null"]).0, 126);
    let (code, said) = of(&["exec", "--role-arn", "x", "--", "true"]);
    assert!(code == 64 && said.contains("role_arn has 1 characters"), "{said}");
    assert_eq!(of(&["exec", "--no-such-option", "--", "true"]).0, 64);
    assert_eq!(of(&["exec", "--imds", "--container", "--", "true"]).0, 64);
    assert_eq!(of(&["exec", "--sealed", "--deferred", "--", "true"]).0, 64);
    assert_eq!(of(&["exec", "--config", "/no/such/file", "--", "true"]).0, 66);
    assert_eq!(of(&["status", "absent-session"]).0, 3);
    assert_eq!(of(&["credentials", "absent-session"]).0, 69);
    assert_eq!(of(&["remove", "absent-session"]).0, 69);
    assert_eq!(of(&["credentials", "not/a/name"]).0, 64);
    assert_eq!(of(&["--version"]).0, 0);
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let (code, said) = run(&["/bin/echo", "started"]);
    assert!(code == 69 && said.contains("AccessDenied") && !said.contains("started"), "{said}");
    assert!(!said.contains(BASE_SECRET));
}

#[test]
fn signals_reach_the_program() {
    let sts = LocalSts::start().unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGINT] {
        let name = name("signal");
        let short = &signal.as_str()[3..];
        let script = format!("trap 'exit 5' {short}; echo ready; while :; do sleep 0.01; done");
        let mut running = Running::start(exec(&sts, &name, &script));
        assert_eq!(running.line(), "ready");
        running.signal(signal);
        assert_eq!(running.wait(), 5, "{signal}");
        assert_gone(&name);
    }
}

#[test]
fn a_signal_ends_it_before_the_program_is_started() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::BlackHole, Times::UntilCleared).unwrap();
    let name = name("early");
    let running = Running::start(exec(&sts, &name, "echo started"));
    support::until("it asks STS", || assumed(&sts) == 1);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 128 + 15);
    assert_gone(&name);
}

#[test]
fn nothing_outlives_it() {
    let sts = LocalSts::start().unwrap();
    // What CMD leaves behind is told to end, and killed where it does not.
    let name = name("orphans");
    let script = "(trap '' TERM; sleep 1000) & sleep 1000 & exit 3";
    let mut running = Running::start(exec(&sts, &name, script));
    assert_eq!(running.silence(), "");
    assert_eq!(running.wait(), 3);
    assert_gone(&name);
    // Killed itself, it takes CMD with it; the next one clears up.
    let mut command = shmcreds(&sts);
    command.arg("exec").args(ROLE).args([
        "--",
        "/bin/sh",
        "-c",
        "echo $SHMCREDS_SESSION; exec sleep 1000",
    ]);
    let mut running = Running::start(command);
    let name = running.line();
    running.signal(Signal::SIGKILL);
    assert_eq!(running.silence(), "");
    let mut command = shmcreds(&sts);
    command.arg("exec").args(ROLE).args(["--", "/bin/true"]);
    assert_eq!(code(&command.output().unwrap()), 0);
    assert_gone(&name);
}

#[test]
fn a_sealed_session_is_passed_to_the_program() {
    let sts = LocalSts::start().unwrap();
    let name = name("sealed");
    let mut command = shmcreds(&sts);
    command.args(["exec", "--sealed", "--name", &name]).args(ROLE);
    command.args([
        "--",
        "/bin/sh",
        "-c",
        "$SHMCREDS credentials $SHMCREDS_SESSION; $SHMCREDS list",
    ]);
    let output = command.output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let set: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert!(set["AccessKeyId"].as_str().unwrap().starts_with("ASIA"));
    assert!(!said.lines().skip(1).any(|line| line == name));
    assert_eq!(assumed(&sts), 1);
}

#[test]
fn the_endpoint_refuses_what_it_must() {
    let sts = LocalSts::start().unwrap();
    let (running, url, token) = kept(&sts, &name("refusals"));
    let own = format!("Authorization: {token}\r\n");
    let host = address(&url);
    let set = credentials(&url, &token);
    for field in ["AccessKeyId", "SecretAccessKey", "Token", "Expiration"] {
        assert!(set[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    let secret = set["SecretAccessKey"].as_str().unwrap();
    let wrong = token.replace(|c| c != '0', "0");
    let huge = format!("X-Filler: {}\r\n", "x".repeat(100_000));
    for (request, expected) in [
        (format!("GET /credentials HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"), 403),
        (
            format!(
                "GET /credentials HTTP/1.1\r\nHost: {host}\r\nAuthorization: {wrong}\r\nConnection: close\r\n\r\n"
            ),
            403,
        ),
        (
            format!(
                "GET /credentials HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}x\r\nConnection: close\r\n\r\n"
            ),
            403,
        ),
        (
            format!(
                "GET /credentials HTTP/1.1\r\nHost: {host}\r\n{own}X-Forwarded-For: 10.0.0.1\r\nConnection: close\r\n\r\n"
            ),
            400,
        ),
        (
            format!(
                "GET /credentials HTTP/1.1\r\nHost: {host}\r\n{own}Forwarded: for=1\r\nConnection: close\r\n\r\n"
            ),
            400,
        ),
        (
            format!(
                "GET /credentials HTTP/1.1\r\nHost: evil.example\r\n{own}Connection: close\r\n\r\n"
            ),
            400,
        ),
        (format!("GET /credentials HTTP/1.1\r\n{own}Connection: close\r\n\r\n"), 400),
        (
            format!(
                "POST /credentials HTTP/1.1\r\nHost: {host}\r\n{own}Content-Length: 0\r\nConnection: close\r\n\r\n"
            ),
            405,
        ),
        (format!("GET /other HTTP/1.1\r\nHost: {host}\r\n{own}Connection: close\r\n\r\n"), 404),
        (format!("GET /credentials HTTP/1.1\r\nHost: {host}\r\n{huge}\r\n"), 431),
        ("not HTTP at all\r\n\r\n".to_owned(), 400),
    ] {
        let (status, answer) = raw(&url, &request);
        assert_eq!(status, expected, "{answer}");
        assert!(!answer.contains(secret) && !answer.contains(&token));
    }
    for (path, expected) in [("/live", 200), ("/ready", 200), ("/metrics", 200)] {
        assert_eq!(get(&url, path, "").0, expected, "{path}");
    }
    assert_eq!(credentials(&url, &token), set);
    assert_eq!(assumed(&sts), 1);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
}

#[test]
fn idle_and_slow_clients_keep_nobody_waiting() {
    let sts = LocalSts::start().unwrap();
    let (running, url, token) = kept(&sts, &name("idle"));
    let connect = || TcpStream::connect(address(&url)).unwrap();
    let idle: Vec<_> = (0..200).map(|_| connect()).collect();
    let mut slow: Vec<_> = (0..200).map(|_| connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /credentials HTTP/1.1\r\nHo").unwrap();
    }
    let set = credentials(&url, &token);
    assert!(set["AccessKeyId"].is_string());
    assert_eq!(idle.len() + slow.len(), 400);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
}

#[test]
fn a_rotation_is_seen_by_the_next_request() {
    let sts = LocalSts::start().unwrap();
    let name = name("rotation");
    let (_running, url, token) = kept(&sts, &name);
    let first = credentials(&url, &token);
    let output = shmcreds(&sts).args(["refresh", &name]).output().unwrap();
    assert_eq!((code(&output), text(&output.stdout)), (0, "generation 2\n".into()));
    let second = credentials(&url, &token);
    assert_ne!(first["AccessKeyId"], second["AccessKeyId"]);
    // An outage changes nothing for those who read, and shows in the status.
    sts.inject(Fault::Status(503), Times::UntilCleared).unwrap();
    let output = shmcreds(&sts).args(["refresh", &name]).output().unwrap();
    assert_eq!(code(&output), 69);
    assert_eq!(credentials(&url, &token), second);
    let output = shmcreds(&sts).args(["status", &name]).output().unwrap();
    assert_eq!(code(&output), 1);
    let said = text(&output.stdout);
    assert!(said.contains("last failure (transient)") && !said.contains('\x1b'), "{said}");
    assert_eq!(get(&url, "/ready", "").0, 200);
}

#[test]
fn a_sidecar_keeps_its_session_until_it_is_told_to_end() {
    let sts = LocalSts::start().unwrap();
    let name = name("sidecar");
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let config = folder.path().join("shmcreds.toml");
    let text = format!(
        "role-arn = \"{}\"\nexternal-id = \"tenant-42\"\ntag = [\"team=web\", \"stage=test\"]\ntoken-file = {token:?}\n",
        ROLE[1]
    );
    std::fs::write(&config, text).unwrap();
    let mut command = shmcreds(&sts);
    command.args(["serve", "--name", &name, "--config"]).arg(&config);
    let mut running = Running::start(command);
    let url = running.line();
    let written = std::fs::read_to_string(&token).unwrap();
    assert_eq!(written.trim(), written, "no newline");
    assert_eq!(token.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    support::until("it is ready", || get(&url, "/ready", "").0 == 200);
    assert!(credentials(&url, &written)["Token"].is_string());
    let call = &sts.calls().unwrap()[0];
    assert_eq!(call.parameters["Tags.member.2.Value"], "test");
    assert!(call.parameters.contains_key("ExternalId"));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert!(!token.exists());
    assert_gone(&name);
}

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
