//! `serve`: a session for others.

use std::{
    fs::OpenOptions,
    io::Read,
    os::unix::{fs::PermissionsExt, net::UnixDatagram, process::CommandExt},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::signal::{SigSet, Signal},
};
use shmcreds::{
    SharedSession,
    testing::{Fault, LocalSts, Times},
};

use crate::{harness::*, support::lock};

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
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    assert!(credentials(&url, &written)["Token"].is_string());
    let call = &sts.calls().unwrap()[0];
    assert_eq!(call.parameters["Tags.member.2.Value"], "test");
    assert!(call.parameters.contains_key("ExternalId"));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert!(!token.exists());
    assert_gone(&name);
}

/// What a service manager is told.
fn told(socket: &UnixDatagram) -> Option<String> {
    let mut bytes = [0; 256];
    socket.recv(&mut bytes).ok().map(|length| text(&bytes[..length]).trim_end().to_owned())
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    // An outage at the start delays it, and is said.
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let name = name("notify");
    let mut command = serve(&sts, &name);
    command.env("NOTIFY_SOCKET", &path);
    let mut sidecar = Running::start(command);
    let url = sidecar.line();
    until("it has failed twice", || assumed(&sts) >= 2);
    assert_eq!(told(&socket), None);
    assert_eq!(get(&url, "/ready", "").0, 503);
    sts.clear_faults().unwrap();
    let mut last = None;
    until("it is ready", || {
        last = told(&socket);
        last.is_some()
    });
    assert_eq!(last.as_deref(), Some("READY=1"));
    assert_eq!(get(&url, "/ready", "").0, 200);
    sidecar.signal(Signal::SIGTERM);
    let mut said = String::new();
    sidecar.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(sidecar.wait(), 0);
    assert_eq!(told(&socket).as_deref(), Some("STOPPING=1"));
    assert_eq!(told(&socket), None);
    let own: Vec<&str> = said.lines().filter(|line| line.starts_with("shmcreds: ")).collect();
    assert!(own.len() == 1 && own[0].contains("AccessDenied"), "{said}");
}

#[test]
fn a_name_is_served_once() {
    let sts = LocalSts::start().unwrap();
    let name = name("twice");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token.txt");
    std::fs::write(&file, "of somebody before").unwrap();
    let with_token = || {
        let mut command = serve(&sts, &name);
        command.arg("--token-file").arg(&file);
        command
    };
    let mut first = Running::start(with_token());
    let url = first.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    let token = std::fs::read_to_string(&file).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let entries = || std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!((token.len(), entries()), (64, 1));
    let second = with_token().output().unwrap();
    assert_eq!(code(&second), 73);
    let said = text(&second.stderr);
    assert!(
        said.contains(&format!("process {}", first.pid())) && said.lines().count() == 1,
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), token);
    assert!(credentials(&url, &token)["Token"].is_string());
    // Killed, it leaves a session that the next one replaces.
    first.signal(Signal::SIGKILL);
    first.wait_for_end();
    let mut next = Running::start(with_token());
    let url = next.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    let new = std::fs::read_to_string(&file).unwrap();
    assert_ne!(new, token);
    assert!(credentials(&url, &new)["Token"].is_string());
    // The token of somebody else is left alone.
    std::fs::write(&file, "of somebody else").unwrap();
    next.signal(Signal::SIGHUP);
    assert_eq!(next.wait(), 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "of somebody else");
    assert_gone(&name);
}

/// A reader that is not the sidecar's own: it has no source.
#[test]
fn a_restarted_sidecar_serves_the_readers_that_it_had() {
    let sts = LocalSts::start().unwrap();
    let name = name("restarted");
    let (mut first, _) = served(&sts, &name);
    let reader = SharedSession::attach(&name).unwrap();
    let key = |reader: &SharedSession| reader.credentials().unwrap().access_key_id().to_owned();
    let old = key(&reader);
    first.signal(Signal::SIGKILL);
    first.wait_for_end();
    let (second, _) = served(&sts, &name);
    assert_eq!(key(&reader), old);
    let next = reader.refresh().unwrap().access_key_id().to_owned();
    assert_ne!(next, old);
    assert_eq!(code(&serve(&sts, &name).output().unwrap()), 73, "it is served once");
    let mut other = shmcreds(&sts);
    other.args(["serve", "--name", &name, "--role-arn", "arn:aws:iam::123456789012:role/other"]);
    second.signal(Signal::SIGTERM);
    assert_eq!(second.wait(), 0);
    assert_gone(&name);
    let (mut third, _) = served(&sts, &name);
    assert_eq!(key(&reader), next, "it is good until it is due");
    assert_ne!(reader.refresh().unwrap().access_key_id(), next);
    third.signal(Signal::SIGKILL);
    third.wait_for_end();
    let refused = other.output().unwrap();
    let said = text(&refused.stderr);
    assert!(code(&refused) == 65 && said.contains("another source"), "{said}");
    drop(reader);
    SharedSession::remove(&name).unwrap();
}

#[test]
fn what_cannot_be_opened_is_named() {
    let sts = LocalSts::start().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for (arguments, expected, says) in [
        (["--listen", taken.as_str()], 71, taken.as_str()),
        (["--listen", "0.0.0.0:0"], 64, "127.0.0.1"),
        (["--token-file", "/no/such/folder/token"], 73, "/no/such/folder/token"),
    ] {
        let name = name("refused");
        let output = serve(&sts, &name).args(arguments).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), expected, "{said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
        assert_gone(&name);
    }
}

/// Another program of the user locks what is none of its own, for a while.
#[test]
fn a_refresher_that_fails_is_started_again() {
    let sts = LocalSts::start().unwrap();
    let name = name("again");
    let (running, _) = served(&sts, &name);
    let refresher = || status(&sts, &name).0["refresher"].clone();
    let stands = || refresher()["alive"] == true && refresher()["pid"] == running.child.id();
    assert!(stands());
    let file = OpenOptions::new().read(true).write(true).open(lock(&name)).unwrap();
    let range = |kind: i32, start: i64, length: i64| libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    // All bytes from which the next election draws, but that of the current one.
    let mut held = range(libc::F_WRLCK, 64, 0);
    fcntl(&file, FcntlArg::F_GETLK(&mut held)).unwrap();
    assert_eq!(held.l_pid.unsigned_abs(), running.child.id());
    for (start, length) in [(64, held.l_start - 64), (held.l_start + held.l_len, 0)] {
        fcntl(&file, FcntlArg::F_SETLK(&range(libc::F_WRLCK, start, length))).unwrap();
    }
    let mut refresh = shmcreds(&sts);
    let mut asks = refresh.args(["refresh", &name]).spawn().unwrap();
    until("the refresher fails", || !stands());
    drop(file);
    until("it stands again", stands);
    assert!(asks.wait().unwrap().success());
    assert_eq!(status(&sts, &name).0["generation"], 2);
}

/// The program that starts it has blocked all signals, which it inherits.
#[test]
#[allow(unsafe_code)]
fn a_sidecar_with_blocked_signals_ends_when_it_is_told_to() {
    let sts = LocalSts::start().unwrap();
    let name = name("blocked");
    let mut command = serve(&sts, &name);
    // SAFETY: between fork and exec the closure makes one async-signal-safe system call.
    unsafe { command.pre_exec(|| Ok(SigSet::all().thread_block()?)) };
    let mut running = Running::start(command);
    let url = running.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    running.signal(Signal::SIGTERM);
    until("it has ended", || running.child.try_wait().unwrap().is_some());
    assert_eq!(running.wait(), 0);
    assert_gone(&name);
}

/// Another user connects again and again.
#[test]
fn a_user_who_is_refused_does_not_fill_the_log() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.path().join("socket");
    let mut command = serve(&sts, &name("refused"));
    command.arg("--unix").arg(&socket);
    let mut running = Running::start(command);
    let url = running.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    let code = "import socket, sys\n\
                for _ in range(30):\n\
                \x20 client = socket.socket(socket.AF_UNIX)\n\
                \x20 client.connect(sys.argv[1])\n\
                \x20 client.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n')\n\
                \x20 client.shutdown(socket.SHUT_WR)\n\
                \x20 assert b' 403 ' in client.recv(100)";
    let mut stranger = std::process::Command::new("python3");
    stranger.args(["-c", code]).arg(&socket).uid(61_250).gid(61_250);
    assert!(stranger.status().unwrap().success());
    running.signal(Signal::SIGTERM);
    let mut log = String::new();
    running.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(log.matches("a client was refused").count(), 1, "{log}");
    assert_eq!(running.wait(), 0);
}
