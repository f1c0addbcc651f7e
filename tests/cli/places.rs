//! `exec`, `list` and `status` where the files are in another directory.

use std::{fs, os::unix::fs::DirBuilderExt, path::PathBuf};

use shmcreds::testing::LocalSts;

use crate::harness::{assert_gone, code, exec, name, shmcreds, text};

/// A directory in memory, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = PathBuf::from("/dev/shm").join(name("folder"));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn exec_keeps_all_its_files_in_the_chosen_directory() {
    let (sts, folder, name) = (LocalSts::start().unwrap(), Folder::new(), name("place"));
    let script = "$SHMCREDS list && $SHMCREDS status --json $SHMCREDS_SESSION && \
                  echo $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE && cat $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
    let mut command = exec(&sts, &name, script);
    let output = command.env("SHMCREDS_DIR", &folder.0).output().unwrap();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(code(&output), 0, "{errors}");
    let lines: Vec<&str> = said.lines().collect();
    let path = folder.0.to_str().unwrap();
    assert_eq!(lines[0], name);
    assert!(lines[1].contains(&format!("\"directory\":\"{path}\"")), "{said}");
    assert!(lines[1].contains("\"disk\":null"), "{said}");
    assert!(lines[2].starts_with(path) && lines.len() == 4, "{said}");
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0, "nothing is left");
    assert_gone(&name);
}

#[test]
fn a_directory_on_no_memory_is_refused_before_anything_starts() {
    let (sts, name) = (LocalSts::start().unwrap(), name("proc"));
    let mut command = exec(&sts, &name, "echo started");
    let output = command.env("SHMCREDS_DIR", "/proc").output().unwrap();
    assert_eq!((code(&output), text(&output.stdout)), (78, String::new()));
    let errors = text(&output.stderr);
    assert!(errors.contains("/proc is on proc (mounted at /proc)"), "{errors}");
    assert!(errors.contains("SHMCREDS_DIR"), "{errors}");
    for wrong in ["relative", "/dev/shm/.."] {
        let mut command = shmcreds(&sts);
        let output = command.args(["list"]).env("SHMCREDS_DIR", wrong).output().unwrap();
        assert!(code(&output) != 0 && text(&output.stderr).contains("SHMCREDS_DIR: "), "{wrong}");
    }
}
