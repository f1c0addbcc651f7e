//! `SharedSession::endpoint()`: an endpoint in this process, and what a fork leaves of it.
#![allow(unsafe_code)]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::Instant,
};

use aws_smithy_types::{DateTime, date_time::Format};
use nix::unistd::geteuid;
use shmcreds::{
    SharedSession,
    testing::{LocalSts, ManualClock},
};
use support::{assumed, child, name, role};

fn main() {
    support::run_forking(&[
        ("a_program_finds_the_set_and_nothing_before_it", a_program_finds_the_set),
        ("it_ends_with_the_handle", it_ends_with_the_handle),
        ("a_forked_child_asks_its_parent", a_forked_child_asks_its_parent),
        ("the_socket_of_a_forked_child_accepts_nobody", the_socket_of_a_forked_child),
        ("nothing_shows_the_token", nothing_shows_the_token),
        ("the_expiry_is_by_the_clock_of_the_client", the_expiry_is_by_the_clock_of_the_client),
    ]);
}

fn session(sts: &LocalSts, what: &str) -> SharedSession {
    SharedSession::builder(name(what)).source(role(sts)).create().unwrap()
}

/// The answer for the credentials; an empty text when nobody answers.
fn ask(url: &str, token: &str) -> String {
    ask_for("", url, token)
}

fn ask_for(query: &str, url: &str, token: &str) -> String {
    let host = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let Ok(mut stream) = TcpStream::connect(host) else { return String::new() };
    stream.set_read_timeout(Some(support::LIMIT)).unwrap();
    let request = format!(
        "GET /credentials{query} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\nConnection: close\r\n\r\n"
    );
    let mut answer = String::new();
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// Asks until the answer is a set. Each answer waits less than a second for the first one.
fn until_given(url: &str, token: &str) {
    support::until("the endpoint gives a set", || ask(url, token).contains("AccessKeyId"));
}

/// Whether a thread of this process serves.
fn serves() -> bool {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.any(|name| name == "shmcreds-http\n")
}

fn a_program_finds_the_set() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "handle");
    let endpoint = session.endpoint().unwrap();
    let key = session.credentials().unwrap().access_key_id().to_owned();
    let mut program = Command::new("env");
    program.env("AWS_ACCESS_KEY_ID", "AKIAOTHER").env("AWS_PROFILE", "other");
    program.env("NO_PROXY", "internal").env("AWS_REGION", "eu-west-1");
    endpoint.apply_to(&mut program);
    let seen = String::from_utf8(program.output().unwrap().stdout).unwrap();
    let value = |name: &str| {
        seen.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let url = value("AWS_CONTAINER_CREDENTIALS_FULL_URI").unwrap();
    let token = value("AWS_CONTAINER_AUTHORIZATION_TOKEN").unwrap();
    assert!(ask(&url, &token).contains(&key));
    assert!(ask(&url, "wrong").starts_with("HTTP/1.1 403"));
    let file = value("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), token);
    let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, if geteuid().is_root() { 0o444 } else { 0o600 });
    assert_eq!(value("AWS_ACCESS_KEY_ID"), None);
    assert_eq!(value("AWS_PROFILE"), None);
    assert_eq!(value("AWS_SHARED_CREDENTIALS_FILE").as_deref(), Some("/dev/null"));
    assert!(value("AWS_CONFIG_FILE").is_some());
    assert!(value("NO_PROXY").unwrap().contains("127.0.0.1"));
    assert_eq!(value("AWS_REGION").as_deref(), Some("eu-west-1"));
    assert_eq!(assumed(&sts), 1);
}

fn it_ends_with_the_handle() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "handle-ends");
    let endpoint = session.endpoint().unwrap();
    let (url, token) = (endpoint.url().to_owned(), endpoint.token().to_owned());
    let file = endpoint.token_file().unwrap().to_owned();
    until_given(&url, &token);
    assert!(serves());
    drop(endpoint);
    assert_eq!(ask(&url, &token), "", "nobody answers");
    assert!(!file.exists() && !file.parent().unwrap().exists());
    // A program may fork after it. The kernel lists a joined thread for a moment longer.
    support::until("no thread serves", || !serves());
    let again = session.endpoint().unwrap();
    assert_ne!(again.token(), token);
}

fn a_forked_child_asks_its_parent() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "handle-fork");
    let mut endpoint = Some(session.endpoint().unwrap());
    let worker = child(|_| {
        // The child's copy removes nothing, and ends nothing.
        let copy = endpoint.take().unwrap();
        let (url, token) = (copy.url().to_owned(), copy.token().to_owned());
        drop(copy);
        until_given(&url, &token);
    });
    worker.finish();
    let endpoint = endpoint.unwrap();
    assert!(endpoint.token_file().unwrap().exists());
    assert!(ask(endpoint.url(), endpoint.token()).contains("AccessKeyId"));
}

fn the_socket_of_a_forked_child() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "handle-socket");
    let endpoint = session.endpoint().unwrap();
    let (url, token) = (endpoint.url().to_owned(), endpoint.token().to_owned());
    let end = support::StopFile::new(&name("handle-socket-end"));
    let path = end.path().to_owned();
    let mut worker = child(|report| {
        report.say("r");
        support::until("the parent is done", || path.exists());
    });
    worker.hear();
    drop(endpoint);
    // The child has the socket. A client would wait for an answer until its time-out.
    assert_eq!(ask(&url, &token), "");
    end.write();
    worker.finish();
}

fn nothing_shows_the_token() {
    let sts = LocalSts::start().unwrap();
    let endpoint = session(&sts, "handle-debug").endpoint().unwrap();
    let text = format!("{endpoint:?}");
    assert!(text.contains(endpoint.url()) && !text.contains(endpoint.token()), "{text}");
}

fn the_expiry_is_by_the_clock_of_the_client() {
    let sts = LocalSts::start().unwrap();
    let (clock, made) = (ManualClock::new().unwrap(), Instant::now());
    let builder = SharedSession::builder(name("handle-clock")).source(role(&sts)).clock(&clock);
    let session = builder.create().unwrap();
    // The endpoint waits for the first set for less than a second.
    session.credentials().unwrap();
    // STS has the clock of the machine, which has gone on meanwhile. Both are read in whole seconds.
    let most = 3600 + made.elapsed().as_secs() as i64 + 1;
    let endpoint = session.endpoint().unwrap();
    let expiration = |query: &str| {
        let answer = ask_for(query, endpoint.url(), endpoint.token());
        let (_, rest) =
            answer.split_once("\"Expiration\":\"").unwrap_or_else(|| panic!("{answer}"));
        let text = rest.split('"').next().unwrap();
        DateTime::from_str(text, Format::DateTime).unwrap().secs()
    };
    let now = || DateTime::from(clock.wall()).secs();
    // SDKs would not use a set that seems to have expired, and would keep one that seems to last for another day.
    for step in [0, 86_400, -2 * 86_400] {
        clock.step_wall(step);
        for query in ["", "?valid_for=60"] {
            let left = expiration(query) - now();
            assert!((3590..=most).contains(&left), "{left} s after a step of {step} s, {query:?}");
        }
    }
    assert_eq!(assumed(&sts), 1);
}
