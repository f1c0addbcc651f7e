//! `export`: the endpoint that the processes of a session share. The Python package asks for it.

use std::{
    fs,
    io::{self, IoSliceMut},
    iter::zip,
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use nix::{
    cmsg_space,
    sys::{
        signal::{Signal, kill},
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
    },
    unistd::{Pid, geteuid},
};
use serde_json::Value;
use shmcreds::{SharedSession, testing::LocalSts};

use crate::{
    harness::*,
    masks::{MASKS, masked},
    support::{lives, role},
};

/// One use of the endpoint, until it is dropped.
struct Use {
    told: Value,
    /// Of the file of the users, of a socket with the port, and of the process that serves.
    descriptors: Vec<OwnedFd>,
}

impl Use {
    fn variable(&self, name: &str) -> String {
        self.told["set"][name].as_str().unwrap_or_else(|| panic!("no {name}")).to_owned()
    }

    fn url(&self) -> String {
        self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    }

    fn token(&self) -> String {
        self.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    }

    fn server(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.told["pid"].as_i64().unwrap()).unwrap())
    }

    fn key(&self) -> String {
        credentials(&self.url(), &self.token())["AccessKeyId"].as_str().unwrap().to_owned()
    }
}

fn join(name: &str) -> Result<Use, Output> {
    let mut command = Command::new(BINARY);
    command.args(["export", name]);
    join_by(command)
}

/// Joins by a command that starts the program.
fn join_by(command: Command) -> Result<Use, Output> {
    let (ours, joining) = start_joining(command);
    let output = joining.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(answer(&ours)),
        false => Err(output),
    }
}

fn start_joining(mut command: Command) -> (UnixStream, Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    command.stdin(OwnedFd::from(theirs)).env("AWS_PROFILE", "other");
    // The command has a copy of the other end, which must not stay open here: so it ends with this function.
    let joining = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    (ours, joining)
}

#[allow(unsafe_code)]
fn answer(ours: &UnixStream) -> Use {
    let (mut text, mut space) = (vec![0; 1 << 16], cmsg_space!([i32; 3]));
    let mut parts = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(ours.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    let (length, mut descriptors) = (message.bytes, Vec::new());
    for part in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just made these numbers for this process.
            descriptors.extend(numbers.into_iter().map(|n| unsafe { OwnedFd::from_raw_fd(n) }));
        }
    }
    let told = serde_json::from_slice(&text[..length]).unwrap();
    Use { told, descriptors }
}

fn directory(name: &str) -> PathBuf {
    format!("/dev/shm/shmcreds-export-{}-{name}", geteuid()).into()
}

fn session(sts: &LocalSts, what: &str) -> SharedSession {
    let session = SharedSession::builder(name(what)).source(role(sts)).create().unwrap();
    session.credentials().unwrap();
    session
}

#[test]
fn processes_of_a_session_share_an_endpoint_that_ends_with_the_last() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "export");
    let (first, second) = (join(session.name()).unwrap(), join(session.name()).unwrap());
    assert_eq!(first.told["pid"], second.told["pid"]);
    assert_eq!(first.key(), session.credentials().unwrap().access_key_id());
    let file = first.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    assert_eq!(fs::read_to_string(&file).unwrap(), first.token());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o033, 0);
    let removed = first.told["remove"].as_array().unwrap();
    assert!(
        ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"].iter().all(|name| removed.contains(&(*name).into()))
    );
    let server = first.server();
    drop(first);
    assert_eq!(second.key(), session.credentials().unwrap().access_key_id());
    drop(second);
    until("the endpoint ends with its last user", || !lives(server));
    assert!(!directory(session.name()).exists());
    assert_eq!(assumed(&sts), 1);
}

/// The mask of the first process (umask) takes nothing from those that come later.
#[test]
fn an_endpoint_is_joined_whatever_the_masks_are() {
    let sts = LocalSts::start().unwrap();
    for mask in MASKS {
        let name = name("export-masked");
        let mut running = Running::start(masked(mask, &serve(&sts, &name)));
        running.line();
        let mut command = Command::new(BINARY);
        command.args(["export", &name]);
        let uses = [mask, "777", "022"].map(|mask| {
            let joined = join_by(masked(mask, &command));
            joined.unwrap_or_else(|output| panic!("{mask}: {}", text(&output.stderr)))
        });
        let server = uses[0].server();
        assert!(uses.iter().all(|one| one.server() == server));
        let file = uses[0].variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        drop(uses);
        until("the endpoint ends with its last user", || !lives(server));
        assert!(!Path::new(&file).exists());
    }
}

#[test]
fn a_killed_endpoint_is_followed_by_one_with_its_address_and_token() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "export-killed");
    let first = join(session.name()).unwrap();
    kill(first.server(), Signal::SIGKILL).unwrap();
    until("it is dead", || !lives(first.server()));
    let second = join(session.name()).unwrap();
    assert_ne!(first.server(), second.server());
    assert_eq!((first.url(), first.token()), (second.url(), second.token()));
    assert_eq!(first.key(), session.credentials().unwrap().access_key_id());
}

/// Whether another user of this host can listen there; this user, if the test may not change its user.
fn another_user_can_listen(address: &str) -> bool {
    let code = "import socket, sys\n\
                host, port = sys.argv[1].split(':')\n\
                listener = socket.socket()\n\
                for option in sys.argv[2:]: listener.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)\n\
                listener.bind((host, int(port)))\n\
                listener.listen()";
    // Without a change of the user, SO_REUSEPORT would let it.
    let options: &[&str] =
        if geteuid().is_root() { &["SO_REUSEADDR", "SO_REUSEPORT"] } else { &["SO_REUSEADDR"] };
    let mut command = Command::new("python3");
    command.args(["-c", code, address]).args(options);
    if geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success() || said.contains("Address already in use"), "{said}");
    output.status.success()
}

#[test]
fn no_other_user_gets_the_port_of_a_killed_endpoint() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "export-port");
    let first = join(session.name()).unwrap();
    let told = (first.url(), first.token());
    let address = told.0.split('/').nth(2).unwrap().to_owned();
    let mut server = first.server();
    let mut users = vec![first, join(session.name()).unwrap()];
    while !users.is_empty() {
        kill(server, Signal::SIGKILL).unwrap();
        until("it is dead", || !lives(server));
        let refused = TcpStream::connect(&address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "no client waits");
        assert!(!another_user_can_listen(&address));
        let next = join(session.name()).unwrap();
        assert_eq!((next.url(), next.token()), told);
        assert_eq!(next.key(), session.credentials().unwrap().access_key_id());
        server = next.server();
        // The port stays with those who are left.
        users.pop();
    }
}

#[test]
fn an_endpoint_whose_port_was_taken_has_nothing_of_the_one_before() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "export-port-taken");
    let mut first = join(session.name()).unwrap();
    let file = first.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    // Other code of the process has closed its socket.
    drop(first.descriptors.remove(1));
    kill(first.server(), Signal::SIGKILL).unwrap();
    until("it is dead", || !lives(first.server()));
    let address = first.url().split('/').nth(2).unwrap().to_owned();
    // What listens here gets the token of a client that has read the old variables.
    let mut thief = None;
    until("the port is free", || {
        // A process that another test starts has all descriptors until it is another program.
        thief = TcpListener::bind(&address).ok();
        thief.is_some()
    });
    let second = join(session.name()).unwrap();
    assert_ne!(second.url(), first.url());
    assert_ne!(second.token(), first.token());
    assert_ne!(second.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"), file);
    assert!(!Path::new(&file).exists(), "such a client would send the new token there");
    let (status, _) =
        get(&second.url(), "/credentials", &format!("Authorization: {}\r\n", first.token()));
    assert_eq!(status, 403);
    assert_eq!(second.key(), session.credentials().unwrap().access_key_id());
}

#[test]
fn a_signal_for_the_whole_group_does_not_end_it() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "export-signal");
    // A signal may come as soon as the first user knows of the server, so each of many servers gets one at once.
    for round in 0..30 {
        let user = join(session.name()).unwrap();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            kill(user.server(), signal).unwrap();
        }
        assert_eq!(user.key(), session.credentials().unwrap().access_key_id(), "round {round}");
        let server = user.server();
        drop(user);
        until("the endpoint ends with its last user", || !lives(server));
    }
}

#[test]
fn what_killed_processes_have_left_is_removed() {
    let sts = LocalSts::start().unwrap();
    let (left, other) = (session(&sts, "export-left"), session(&sts, "export-other"));
    let user = join(left.name()).unwrap();
    kill(user.server(), Signal::SIGKILL).unwrap();
    until("it is dead", || !lives(user.server()));
    assert!(directory(left.name()).exists(), "its user may start it again");
    let _beside = join(other.name()).unwrap();
    assert!(directory(left.name()).exists(), "its user may start it again");
    drop(user);
    drop(join(other.name()).unwrap());
    assert!(!directory(left.name()).exists());
}

#[test]
fn a_directory_of_others_is_not_used() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "export-open");
    fs::create_dir(directory(session.name())).unwrap();
    fs::set_permissions(directory(session.name()), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = join(session.name()).err().unwrap();
    let text = text(&refused.stderr);
    fs::remove_dir(directory(session.name())).unwrap();
    assert!(text.contains("others can read it; remove it"), "{text}");
}

#[test]
fn the_command_is_not_for_people_and_needs_a_session() {
    let by_hand =
        Command::new(BINARY).args(["export", "none"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(code(&by_hand), 64);
    assert!(text(&by_hand.stderr).contains("only the Python package"));
    let absent = join(&name("export-absent")).err().unwrap();
    assert_eq!(code(&absent), 69);
    assert!(!Path::new(&directory("export-absent")).exists());
}

#[test]
fn a_user_is_told_that_the_server_serves_or_why_it_does_not() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "export-few-descriptors");
    let mut outcomes = [0, 0];
    // With few of them, one step or the other of the server fails.
    for descriptors in 3..40 {
        let mut command = Command::new("/bin/sh");
        let script = format!("ulimit -n {descriptors}; exec \"$0\" export \"$1\"");
        command.args(["-c", &script, BINARY, session.name()]);
        match join_by(command) {
            Ok(user) => {
                assert!(lives(user.server()), "with {descriptors} descriptors");
                assert_eq!(user.key(), session.credentials().unwrap().access_key_id());
                let server = user.server();
                drop(user);
                until("the endpoint ends with its last user", || !lives(server));
                outcomes[0] += 1;
            }
            Err(output) => {
                let text = text(&output.stderr);
                assert!(text.len() > 20, "with {descriptors} descriptors: {text}");
                outcomes[1] += 1;
            }
        }
    }
    assert!(outcomes.iter().all(|count| *count > 3), "{outcomes:?}");
    // What failed half-way hinders no other, and is removed.
    drop(join(session.name()).unwrap());
    until("nothing is left", || !directory(session.name()).exists());
}

#[test]
fn a_command_that_is_killed_anywhere_leaves_an_endpoint_that_others_can_join() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "export-killed-command");
    let first = join(session.name()).unwrap();
    let (address, mut last) = ((first.url(), first.token()), first);
    for round in 0..60_u64 {
        kill(last.server(), Signal::SIGKILL).unwrap();
        until("it is dead", || !lives(last.server()));
        let mut command = Command::new(BINARY);
        command.args(["export", session.name()]);
        let (_ours, mut joining) = start_joining(command);
        // The delays reach from the start of the program to its end.
        thread::sleep(Duration::from_micros(round * 300));
        joining.kill().unwrap();
        joining.wait().unwrap();
        let user = join(session.name()).unwrap_or_else(|e| panic!("{round}: {}", text(&e.stderr)));
        assert!(lives(user.server()), "round {round}");
        assert_eq!((user.url(), user.token()), address, "round {round}");
        assert_eq!(user.key(), session.credentials().unwrap().access_key_id(), "round {round}");
        last = user;
    }
}

#[test]
fn a_hundred_processes_that_join_at_once_have_one_server() {
    let sts = LocalSts::start().unwrap();
    let session = session(&sts, "export-many");
    let joining: Vec<_> = (0..100)
        .map(|_| {
            let mut command = Command::new(BINARY);
            command.args(["export", session.name()]);
            start_joining(command)
        })
        .collect();
    let users: Vec<_> = joining
        .into_iter()
        .map(|(ours, joining)| {
            let output = joining.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", text(&output.stderr));
            answer(&ours)
        })
        .collect();
    for (one, next) in zip(&users, &users[1..]) {
        assert_eq!(one.told, next.told);
    }
    assert_eq!(users[0].key(), session.credentials().unwrap().access_key_id());
    let server = users[0].server();
    drop(users);
    until("the endpoint ends with its last user", || !lives(server));
    assert!(!directory(session.name()).exists());
}
