//! What the command line leaves behind when it fails, and what commands that start at the same time take from each
//! other.

#![allow(unsafe_code)]

mod support;

use std::{
    fs::{self, File, OpenOptions},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use support::{child, name};

const BINARY: &str = env!("CARGO_BIN_EXE_shmcreds");
const SET: &str = r#"{"Version":1,"AccessKeyId":"ASIAEXAMPLE00001","SecretAccessKey":"s","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}"#;
const SOURCE: [&str; 4] = ["--process", "/bin/echo", "--process-arg", SET];

fn main() {
    support::run_forking(&[
        ("serve_that_cannot_print_leaves_no_token", serve_that_cannot_print_leaves_no_token),
        ("exec_beside_exec_keeps_its_files", exec_beside_exec_keeps_its_files),
    ]);
}

fn serve_that_cannot_print_leaves_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut serve = Command::new(BINARY);
    serve.args(["serve", "--name", &name("full"), "--token-file"]).arg(&token).args(SOURCE);
    let status = serve.stdout(full).stderr(Stdio::null()).status().unwrap();
    assert!(!status.success(), "it cannot tell its address");
    assert!(!token.exists(), "the token file of a server that has ended is left");
}

/// Removes directories of `exec` that nobody has locked, as each `exec` does when it starts; true if there was one.
fn remove_left() -> bool {
    let mut removed = false;
    for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        if entry.file_name().to_string_lossy().starts_with("shmcreds-files-")
            && File::open(&path).is_ok_and(|directory| directory.try_lock().is_ok())
        {
            removed |= fs::remove_dir_all(&path).is_ok();
        }
    }
    removed
}

/// Removes what is left, as soon as it is there: once each time that it is `wanted`.
fn remove_what_is_new(wanted: &AtomicBool, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        if wanted.load(Ordering::Relaxed) && remove_left() {
            wanted.store(false, Ordering::Relaxed);
        }
    }
}

/// Each directory is new and not yet locked for a moment: to those that start just then it looks as if a killed
/// process had left it.
fn exec_beside_exec_keeps_its_files() {
    let said = child(|report| {
        if unshare(CloneFlags::CLONE_NEWNS).is_err() {
            return report.say("not allowed here");
        }
        let (none, flags) = (None::<&str>, MsFlags::empty());
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), "/dev/shm", Some("tmpfs"), flags, none).unwrap();
        let (wanted, over) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| remove_what_is_new(&wanted, &over));
            for _ in 0..30 {
                wanted.store(true, Ordering::Relaxed);
                let mut exec = Command::new(BINARY);
                exec.arg("exec").args(SOURCE).args([
                    "--",
                    "/bin/sh",
                    "-c",
                    "echo $AWS_CONFIG_FILE",
                ]);
                let output = exec.stderr(Stdio::null()).output().unwrap();
                report.say(String::from_utf8(output.stdout).unwrap());
            }
            over.store(true, Ordering::Relaxed);
        });
    })
    .finish();
    let without = said.lines().filter(|config| *config == "/dev/null").count();
    assert_eq!(without, 0, "so many of 30 commands got no config file and no token file");
}
