//! The endpoint: what it answers, what it refuses, what it bears.

use std::{io::Write, net::TcpStream};

use nix::sys::signal::Signal;
use shmcreds::testing::{Fault, LocalSts, Times};

use crate::harness::*;

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
