//! What all the tests of the command line use.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use shmcreds::testing::LocalSts;

use crate::support::LIMIT;
pub use crate::support::{BASE_SECRET, assumed, name, segment, until};

pub const BINARY: &str = env!("CARGO_BIN_EXE_shmcreds");

/// `shmcreds` with an environment in which nothing but `sts` is AWS.
pub fn shmcreds(sts: &LocalSts) -> Command {
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
        .env("SHMCREDS", BINARY)
        .env_remove("NO_COLOR");
    command
}

pub const ROLE: [&str; 2] = ["--role-arn", "arn:aws:iam::123456789012:role/app"];

/// `shmcreds exec` of a shell script.
pub fn exec(sts: &LocalSts, name: &str, script: &str) -> Command {
    let mut command = shmcreds(sts);
    command.args(["exec", "--name", name]).args(ROLE).args(["--", "/bin/sh", "-c", script]);
    command
}

pub fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{:?}: {}", output.status, text(&output.stderr)))
}

/// What a program gave that must end soon.
pub fn ended_soon(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Read meanwhile: who says more than a pipe holds does not end before.
    let stdout = read_beside(child.stdout.take().unwrap());
    let stderr = read_beside(child.stderr.take().unwrap());
    let end = Instant::now() + LIMIT;
    let rest = || end.saturating_duration_since(Instant::now());
    let said = [stdout.recv_timeout(rest()), stderr.recv_timeout(rest())];
    while child.try_wait().unwrap().is_none() {
        if rest().is_zero() {
            child.kill().unwrap();
            panic!("it hangs: {command:?}");
        }
        sleep(Duration::from_millis(5));
    }
    let [stdout, stderr] = said.map(|said| said.expect("what it has started still speaks"));
    Output { status: child.wait().unwrap(), stdout, stderr }
}

/// All that comes out of a pipe, once it is closed.
fn read_beside(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    spawn(move || {
        let mut said = Vec::new();
        pipe.read_to_end(&mut said).unwrap();
        // The test may have given up.
        let _ = sender.send(said);
    });
    receiver
}

/// What it said.
pub fn said_soon(command: Command) -> String {
    let output = ended_soon(command);
    text(&output.stdout) + &text(&output.stderr)
}

pub fn assert_gone(name: &str) {
    assert!(!Path::new(&segment(name)).exists(), "the segment of {name} is left");
    assert!(!Path::new(&crate::support::lock(name)).exists(), "the locks of {name} are left");
    assert!(!Path::new(&(segment(name) + "@ask")).exists(), "the socket of {name} is left");
}

/// A running `exec` or `serve`, with what it has said.
pub struct Running {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Running { child, lines }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until nobody can say anything any more: this process, CMD, and what that started.
    pub fn silence(&mut self) -> String {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        rest
    }

    pub fn wait(mut self) -> i32 {
        self.silence();
        self.child.wait().unwrap().code().unwrap()
    }

    /// Waits for its end, however that comes.
    pub fn wait_for_end(&mut self) {
        self.silence();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A session whose CMD waits for SIGTERM; its URL and token.
pub fn kept(sts: &LocalSts, name: &str) -> (Running, String, String) {
    let script = "echo $AWS_CONTAINER_CREDENTIALS_FULL_URI; echo $AWS_CONTAINER_AUTHORIZATION_TOKEN; \
                  trap 'exit 0' TERM; while :; do sleep 0.01; done";
    let mut running = Running::start(exec(sts, name, script));
    let (url, token) = (running.line(), running.line());
    until("its refresher stands", || refresher_stands(sts, name));
    (running, url, token)
}

/// Whether the refresher of an eager session has begun its work. The first set may be fetched by any process that
/// asks for it, who is elected for that one call, in a thread of its own.
fn refresher_stands(sts: &LocalSts, name: &str) -> bool {
    let refresher = || status(sts, name).0["refresher"].clone();
    let calling = |pid: &Value| threads(pid).iter().any(|thread| thread == "shmcreds-fetch");
    !calling(&refresher()["pid"]) && refresher()["alive"] == true
}

/// The names of a process's threads.
fn threads(pid: &Value) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let names = tasks.into_iter().flatten().flatten();
    let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).collect()
}

/// Sends `request` as it is; gives the status and the whole answer.
pub fn raw(url: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address(url)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A server that does not read all of a huge request resets it after its answer.
    let _ = stream.read_to_end(&mut answer);
    let answer = text(&answer);
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    (status, answer)
}

pub fn address(url: &str) -> &str {
    url.strip_prefix("http://").unwrap().split('/').next().unwrap()
}

pub fn get(url: &str, path: &str, headers: &str) -> (u16, String) {
    let host = address(url);
    raw(url, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close\r\n\r\n"))
}

pub fn credentials(url: &str, token: &str) -> Value {
    let (status, answer) = get(url, "/credentials", &format!("Authorization: {token}\r\n"));
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

/// `shmcreds serve`.
pub fn serve(sts: &LocalSts, name: &str) -> Command {
    let mut command = shmcreds(sts);
    command.args(["serve", "--name", name]).args(ROLE);
    command
}

/// A sidecar that has its first set and refreshes it.
pub fn served(sts: &LocalSts, name: &str) -> (Running, String) {
    let mut running = Running::start(serve(sts, name));
    let url = running.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    until("its refresher stands", || refresher_stands(sts, name));
    (running, url)
}

/// What `shmcreds status NAME --json` says, and its exit code.
pub fn status(sts: &LocalSts, name: &str) -> (Value, i32) {
    let output = shmcreds(sts).args(["status", name, "--json"]).output().unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), code(&output))
}

/// The processes that have inherited the variable `MARK` with this value.
pub fn marked(value: &str) -> Vec<Pid> {
    let wanted = format!("MARK={value}");
    let has = |pid: &i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(has).map(Pid::from_raw).collect()
}

/// The first child of `pid`'s main thread.
pub fn child_of(pid: Pid) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
}

/// A shell that runs `script` in the environment of `command`, which is its `"$@"`.
pub fn wrapped(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/bash");
    shell.args(["-c", script, "bash"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    shell
}
