//! The endpoint: what it answers, what it refuses, what it bears.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use serde_json::Value;
use shmcreds::testing::{Fault, LocalSts, Settings, Times};

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
fn slow_clients_are_cut_off_and_keep_nobody_waiting() {
    let sts = LocalSts::start().unwrap();
    let (running, url, token) = kept(&sts, &name("slow"));
    let connect = || TcpStream::connect(address(&url)).unwrap();
    let mut idle: Vec<_> = (0..100).map(|_| connect()).collect();
    let mut slow: Vec<_> = (0..100).map(|_| connect()).collect();
    let set = credentials(&url, &token);
    let request =
        format!("GET /credentials HTTP/1.1\r\nAuthorization: {token}\r\nX: {}", "x".repeat(5000));
    let mut bytes = request.bytes();
    // A byte now and then, until the server has had enough of all of them.
    until("slow clients are cut off", || {
        let byte = [bytes.next().unwrap()];
        slow.retain_mut(|stream| stream.write_all(&byte).is_ok());
        assert_eq!(credentials(&url, &token), set, "a legitimate client is served meanwhile");
        std::thread::sleep(Duration::from_millis(50));
        slow.is_empty()
    });
    for stream in &mut idle {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty(), "{}", text(&answer));
    }
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
}

/// Reads one answer with a body whose length is said.
fn answer(stream: &mut BufReader<TcpStream>) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "closed after {head:?}");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), text(&body))
}

#[test]
fn a_connection_serves_many_requests() {
    let sts = LocalSts::start().unwrap();
    let (_running, url, token) = kept(&sts, &name("keep-alive"));
    let host = address(&url);
    let of = |token: &str| {
        format!("GET /credentials HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\r\n")
    };
    let mut stream = BufReader::new(TcpStream::connect(host).unwrap());
    let mut bodies = BTreeSet::new();
    for _ in 0..500 {
        stream.get_mut().write_all(of(&token).as_bytes()).unwrap();
        let (status, body) = answer(&mut stream);
        assert_eq!(status, 200, "{body}");
        bodies.insert(body);
    }
    // A refusal does not end the connection, and nothing of the answers before is in it.
    stream.get_mut().write_all((of("wrong") + &of(&token)).as_bytes()).unwrap();
    let (status, refused) = answer(&mut stream);
    assert_eq!(status, 403);
    assert_eq!(answer(&mut stream).0, 200);
    let set: Value = serde_json::from_str(bodies.first().unwrap()).unwrap();
    assert!(!refused.contains(set["SecretAccessKey"].as_str().unwrap()));
    assert_eq!(bodies.len(), 1);
}

#[test]
fn nonsense_is_refused_and_harms_nobody() {
    let sts = LocalSts::start().unwrap();
    let (_running, url, token) = kept(&sts, &name("nonsense"));
    let host = address(&url);
    let set = credentials(&url, &token);
    let secret = set["SecretAccessKey"].as_str().unwrap();
    let line = "GET /credentials HTTP/1.1\r\n";
    let own = format!("Host: {host}\r\nAuthorization: {token}\r\n");
    let many: String = (0..2000).map(|number| format!("X-{number}: x\r\n")).collect();
    for (request, expected) in [
        ("\0\0\0\0\r\n\r\n".to_owned(), 400),
        ("GET\r\n\r\n".to_owned(), 400),
        (format!("GET /credentials HTTP/9.9\r\n{own}\r\n"), 400),
        (format!("GET  /credentials  HTTP/1.1\r\n{own}\r\n"), 400),
        (format!("GET /{} HTTP/1.1\r\n{own}\r\n", "x".repeat(100_000)), 431),
        (format!("{line}{own}{many}\r\n"), 431),
        (format!("{line}{own}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400),
        (format!("{line}{own}Transfer-Encoding: nonsense\r\n\r\n"), 400),
        (format!("{line}{own} no colon\r\n\r\n"), 400),
        (format!("{line}Host: {host}\r\nAuthorization: {token}\0\r\n\r\n"), 400),
        (format!("OPTIONS * HTTP/1.1\r\n{own}Connection: close\r\n\r\n"), 405),
        (format!("CONNECT {host} HTTP/1.1\r\n{own}Connection: close\r\n\r\n"), 405),
        ("\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03".to_owned() + "\r\n\r\n", 400),
    ] {
        let (status, answer) = raw(&url, &request);
        let shown = &request[..request.len().min(80)];
        assert_eq!(status, expected, "{shown:?}: {answer}");
        assert!(!answer.contains(secret) && !answer.contains(&token), "{shown:?}");
    }
    assert_eq!(credentials(&url, &token), set);
}

#[test]
fn ten_thousand_clients_at_once_are_served() {
    let sts = LocalSts::start().unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.max(soft), hard).unwrap();
    // What the tests beside this one need stays free.
    let allowed = usize::try_from(hard.saturating_sub(2000)).unwrap_or(usize::MAX);
    let crowd = allowed.min(10_000);
    assert!(crowd == 10_000 || hard < 12_000, "{crowd} of {hard}");
    let (_running, url, token) = kept(&sts, &name("crowd"));
    let host = address(&url);
    let request =
        format!("GET /credentials HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\r\n");
    let set = credentials(&url, &token);
    // All ask before anybody reads.
    let ask = |_| {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::with_capacity(512, stream)
    };
    let mut clients: Vec<_> = (0..crowd).map(ask).collect();
    for client in &mut clients {
        let (status, body) = answer(client);
        assert_eq!(status, 200, "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), set);
    }
    assert_eq!((clients.len(), assumed(&sts)), (crowd, 1));
    assert_eq!(credentials(&url, &token), set);
}

/// A sidecar with room for twenty connections.
fn small(sts: &LocalSts, name: &str) -> (Running, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let mut command = serve(sts, name);
    command.arg("--token-file").arg(&file);
    let mut running = Running::start(wrapped("ulimit -n 84; exec \"$@\"", &command));
    let url = running.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    (running, url, std::fs::read_to_string(&file).unwrap())
}

fn keep_alive(
    url: &str,
    path: &str,
    headers: &str,
) -> std::io::Result<(BufReader<TcpStream>, u16)> {
    let mut stream = TcpStream::connect(address(url))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", address(url));
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok((reader, status))
}

#[test]
fn more_clients_than_there_is_room_for_are_served_one_answer_each() {
    let sts = LocalSts::start().unwrap();
    let (_running, url, token) = small(&sts, &name("full"));
    let own = format!("Authorization: {token}\r\n");
    // Fifteen keep their connections; all others are served, and closed.
    let (mut kept, mut closed) = (Vec::new(), 0);
    for _ in 0..40 {
        let (mut reader, status) = keep_alive(&url, "/credentials", &own).unwrap();
        assert_eq!(status, 200);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0);
        }
        match head.contains("connection: close") {
            true => closed += 1,
            false => kept.push(reader),
        }
    }
    assert_eq!((kept.len(), closed), (15, 25));
    drop(kept);
    until("there is room again", || {
        let (mut reader, _) = keep_alive(&url, "/credentials", &own).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0);
        }
        !head.contains("connection: close")
    });
}

/// Takes connections and keeps them, as long as it can: those that say nothing, and those that ask without
/// the token.
fn hold_connections(url: &str, silent: bool, over: &AtomicBool) -> usize {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address(url)) else { continue };
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        count += 1;
        let ask = match silent {
            true => String::new(),
            false => format!("GET /live HTTP/1.1\r\nHost: {}\r\n\r\n", address(url)),
        };
        let mut bytes = [0; 512];
        while !over.load(Ordering::Relaxed) && stream.write_all(ask.as_bytes()).is_ok() {
            let is_closed = |kind| !matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut);
            match stream.read(&mut bytes) {
                Ok(0) => break,
                Err(error) if is_closed(error.kind()) => break,
                _ => {}
            }
        }
    }
    count
}

#[test]
fn clients_without_the_token_keep_out_nobody_who_has_it() {
    let sts = LocalSts::start().unwrap();
    let (_running, url, token) = small(&sts, &name("flood"));
    let over = AtomicBool::new(false);
    let held = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..60 {
            let (url, over, held) = (&url, &over, &held);
            scope.spawn(move || {
                let count = hold_connections(url, number % 2 == 0, over);
                held.fetch_add(count, Ordering::Relaxed);
            });
        }
        let outcome = std::panic::catch_unwind(|| honest(&url, &token));
        over.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(held.load(Ordering::Relaxed) > 60, "the others were closed, and came again");
}

/// A client that keeps one connection, and others that make one for each request: all are served.
fn honest(url: &str, token: &str) {
    let own = format!("Authorization: {token}\r\n");
    let request = format!("GET /credentials HTTP/1.1\r\nHost: {}\r\n{own}\r\n", address(url));
    let mut kept = BufReader::new(TcpStream::connect(address(url)).unwrap());
    for _ in 0..100 {
        kept.get_mut().write_all(request.as_bytes()).unwrap();
        assert_eq!(answer(&mut kept).0, 200);
        let (status, said) = get(url, "/credentials", &own);
        assert_eq!(status, 200, "{said}");
    }
}

#[test]
fn every_name_of_this_address_is_accepted_and_no_other() {
    let sts = LocalSts::start().unwrap();
    let (_running, url, token) = kept(&sts, &name("names"));
    let host = address(&url);
    let port = host.split(':').nth(1).unwrap();
    let own = format!("Authorization: {token}\r\nConnection: close\r\n");
    let full = format!("http://{host}/credentials");
    for (target, headers, expected) in [
        ("/credentials", format!("Host: {host}\r\n"), 200),
        ("/credentials", "Host: 127.0.0.1\r\n".to_owned(), 200),
        ("/credentials", "Host: 127.0.0.1:\r\n".to_owned(), 200),
        ("/credentials", "Host: localhost\r\n".to_owned(), 200),
        ("/credentials", format!("Host: LocalHost:{port}\r\n"), 200),
        ("/credentials?x=1", format!("Host: {host}\r\n"), 200),
        (&full, format!("Host: {host}\r\n"), 200),
        ("/credentials", "Host: 127.0.0.1:1\r\n".to_owned(), 400),
        ("/credentials", "Host: 127.0.0.1:x\r\n".to_owned(), 400),
        ("/credentials", "Host: 127.0.0.10\r\n".to_owned(), 400),
        ("/credentials", "Host: 127.0.0.1.example.com\r\n".to_owned(), 400),
        ("/credentials", format!("Host: localhost.example.com:{port}\r\n"), 400),
        ("/credentials", format!("Host: user@127.0.0.1:{port}\r\n"), 400),
        ("/credentials", format!("Host: {host}\r\nHost: evil.example\r\n"), 400),
        ("/credentials", String::new(), 400),
        ("http://evil.example/credentials", format!("Host: {host}\r\n"), 400),
        (&full, "Host: evil.example\r\n".to_owned(), 400),
    ] {
        let (status, said) = raw(&url, &format!("GET {target} HTTP/1.1\r\n{headers}{own}\r\n"));
        assert_eq!(status, expected, "{target} {headers}: {said}");
    }
    for (headers, expected) in [(String::new(), 200), (format!("Host: {host}\r\n"), 200)] {
        let (status, said) = raw(&url, &format!("GET /credentials HTTP/1.0\r\n{headers}{own}\r\n"));
        assert_eq!(status, expected, "{headers}: {said}");
    }
}

#[test]
fn what_a_proxy_has_passed_on_is_refused() {
    let sts = LocalSts::start().unwrap();
    let (_running, url, token) = kept(&sts, &name("proxied"));
    let own = format!("Authorization: {token}\r\n");
    for header in [
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Host: example.com",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 443",
        "X-FORWARDED-SERVER: proxy",
        "Forwarded: for=1",
        "Via: 1.1 proxy",
        "X-Real-IP: 10.0.0.1",
        "X-Client-IP: 10.0.0.1",
        "X-Cluster-Client-IP: 10.0.0.1",
        "True-Client-IP: 10.0.0.1",
        "CF-Connecting-IP: 10.0.0.1",
        "Proxy-Authorization: Basic eDp5",
    ] {
        let (status, said) = get(&url, "/credentials", &format!("{own}{header}\r\n"));
        assert_eq!(status, 400, "{header}: {said}");
        assert!(said.contains("Forwarded"), "{said}");
    }
    assert_eq!(get(&url, "/credentials", &format!("{own}X-Request-Id: 1\r\n")).0, 200);
}

/// The code and the message, in the spelling of both halves of the SDKs.
fn refusal(url: &str, token: &str) -> (u16, String) {
    let (status, answer) = get(url, "/credentials", &format!("Authorization: {token}\r\n"));
    assert!(answer.contains("content-type: application/json"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&body["code"], &body["message"]), (&body["Code"], &body["Message"]));
    (status, format!("{}: {}", body["code"].as_str().unwrap(), body["message"].as_str().unwrap()))
}

#[test]
fn an_outage_is_felt_at_expiry() {
    // On a busy machine, a set may have expired before it is asked for.
    let was_served = [6, 30, 90].into_iter().any(|life| an_outage(Duration::from_secs(life)));
    assert!(was_served);
}

/// Whether the set was served before it expired.
fn an_outage(life: Duration) -> bool {
    let sts = LocalSts::start().unwrap();
    let (settings, name) = (Settings::new().lifetime(life), name("outage"));
    sts.inject(Fault::Under(settings), Times::Next(1)).unwrap();
    sts.inject(Fault::Status(503), Times::UntilCleared).unwrap();
    let (_running, url, token) = kept(&sts, &name);
    let expired = || status(&sts, &name).0["state"] == "expired";
    let (mut served, mut secret, mut key) = (0, String::new(), Value::Null);
    until("the set expires", || {
        let (code, answer) = get(&url, "/credentials", &format!("Authorization: {token}\r\n"));
        match code {
            200 => {
                served += 1;
                let body: Value =
                    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
                secret = body["SecretAccessKey"].as_str().unwrap().to_owned();
                key = body["AccessKeyId"].clone();
            }
            // An error is none before the set has expired.
            _ => assert!(expired(), "{answer}"),
        }
        code != 200
    });
    if served == 0 {
        return false;
    }
    let (status, said) = refusal(&url, &token);
    assert_eq!(status, 503, "{said}");
    assert!(said.starts_with("Unavailable: ") || said.starts_with("NotReady: "), "{said}");
    assert!(!said.contains(&secret) && !said.contains(BASE_SECRET), "{said}");
    assert_eq!(get(&url, "/ready", "").0, 503);
    assert_eq!(get(&url, "/live", "").0, 200);
    // Over, it is as before.
    sts.clear_faults().unwrap();
    until("it is ready again", || get(&url, "/ready", "").0 == 200);
    // The embedded STS gives the same secret for the same inputs.
    assert_ne!(credentials(&url, &token)["AccessKeyId"], key);
    true
}

#[test]
fn before_the_first_set_it_answers_in_time() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::BlackHole, Times::UntilCleared).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let mut command = serve(&sts, &name("first"));
    command.arg("--token-file").arg(&file);
    let mut running = Running::start(command);
    let url = running.line();
    let token = std::fs::read_to_string(&file).unwrap();
    // STS does not answer for longer than any client waits; this does.
    let (status, said) = refusal(&url, &token);
    assert_eq!((status, said.as_str()), (503, "NotReady: there is no set yet; ask again"));
    assert_eq!(get(&url, "/ready", "").0, 503);
    assert_eq!(get(&url, "/live", "").0, 200);
    assert_eq!(assumed(&sts), 1);
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

/// Each client that cannot be accepted fails another time every 10 ms.
#[test]
fn clients_without_a_descriptor_do_not_fill_the_log() {
    let sts = LocalSts::start().unwrap();
    let mut running =
        Running::start(wrapped("ulimit -n 40; exec \"$@\"", &serve(&sts, &name("flood"))));
    let url = running.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(address(&url)).unwrap()).collect();
    let mut log = BufReader::new(running.child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("could not be accepted") && line.contains("RLIMIT_NOFILE"), "{line}");
    let begun = std::time::Instant::now();
    until("it has failed many times", || begun.elapsed() > Duration::from_millis(500));
    drop(silent);
    until("others are served", || get(&url, "/ready", "").0 == 200);
    running.signal(Signal::SIGTERM);
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    assert_eq!(running.wait(), 0);
}
