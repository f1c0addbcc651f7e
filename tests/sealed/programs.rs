//! Programs that workers start, and what they are passed.

use std::{
    fs::File,
    os::{
        fd::AsRawFd,
        unix::{fs::MetadataExt, process::CommandExt},
    },
    process::{Command, Output},
    time::Duration,
};

use nix::{
    sys::memfd::{MFdFlags, memfd_create},
    unistd::geteuid,
};
use shmcreds::SharedSession;

use crate::{
    ROLE, refresher, sealed,
    support::{assert_whole, child, instant, lives, name, until},
    writes::try_to_write,
};

/// By a process of the workers' user, which may be any of them.
pub fn another_session_of_the_name() {
    let name = name("another");
    let mut other = child(|report| {
        let session = SharedSession::builder(&name).source(instant()).create().unwrap();
        report.say(format!("{}\n", session.credentials().unwrap().access_key_id()));
        until("it is killed", || false);
    });
    let theirs = other.hear_line();
    let session = sealed(&name);
    let ours = session.credentials().unwrap().access_key_id().to_owned();
    assert_ne!(ours, theirs);
    child(|_| {
        let read = SharedSession::attach(&name).unwrap().credentials().unwrap();
        assert_eq!(read.access_key_id(), ours);
    })
    .finish();
    drop(session);
    let read = SharedSession::attach(&name).unwrap().credentials().unwrap();
    assert_eq!(read.access_key_id(), theirs);
    drop(other);
    SharedSession::remove(&name).unwrap();
}

/// The numbers lead to something else by now.
pub fn what_is_passed_no_longer() {
    let name = name("closed");
    let session = SharedSession::builder(&name).source(instant()).create().unwrap();
    drop(session.credentials().unwrap());
    for bytes in [0, 10, 1 << 20] {
        let mut program = Command::new(std::env::current_exe().unwrap());
        let other = memfd_create("other", MFdFlags::empty()).unwrap();
        File::from(other.try_clone().unwrap()).set_len(bytes).unwrap();
        let number = other.as_raw_fd();
        let meta = File::from(other.try_clone().unwrap()).metadata().unwrap();
        let (device, inode) = (meta.dev(), meta.ino());
        for passed in [format!("{number}@{device}.{inode}"), format!("{number}@{device}.1")] {
            let passed = format!("{name}=ff:{passed}:{passed}");
            program.arg(&name).env("SHMCREDS_SESSIONS", passed).env(ROLE, "read");
            assert_eq!(said(&program.output().unwrap()), "read 1");
        }
    }
}

/// Starts this program again as `nobody`, where this process may.
pub fn start(session: &SharedSession, pass: bool, role: &str) -> Output {
    let mut command = Command::new("/proc/self/exe");
    command.arg(session.name()).env(ROLE, role);
    if geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    if pass {
        session.pass_to(&mut command).unwrap();
    }
    command.output().unwrap()
}

/// The life of a started program.
pub fn started(role: &str) {
    let name = std::env::args().nth(1).unwrap();
    let session = match SharedSession::attach(&name) {
        Ok(session) => session,
        Err(error) => return println!("{:?}", error.kind()),
    };
    let set = session.credentials().unwrap();
    assert_whole(&set);
    if role == "refresh" {
        let next = session.refresh().unwrap();
        assert_whole(&next);
        assert_ne!(next.access_key_id(), set.access_key_id());
        try_to_write(&name);
    }
    if role == "grandchild" {
        // It knows nothing of the session, and passes it on.
        let output = Command::new("/proc/self/exe").arg(&name).env(ROLE, "read").output().unwrap();
        print!("{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    println!("read {}", session.status().unwrap().generation());
}

pub fn said(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap().trim()
}

pub fn a_started_program_attaches() {
    let session = sealed(&name("exec"));
    assert_eq!(said(&start(&session, true, "read")), "read 1");
    assert_eq!(said(&start(&session, true, "refresh")), "read 2");
    assert_eq!(said(&start(&session, true, "grandchild")), "read 2");
    assert_eq!(said(&start(&session, false, "read")), "Absent");
    // It counts as a user as long as it lives.
    let mut command = Command::new("sleep");
    command.arg("1000");
    session.pass_to(&mut command).unwrap();
    let mut started = command.spawn().unwrap();
    let pid = refresher(&session);
    drop((command, session));
    std::thread::sleep(Duration::from_millis(50));
    assert!(lives(pid));
    started.kill().unwrap();
    started.wait().unwrap();
    until("the refresher ends", || !lives(pid));
}
