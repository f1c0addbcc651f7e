//! `exec`: programs under it, and their ends.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::Stdio,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use shmcreds::testing::{Fault, LocalSts, Times};

use crate::harness::*;

/// What a `credential_process` prints.
const SET: &str = r#"{"Version":1,"AccessKeyId":"ASIAEXAMPLE00001","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}"#;

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

/// Variables that win over the endpoint in one program or another.
const WINNERS: [&str; 26] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CREDENTIAL_FILE",
    "AWS_CREDENTIAL_PROFILES_FILE",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_TOKEN",
    "AMAZON_ACCESS_KEY_ID",
    "AMAZON_SECRET_ACCESS_KEY",
    "AMAZON_SESSION_TOKEN",
    "ACCESS_KEY_ID",
    "SECRET_ACCESS_KEY",
    "EC2_ACCESS_KEY",
    "EC2_SECRET_KEY",
    "EC2_SECURITY_TOKEN",
    "AWSACCESSKEYID",
    "AWSSECRETACCESSKEY",
    "AWSSESSIONTOKEN",
    "BOTO_PATH",
    "BOTO_CONFIG",
];

#[test]
fn the_environment_leads_to_the_endpoint_alone() {
    let sts = LocalSts::start().unwrap();
    let name = name("environment");
    let mut command = exec(&sts, &name, "env");
    command.envs(WINNERS[2..].iter().map(|key| (key, "hush-value")));
    let output = command.output().unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI="), "{}", text(&output.stderr));
    assert!(!said.contains("hush-value"), "{said}");
    for gone in &WINNERS[..WINNERS.len() - 1] {
        assert!(!said.lines().any(|line| line.starts_with(&format!("{gone}="))), "{gone}");
    }
    for there in ["AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1", "BOTO_CONFIG=/dev/null"] {
        assert!(said.contains(there), "{there}");
    }
    assert!(said.contains(&format!("SHMCREDS_SESSION={name}")));
}

#[test]
fn a_proxy_is_never_asked_for_the_endpoint() {
    let sts = LocalSts::start().unwrap();
    // An HTTP client that takes the proxy of the environment for every address.
    let script = "import os, urllib.request as http\n\
                  request = http.Request(os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI'])\n\
                  request.add_header('Authorization', os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN'])\n\
                  print(http.urlopen(request).status)\n\
                  print(os.environ['NO_PROXY'])\nprint(os.environ['no_proxy'])";
    let own = "127.0.0.1,localhost,::1";
    for (given, upper, lower) in [
        (&[][..], own, own),
        (&[("NO_PROXY", "")], own, own),
        (&[("NO_PROXY", "*")], "*", "*"),
        (&[("NO_PROXY", "x,.y")], "x,.y,127.0.0.1,localhost,::1", "x,.y,127.0.0.1,localhost,::1"),
        (&[("NO_PROXY", "*"), ("no_proxy", "x")], "*", "x,127.0.0.1,localhost,::1"),
        (&[("no_proxy", "localhost")], "localhost,127.0.0.1,::1", "localhost,127.0.0.1,::1"),
    ] {
        let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        proxy.set_nonblocking(true).unwrap();
        let url = format!("http://{}", proxy.local_addr().unwrap());
        let mut command = shmcreds(&sts);
        command.args(["exec", "--process", "/bin/echo", "--process-arg", SET]);
        command.args(["--", "python3", "-c", script]);
        for key in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env(key, &url);
        }
        command.env_remove("NO_PROXY").env_remove("no_proxy").envs(given.iter().copied());
        // Without an answer of the proxy, the client would wait for one.
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let asked = loop {
            if proxy.accept().is_ok() {
                child.kill().unwrap();
                break true;
            }
            if child.try_wait().unwrap().is_some() {
                break proxy.accept().is_ok();
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let output = child.wait_with_output().unwrap();
        assert!(!asked, "the proxy got the request, with the token: {given:?}");
        let said = text(&output.stdout);
        assert_eq!(said, format!("200\n{upper}\n{lower}\n"), "{}", text(&output.stderr));
    }
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
fn a_first_failure_that_may_pass_does_not_end_it() {
    for fault in [Fault::Throttling, Fault::Status(503), Fault::Reset] {
        let sts = LocalSts::start().unwrap();
        let what = format!("{fault:?}");
        sts.inject(fault, Times::Next(3)).unwrap();
        for options in [&[][..], &["--sealed"], &["--deferred"]] {
            let name = name("passes");
            let mut command = shmcreds(&sts);
            command.args(["exec", "--name", &name, "--max-attempts", "1"]).args(ROLE).args(options);
            let output = command.args(["--", "/bin/echo", "started"]).output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(
                (code(&output), text(&output.stdout).as_str()),
                (0, "started\n"),
                "{what}: {said}"
            );
            assert_gone(&name);
            sts.inject(Fault::Status(500), Times::Next(1)).unwrap();
        }
    }
}

#[test]
fn a_service_that_is_up_later_is_waited_for() {
    let sts = LocalSts::start().unwrap();
    // Nobody else gets the port, and connections are refused until somebody listens.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = bound.local_addr().unwrap();
    let mut command = exec(&sts, &name("later"), "echo started");
    command.env("AWS_ENDPOINT_URL_STS", format!("http://{address}"));
    let mut running = Running::start(command);
    let mut log = BufReader::new(running.child.stderr.take().unwrap());
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("Connection refused"), "{line}");
    // It has failed once; now there is somebody who passes all on.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let listener = runtime.block_on(async { bound.listen(16).unwrap().into_std().unwrap() });
    listener.set_nonblocking(false).unwrap();
    let real = sts.url().strip_prefix("http://").unwrap().to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = std::net::TcpStream::connect(&real).unwrap();
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let copy = |(mut from, mut to): (std::net::TcpStream, std::net::TcpStream)| {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            };
            copy((from, to));
            copy((server, client));
        }
    });
    assert_eq!(running.line(), "started");
    assert_eq!(running.wait(), 0);
}

#[test]
fn the_deadline_ends_what_does_not_pass_and_a_refusal_ends_it_at_once() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::Status(503), Times::UntilCleared).unwrap();
    let run = |deadline: &str| {
        let mut command = shmcreds(&sts);
        command.args(["exec", "--name", &name("ends"), "--max-attempts", "1"]).args(ROLE);
        let began = std::time::Instant::now();
        let output = command.args(["--deadline", deadline, "--", "/bin/echo", "started"]).output();
        (output.unwrap(), began.elapsed())
    };
    // A busy machine may take longer for two calls.
    for deadline in [2, 20, 60] {
        let (output, took) = run(&deadline.to_string());
        let said = text(&output.stderr);
        assert_eq!(code(&output), 69, "{said}");
        assert!(took.as_secs() >= deadline, "{took:?}");
        assert!(said.contains("no credentials (transient)"), "{said}");
        if assumed(&sts) >= 2 {
            break;
        }
        sts.clear_calls().unwrap();
    }
    assert!(assumed(&sts) >= 2, "{} calls", assumed(&sts));
    sts.clear_faults().unwrap();
    let asked = assumed(&sts);
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let (output, took) = run("600");
    assert_eq!((code(&output), assumed(&sts)), (69, asked + 1), "{}", text(&output.stderr));
    assert!(took.as_secs() < 60, "{took:?}");
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
    until("it asks STS", || assumed(&sts) == 1);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 128 + 15);
    assert_gone(&name);
}

#[test]
fn what_the_program_leaves_behind_is_ended() {
    let sts = LocalSts::start().unwrap();
    // It is told to, and killed where it does not.
    let name = name("orphans");
    let script = "(trap '' TERM; sleep 1000) & sleep 1000 & exit 3";
    let mut running = Running::start(exec(&sts, &name, script));
    assert_eq!(running.silence(), "");
    assert_eq!(running.wait(), 3);
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
