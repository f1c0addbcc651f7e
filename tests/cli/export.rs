//! `export`: the endpoint that the processes of a session share. The Python package asks for it.

use std::{
    fs,
    io::IoSliceMut,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
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
    support::{lives, role},
};

/// One use of the endpoint, until it is dropped.
struct Use {
    told: Value,
    _descriptors: Vec<OwnedFd>,
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

#[allow(unsafe_code)]
fn join(name: &str) -> Result<Use, Output> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["export", name]).stdin(OwnedFd::from(theirs)).env("AWS_PROFILE", "other");
    let output = command.output().unwrap();
    // The command has a copy of the other end, which must not stay open here.
    drop(command);
    if !output.status.success() {
        return Err(output);
    }
    let (mut text, mut space) = (vec![0; 1 << 16], cmsg_space!([i32; 2]));
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
    Ok(Use { told, _descriptors: descriptors })
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
