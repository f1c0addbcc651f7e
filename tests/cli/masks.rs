//! The mask of the process (umask) decides nothing: each file has its own mode.

use std::{
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    process::Command,
};

use nix::{sys::signal::Signal, unistd::geteuid};
use shmcreds::testing::LocalSts;

use crate::harness::*;

/// With the last two, the owner of a file may do nothing with it.
pub const MASKS: [&str; 4] = ["0", "077", "277", "777"];
pub const NOBODY: u32 = 61_250;

/// `command` with this mask, as a user whom modes bind, if the tests may become another.
pub fn masked(mask: &str, command: &Command) -> Command {
    let mut command = wrapped(&format!("umask {mask}; exec \"$@\""), command);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A directory of that user.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    if geteuid().is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    folder
}

#[test]
fn a_token_file_has_its_mode() {
    let sts = LocalSts::start().unwrap();
    for mask in MASKS {
        let group = nix::unistd::getegid().as_raw().max(NOBODY * u32::from(geteuid().is_root()));
        let group = group.to_string();
        for (options, mode) in [(&[][..], 0o600), (&["--group", &group], 0o640)] {
            let folder = folder();
            let token = folder.path().join("token");
            let mut command = serve(&sts, &name("masked"));
            command.args(options).arg("--token-file").arg(&token);
            let mut running = Running::start(masked(mask, &command));
            let url = running.line();
            assert!(url.starts_with("http://127.0.0.1:"), "under the mask {mask}: {url:?}");
            let found = std::fs::metadata(&token).unwrap().permissions().mode() & 0o7777;
            assert_eq!(found, mode, "under the mask {mask}");
            running.signal(Signal::SIGTERM);
            assert_eq!(running.wait(), 0);
        }
    }
}

#[test]
fn cmd_can_read_its_files() {
    let sts = LocalSts::start().unwrap();
    let script = "stat -c %a $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE $AWS_CONFIG_FILE; \
                  cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
    for mask in MASKS {
        let output = masked(mask, &exec(&sts, &name("masked"), script)).output().unwrap();
        let (said, log) = (text(&output.stdout), text(&output.stderr));
        assert_eq!((code(&output), &*log), (0, ""), "under the mask {mask}: {said}");
        let lines: Vec<&str> = said.lines().collect();

        assert_eq!((lines[0], lines[1], lines[2].len()), ("600", "600", 64), "{said}");
    }
}
