//! `serve` as the agent of a node: its other addresses, its Unix socket, HTTPS, and a group that may read.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
    process::{Command, Output},
};

use nix::{sys::signal::Signal, unistd::geteuid};
use rcgen::{CertificateParams, KeyPair};
use shmcreds::testing::LocalSts;

use crate::harness::*;

const GROUP: &str = "61251";
const STRANGER: &str = "61252";

const SET: &str = r#"{"Version":1,"AccessKeyId":"ASIANODE","SecretAccessKey":"s","SessionToken":"t","Expiration":"2035-01-01T00:00:00Z"}"#;

/// `serve` with a set of its own, which needs no network.
fn agent(name: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--name", name, "--process", "echo", "--process-arg", SET]);
    command
}

/// Runs a program of Python. `wrapper` may make it another user, or put it in namespaces.
fn python(wrapper: &[&str], program: &str, arguments: &[&str]) -> Output {
    let words = [wrapper, &["python3", "-c", program], arguments].concat();
    Command::new(words[0]).args(&words[1..]).output().unwrap()
}

/// Asks on a Unix socket `count` times over one connection, and prints each status and body. `first` is Python that runs
/// before the connection, and `then` before the first request.
fn ask_unix(first: &str, socket: &Path, count: usize, then: &str) -> String {
    let program = format!(
        "import http.client, os, socket, sys\n\
         {first}\n\
         s = socket.socket(socket.AF_UNIX); s.settimeout(60)\n\
         s.connect(sys.argv[1])\n\
         {then}\n\
         c = http.client.HTTPConnection('localhost'); c.sock = s; c.auto_open = 0\n\
         for _ in range(int(sys.argv[2])):\n\
         \x20   try:\n\
         \x20       c.request('GET', '/credentials'); r = c.getresponse()\n\
         \x20       print(r.status, r.read().decode())\n\
         \x20   except (OSError, http.client.HTTPException) as e:\n\
         \x20       print('closed')\n"
    );
    let output = python(&[], &program, &[socket.to_str().unwrap(), &count.to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Python that makes its process another user.
fn becomes(uid: &str, groups: &str) -> String {
    format!("os.setgroups([{groups}]); os.setgid({uid}); os.setuid({uid})")
}

fn user<'a>(uid: &'a str, groups: &'a str) -> Vec<&'a str> {
    let mut words = vec!["setpriv", "--reuid", uid, "--regid", uid];
    words.extend(if groups.is_empty() { vec!["--clear-groups"] } else { vec!["--groups", groups] });
    words
}

/// A directory that others may enter.
fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn a_unix_socket_answers_who_is_allowed() {
    let (folder, name) = (open_folder(), name("unix"));
    let socket = folder.path().join("agent.sock");
    let mut command = agent(&name);
    command.args([
        "--unix",
        socket.to_str().unwrap(),
        "--allow-uid",
        "61253",
        "--allow-gid",
        GROUP,
    ]);
    let mut running = Running::start(command);
    let url = running.line();
    assert_eq!(running.line(), format!("unix:{}", socket.display()));
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    let said = ask_unix("", &socket, 2, "");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("200 ") && lines[0].contains("ASIANODE"), "{said}");
    assert_eq!(lines[1], "closed", "one answer for each connection");
    // Over TCP the token is still needed.
    assert_eq!(get(&url, "/credentials", "").0, 403);
    if geteuid().is_root() {
        for (uid, groups, allowed) in [
            ("61253", "", true),
            ("61254", GROUP, true),
            ("61254", "61255,61251", true),
            (GROUP, "", true),
            (STRANGER, "", false),
            (STRANGER, "61253", false),
        ] {
            let said = ask_unix(&becomes(uid, groups), &socket, 1, "");
            let expected = if allowed { "200 " } else { "403 " };
            assert!(said.starts_with(expected), "{uid} {groups}: {said}");
            if !allowed {
                assert!(
                    said.contains("uid 61252 is not allowed") && !said.contains("ASIA"),
                    "{said}"
                );
            }
        }
        // Who connected counts. A process that changes its user afterwards gets one answer, and no other.
        let said = ask_unix("", &socket, 2, &becomes(STRANGER, ""));
        assert!(said.starts_with("200 ") && said.ends_with("closed\n"), "{said}");
        // A stranger connects, and hands the connection to root, as it does to a program with the setuid bit.
        let program = "import os, socket, sys\n\
             a, b = socket.socketpair()\n\
             if os.fork() == 0:\n\
             \x20   os.setgroups([]); os.setgid(61252); os.setuid(61252)\n\
             \x20   s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
             \x20   socket.send_fds(a, [b'x'], [s.fileno()]); os._exit(0)\n\
             _, fds, _, _ = socket.recv_fds(b, 1, 1)\n\
             s = socket.socket(fileno=fds[0]); s.settimeout(60)\n\
             try: s.sendall(b'GET /credentials HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n\
             except OSError: pass\n\
             print(s.recv(4096).decode())\n";
        let said = python(&[], program, &[socket.to_str().unwrap()]);
        assert!(text(&said.stdout).starts_with("HTTP/1.1 403 "), "{said:?}");
    }
    let second =
        agent(&crate::harness::name("unix")).args(["--unix", socket.to_str().unwrap()]).output();
    let second = second.unwrap();
    assert_eq!(code(&second), 73, "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains("another process listens there"), "{second:?}");
    assert!(ask_unix("", &socket, 1, "").starts_with("200 "));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert!(!socket.exists());
    assert_gone(&name);
}

#[test]
fn a_unix_socket_that_is_left_is_replaced_and_nothing_else() {
    let folder = open_folder();
    let (socket, name) = (folder.path().join("agent.sock"), name("left"));
    let with_socket = || {
        let mut command = agent(&name);
        command.args(["--unix", socket.to_str().unwrap()]);
        command
    };
    let mut killed = Running::start(with_socket());
    killed.line();
    killed.signal(Signal::SIGKILL);
    killed.wait_for_end();
    assert!(socket.exists());
    let mut next = Running::start(with_socket());
    next.line();
    // Another socket has the name now: it is not removed.
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "a file").unwrap();
    next.signal(Signal::SIGTERM);
    assert_eq!(next.wait(), 0);
    assert_gone(&name);
    assert_eq!(fs::read_to_string(&socket).unwrap(), "a file");
    let refused = |expected: i32, says: &str| {
        let output = with_socket().output().unwrap();
        let said = text(&output.stderr);
        assert!(code(&output) == expected && said.contains(says), "{says}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    };
    refused(73, "is no socket");
    fs::remove_file(&socket).unwrap();
    symlink("/dev/null", &socket).unwrap();
    refused(73, "is no socket");
    fs::remove_file(&socket).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    refused(77, "others could replace a socket");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    for (arguments, expected, says) in [
        (["--unix", "relative"], 64, "an absolute path"),
        (["--unix", "/no/such/folder/socket"], 77, "cannot be used"),
        (["--allow-uid", "1"], 64, "--unix <PATH>"),
    ] {
        let output = agent(&name).args(arguments).output().unwrap();
        let said = text(&output.stderr);
        assert!(code(&output) == expected && said.contains(says), "{says}: {said}");
    }
    assert_gone(&name);
}

#[test]
fn a_group_may_read_the_session_and_the_token() {
    if !geteuid().is_root() {
        return;
    }
    let (folder, name) = (tempfile::tempdir_in("/dev/shm").unwrap(), name("group"));
    let group: u32 = GROUP.parse().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
    chown(folder.path(), Some(61_253), Some(group)).unwrap();
    let token = folder.path().join("token");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "61253", "--regid", "61253", "--groups", GROUP, BINARY]);
    command.args(agent(&name).get_args()).env("SHMCREDS_DIR", folder.path());
    command.args(["--group", GROUP, "--token-file"]).arg(&token);
    let mut running = Running::start(command);
    let url = running.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    for file in [token.clone(), folder.path().join(format!("shmcreds-61253-{name}"))] {
        let found = fs::metadata(&file).unwrap();
        assert_eq!((found.mode() & 0o7777, found.gid()), (0o640, group), "{file:?}");
    }
    let directory = format!("SHMCREDS_DIR={}", folder.path().display());
    let run = |uid: &str, groups: &str, arguments: &[&str]| {
        let words = user(uid, groups);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["env", &directory, BINARY]).args(arguments);
        command.output().unwrap()
    };
    let read = run(STRANGER, GROUP, &["credentials", &name]);
    assert!(text(&read.stdout).contains("ASIANODE"), "{read:?}");
    let status = run(STRANGER, GROUP, &["status", &name, "--json"]);
    assert!(text(&status.stdout).contains(r#""state":"fresh""#), "{status:?}");
    let refused = run(STRANGER, "", &["credentials", &name]);
    assert!(code(&refused) == 78 || code(&refused) == 77, "{refused:?}");
    assert!(!text(&refused.stderr).contains("os error"), "{refused:?}");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Writes a certificate for 127.0.0.1 and its key.
fn certificate(folder: &Path) -> String {
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "node.internal".to_owned()];
    let made = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("tls.crt"), made.pem()).unwrap();
    made.pem()
}

/// Asks over HTTPS, and trusts one certificate.
fn ask_tls(url: &str, trusted: &str, token: &str) -> Output {
    let program = "import ssl, sys, urllib.request as u\n\
         context = ssl.create_default_context(cadata=sys.argv[2])\n\
         ask = u.Request(sys.argv[1], headers={'Authorization': sys.argv[3]})\n\
         opener = u.build_opener(u.ProxyHandler({}), u.HTTPSHandler(context=context))\n\
         print(opener.open(ask, timeout=60).read().decode())\n";
    python(&[], program, &[url, trusted, token])
}

#[test]
fn https_is_for_other_hosts() {
    let (folder, name) = (tempfile::tempdir().unwrap(), name("https"));
    let token = folder.path().join("token");
    let first = certificate(folder.path());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (crt, key) = (file("tls.crt"), file("tls.key"));
    let tls = ["--tls-certificate", &crt, "--tls-key", &key];
    let mut command = agent(&name);
    command.args(tls).args(["--listen-tls", "127.0.0.1:0", "--token-file"]).arg(&token);
    let mut running = Running::start(command);
    let (plain, url) = (running.line(), running.line());
    assert!(
        plain.starts_with("http://127.0.0.1:") && url.starts_with("https://127.0.0.1:"),
        "{url}"
    );
    until("it is ready", || get(&plain, "/ready", "").0 == 200);
    let token = fs::read_to_string(&token).unwrap();
    let answer = ask_tls(&url, &first, &token);
    assert!(text(&answer.stdout).contains("ASIANODE"), "{answer:?}");
    let refused = ask_tls(&url, &first, "guessed");
    assert!(text(&refused.stderr).contains("403"), "{refused:?}");
    // Plain HTTP on the port of HTTPS gets no answer, and keeps nobody out.
    let silent = std::net::TcpStream::connect(address(&url.replacen("https", "http", 1))).unwrap();
    assert_eq!(raw(&url.replacen("https", "http", 1), "GET / HTTP/1.1\r\n\r\n").0, 0);
    // A half-written pair changes nothing, and the next whole pair is used.
    fs::write(folder.path().join("tls.crt"), "half of it").unwrap();
    assert!(ask_tls(&url, &first, &token).status.success());
    // Nor does a pipe, into which nobody writes.
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    fs::rename(&pipe, folder.path().join("tls.crt")).unwrap();
    assert!(ask_tls(&url, &first, &token).status.success());
    fs::remove_file(folder.path().join("tls.crt")).unwrap();
    let second = certificate(folder.path());
    let answer = ask_tls(&url, &second, &token);
    assert!(text(&answer.stdout).contains("ASIANODE"), "{answer:?}");
    assert!(!ask_tls(&url, &first, &token).status.success());
    drop(silent);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);

    let other = tempfile::tempdir().unwrap();
    certificate(other.path());
    let other_key = other.path().join("tls.key").to_str().unwrap().to_owned();
    let empty = file("empty");
    fs::write(&empty, "").unwrap();
    for (arguments, expected, says) in [
        (&["--listen-tls", "10.0.0.1:443"][..], 64, "--tls-certificate <FILE>"),
        (&["--tls-certificate", &crt, "--tls-key", &key], 64, "--listen-tls <ADDRESS:PORT>"),
        (
            &[tls[0], tls[1], tls[2], tls[3], "--listen-tls", "0.0.0.0:443"],
            64,
            "means all addresses",
        ),
        (
            &[tls[0], tls[1], tls[2], tls[3], "--listen-tls", "8.8.8.8:443"],
            64,
            "is a public address",
        ),
        (
            &[tls[0], &empty, tls[2], tls[3], "--listen-tls", "127.0.0.1:0"],
            78,
            "no certificate in PEM",
        ),
        (
            &[tls[0], tls[1], tls[2], &empty, "--listen-tls", "127.0.0.1:0"],
            78,
            "no private key in PEM",
        ),
        (&[tls[0], tls[1], tls[2], &other_key, "--listen-tls", "127.0.0.1:0"], 78, "and --tls-key"),
    ] {
        let output = agent(&crate::harness::name("https")).args(arguments).output().unwrap();
        let said = text(&output.stderr);
        assert!(code(&output) == expected && said.contains(says), "{says}: {said}");
        assert!(!said.contains("PRIVATE KEY"), "{said}");
    }
}

/// In a network namespace of its own, where nothing else has these addresses.
#[test]
fn the_addresses_that_sdks_accept_are_served() {
    if !geteuid().is_root() {
        return;
    }
    let (folder, name) = (tempfile::tempdir().unwrap(), name("addresses"));
    let token = folder.path().join("token");
    let script = "ip link set lo up && ip address add 169.254.170.23/32 dev lo && \
                  ip -6 address add fd00:ec2::23/128 dev lo nodad && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-n", "sh", "-c", script, "x", BINARY]).args(agent(&name).get_args());
    command.args([
        "--listen",
        "169.254.170.23:80",
        "--listen",
        "[fd00:ec2::23]:80",
        "--token-file",
    ]);
    command.arg(&token);
    let mut running = Running::start(command);
    let urls = [running.line(), running.line()];
    let [four, six] = ["http://169.254.170.23:80", "http://[fd00:ec2::23]:80"];
    assert_eq!(urls, [four, six].map(|url| format!("{url}/credentials")));
    let token = fs::read_to_string(&token).unwrap();
    // Python starts slowly: one process asks all of it.
    let program = "import sys, urllib.request as u\n\
         url, token = sys.argv[1:3]\n\
         for headers in sys.argv[3:]:\n\
         \x20   name, value = headers.split('=')\n\
         \x20   ask = u.Request(url, headers={'Authorization': token, name: value})\n\
         \x20   try: r = u.build_opener(u.ProxyHandler({})).open(ask, timeout=60)\n\
         \x20   except u.HTTPError as e: r = e\n\
         \x20   print(r.status, r.read().decode())\n";
    let inside = format!("--net=/proc/{}/ns/net", running.pid());
    let ask = |url: &str, headers: &[&str]| -> Vec<String> {
        let arguments = [&[url, token.as_str()], headers].concat();
        let output = python(&["nsenter", &inside], program, &arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).lines().map(str::to_owned).collect()
    };
    until("it is ready", || ask(&format!("{four}/ready"), &["X=y"])[0].starts_with("200"));
    let own = [
        "X=y",
        "Host=169.254.170.23",
        "Host=[fd00:ec2::23]",
        "Host=169.254.170.23:80",
        "Host=[fd00:ec2::23]:80",
    ];
    let refused = [
        ("Host=127.0.0.1", "400 "),
        ("Host=localhost", "400 "),
        ("Host=evil.example", "400 "),
        ("Host=169.254.170.23:81", "400 "),
        ("Host=fd00:ec2::23", "400 "),
        ("Host=[fd00:ec2::24]", "400 "),
        ("X-Forwarded-For=10.0.0.1", "400 "),
        ("Authorization=guessed", "403 "),
    ];
    for url in &urls {
        for (header, said) in own.iter().zip(ask(url, &own)) {
            assert!(said.starts_with("200 ") && said.contains("ASIANODE"), "{header}: {said}");
        }
        let headers = refused.map(|(header, _)| header);
        for ((header, status), said) in refused.iter().zip(ask(url, &headers)) {
            assert!(said.starts_with(status) && !said.contains("ASIA"), "{header}: {said}");
        }
    }
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
}

#[test]
fn other_addresses_are_refused() {
    let sts = LocalSts::start().unwrap();
    for address in ["10.0.0.1:80", "[::]:80", "169.254.169.254:80", "203.0.113.1:80"] {
        let output = serve(&sts, &name("refused")).args(["--listen", address]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), 64, "{said}");
        for word in [address, "169.254.170.23", "--listen-tls"] {
            assert!(said.contains(word) && said.lines().count() == 1, "{said}");
        }
    }
}
