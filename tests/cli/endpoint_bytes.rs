//! What a client may send to the endpoint: anything.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use shmcreds::testing::LocalSts;

use crate::{choices::Choices, harness::*};

/// More than an answer takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_client_may_send_anything() {
    let sts = LocalSts::start().unwrap();
    let (running, url, token) = kept(&sts, &name("bytes"));
    let set = credentials(&url, &token);
    let secret = set["SecretAccessKey"].as_str().unwrap();
    // As long as the token of a client that may ask, and another.
    let wrong = token.replace(|c| c != '0', "0");
    let host = address(&url);
    let valid = format!(
        "GET /credentials HTTP/1.1\r\nHost: {host}\r\nAuthorization: {wrong}\r\nContent-Length: 3\r\n\r\nabc"
    );
    let config = Config { cases: 512, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&vec(any::<u8>(), 0..300), |data| {
        let choices = &mut Choices::new(&data);
        let request = match choices.byte() % 4 {
            0 => choices.rest().to_vec(),
            _ => choices.mutated(valid.as_bytes()),
        };
        let answer = String::from_utf8_lossy(&send(host, &request)).into_owned();
        prop_assert!(!answer.contains(secret) && !answer.contains(&token), "{answer}");
        prop_assert!(!answer.starts_with("HTTP/1.1 5"), "{answer}");
        Ok(())
    });
    run.unwrap();
    // It has borne all of that.
    assert_eq!(credentials(&url, &token), set);
    running.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
}

/// Sends `request` and nothing more; gives what comes until the endpoint closes the connection.
fn send(host: &str, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    // It may have refused the first half.
    let _ = stream.write_all(request).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("the endpoint keeps a connection whose client has said all")
        }
        _ => answer,
    }
}
