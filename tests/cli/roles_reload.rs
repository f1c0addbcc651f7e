//! SIGHUP: `serve --roles` reads its file again.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::signal::Signal;
use shmcreds::{
    SharedRoles,
    testing::{LocalSts, Settings},
};

use crate::{harness::*, roles::*};

const ALPHA: (&str, &str) = ("alpha", "id-of-alpha");
const BETA: (&str, &str) = ("beta", "id-of-beta");
const GAMMA: (&str, &str) = ("gamma", "id-of-gamma");

#[test]
fn a_role_is_added_and_another_is_removed() {
    let sts = LocalSts::start().unwrap();
    let name = name("reload");
    let folder = Folder::new("", &[ALPHA, BETA]);
    let (running, url) = served_roles(&sts, &name, &folder);
    let (alpha, beta) = (folder.token("alpha"), folder.token("beta"));
    let first = set_of(&url, "/v1/roles/alpha", &alpha);
    set_of(&url, "/v1/roles/beta", &beta);
    folder.write("", &[ALPHA, GAMMA]);
    running.signal(Signal::SIGHUP);
    until("the new role is there", || folder.names() == ["alpha", "gamma"]);
    assert!(is_of(&set_of(&url, "/v1/roles/gamma", &folder.token("gamma")), "id-of-gamma"));
    assert_eq!(ask(&url, "/v1/roles/beta", &beta).0, 403, "the removed one is refused");
    // What has not changed goes on, with its token and its set.
    assert_eq!(folder.token("alpha"), alpha);
    assert_eq!(set_of(&url, "/v1/roles/alpha", &alpha), first);
    assert_eq!(assumed(&sts), 3);
    let pool = SharedRoles::attach(&name).unwrap();
    until("the set of the removed role is wiped", || pool.status().unwrap().entries().len() == 2);
    drop(pool);
    // A role with another external id is another role, with the same token.
    folder.write("", &[("alpha", "another-id"), GAMMA]);
    running.signal(Signal::SIGHUP);
    until("it is the new one", || {
        let (status, set) = ask(&url, "/v1/roles/alpha", &alpha);
        status == 200 && is_of(&set, "another-id")
    });
    // A role that comes back has another token.
    folder.write("", &[ALPHA, BETA]);
    running.signal(Signal::SIGHUP);
    until("it is back", || folder.names() == ["alpha", "beta"]);
    assert_eq!(ask(&url, "/v1/roles/beta", &beta).0, 403);
    assert!(is_of(&set_of(&url, "/v1/roles/beta", &folder.token("beta")), "id-of-beta"));
    folder.write("", &[]);
    running.signal(Signal::SIGHUP);
    until("all are gone", || folder.names().is_empty());
    assert_eq!(ask(&url, "/v1/roles/alpha", &alpha).0, 403);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert_gone(&name);
}

/// A client that waits for its set gets none either.
#[test]
fn a_role_is_removed_while_a_client_waits() {
    // On a busy machine, a short call may be over before the role is removed.
    assert!([6, 12].into_iter().any(|call| removed_beside_a_call(Duration::from_secs(call))));
}

/// Whether the role was removed while the client waited: the token file does not wait for the client.
fn removed_beside_a_call(call: Duration) -> bool {
    let sts = LocalSts::start().unwrap();
    let name = name("waiting");
    let folder = Folder::new("", &[ALPHA, BETA]);
    let (running, url) = served_roles(&sts, &name, &folder);
    let beta = folder.token("beta");
    sts.configure(Settings::new().latency(call)).unwrap();
    let (address, token) = (url.clone(), beta.clone());
    let client = std::thread::spawn(move || ask(&address, "/v1/roles/beta?valid_for=60", &token));
    until("STS is asked", || assumed(&sts) == 1);
    folder.write("", &[ALPHA]);
    running.signal(Signal::SIGHUP);
    until("beta is removed", || folder.names() == ["alpha"]);
    if client.is_finished() {
        return false;
    }
    let (status, body) = client.join().unwrap();
    assert_eq!((status, &body["code"]), (403, &"AccessDenied".into()), "{body}");
    assert!(!body.to_string().contains("SecretAccessKey"), "{body}");
    true
}

/// Two roles exchange their files, and then one file gets another mode: no file is lost.
#[test]
fn token_files_move() {
    let sts = LocalSts::start().unwrap();
    let name = name("moved");
    let folder = Folder::new("", &[]);
    let write = |alpha: &str, beta: &str, more: &str| {
        let role = |name: &str, file: &str| {
            let path = folder.tokens().join(file);
            format!("[role.{name}]\nrole-arn = \"{TENANT}\"\ntoken-file = {path:?}\n")
        };
        let text = role("alpha", alpha) + more + &role("beta", beta);
        std::fs::write(folder.file(), text).unwrap();
    };
    write("one", "two", "");
    let (running, url) = served_roles(&sts, &name, &folder);
    let (alpha, beta) = (folder.token("one"), folder.token("two"));
    write("two", "one", "");
    running.signal(Signal::SIGHUP);
    until("they are exchanged", || folder.token("two") == alpha && folder.token("one") == beta);
    let group = nix::unistd::getegid();
    write("two", "one", &format!("token-group = {group}\n"));
    running.signal(Signal::SIGHUP);
    let mode = || {
        use std::os::unix::fs::PermissionsExt;
        folder.tokens().join("two").metadata().map(|found| found.permissions().mode() & 0o777)
    };
    until("the group may read it", || mode().is_ok_and(|mode| mode == 0o640));
    assert_eq!(folder.token("two"), alpha);
    assert_eq!(folder.names(), ["one", "two"]);
    assert_eq!(ask(&url, "/v1/roles/alpha", &beta).0, 403);
    assert_ne!(ask(&url, "/v1/roles/alpha", &alpha).0, 403);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert!(folder.names().is_empty());
}

/// A token file that somebody has removed is written again. While its directory is missing, other roles can be removed.
#[test]
fn a_token_file_that_is_gone_comes_back() {
    let sts = LocalSts::start().unwrap();
    let name = name("gone");
    let folder = Folder::new("", &[ALPHA, BETA]);
    let (mut running, url) = served_roles(&sts, &name, &folder);
    let mut log = BufReader::new(running.child.stderr.take().unwrap());
    let (alpha, beta) = (folder.token("alpha"), folder.token("beta"));
    std::fs::remove_dir_all(folder.tokens()).unwrap();
    folder.write("", &[ALPHA]);
    running.signal(Signal::SIGHUP);
    until("beta is refused", || ask(&url, "/v1/roles/beta", &beta).0 == 403);
    let mut line = String::new();
    log.read_line(&mut line).unwrap();
    assert!(line.contains("role.alpha") && line.contains("cannot be written again"), "{line}");
    assert!(is_of(&set_of(&url, "/v1/roles/alpha", &alpha), "id-of-alpha"));
    std::fs::create_dir(folder.tokens()).unwrap();
    running.signal(Signal::SIGHUP);
    until("the file is there", || folder.names() == ["alpha"]);
    assert_eq!(folder.token("alpha"), alpha);
    // One that is another file now is replaced.
    std::fs::remove_file(folder.tokens().join("alpha")).unwrap();
    std::fs::write(folder.tokens().join("alpha"), "of somebody else").unwrap();
    running.signal(Signal::SIGHUP);
    until("it is replaced", || folder.token("alpha") == alpha);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert!(folder.names().is_empty());
}

#[test]
fn a_broken_file_changes_nothing() {
    let sts = LocalSts::start().unwrap();
    let name = name("broken");
    let folder = Folder::new("", &[ALPHA, BETA]);
    let (mut running, url) = served_roles(&sts, &name, &folder);
    let mut log = BufReader::new(running.child.stderr.take().unwrap());
    let mut said = String::new();
    let mut next = || {
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        said += &line;
        line
    };
    let (alpha, beta) = (folder.token("alpha"), folder.token("beta"));
    let right = std::fs::read_to_string(folder.file()).unwrap();
    let without_beta = right.split("[role.beta]").next().unwrap();
    let nowhere = folder.0.path().join("nowhere/token");
    for (text, says) in [
        (
            format!("{without_beta}externel-id = \"hush-hush\"\n"),
            "line 7: role.alpha: \"externel-id\" is no setting",
        ),
        (format!("{without_beta}[role.new]\nrole-arn = \"hush-hush\"\n"), "role.new: role_arn"),
        // The file of the first role could be written, that of the second one could not.
        (
            format!(
                "{without_beta}token-group = {}\n[role.new]\nrole-arn = \"{TENANT}\"\ntoken-file = {nowhere:?}\n",
                nix::unistd::getegid()
            ),
            "role.new: token-file",
        ),
        ("hush-hush".to_owned(), "line 1 is not TOML"),
        // A program that writes the file has failed, or has just begun.
        ("\n".to_owned(), "roles.toml: it is empty"),
    ] {
        std::fs::write(folder.file(), text).unwrap();
        running.signal(Signal::SIGHUP);
        let line = next();
        assert!(line.contains("the roles stay as they are") && line.contains(says), "{line}");
        assert_eq!(folder.names(), ["alpha", "beta"]);
        assert_eq!((folder.token("alpha"), folder.token("beta")), (alpha.clone(), beta.clone()));
        assert!(is_of(&set_of(&url, "/v1/roles/beta", &beta), "id-of-beta"));
    }
    std::fs::remove_file(folder.file()).unwrap();
    running.signal(Signal::SIGHUP);
    let line = next();
    assert!(line.contains("the roles stay as they are") && line.contains("roles.toml"), "{line}");
    // Opening a pipe would wait for a writer, and no later signal would be noticed.
    nix::unistd::mkfifo(&folder.file(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    running.signal(Signal::SIGHUP);
    let line = next();
    assert!(line.contains("the roles stay as they are") && line.contains("it is a pipe"), "{line}");
    std::fs::remove_file(folder.file()).unwrap();
    // The settings of the pool stay what they were.
    folder.write("capacity = 7", &[ALPHA]);
    running.signal(Signal::SIGHUP);
    let line = next();
    assert!(line.contains("capacity stays 1000, although the roles file says 7"), "{line}");
    until("the role is removed", || folder.names() == ["alpha"]);
    running.signal(Signal::SIGTERM);
    running.silence();
    log.read_to_string(&mut said).unwrap();
    for secret in [&alpha, &beta, "hush-hush", "id-of-alpha", BASE_SECRET] {
        assert!(!said.contains(secret), "{said}");
    }
}

/// Makes each kind of path that is no regular file; gives it and what is said about it.
fn paths_without_a_file(folder: &Path) -> Vec<(PathBuf, &'static str)> {
    let place = |name: &str| folder.join(name);
    nix::unistd::mkfifo(&place("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    std::os::unix::fs::symlink(place("pipe"), place("link")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(place("socket")).unwrap());
    vec![
        (place("pipe"), "it is a pipe, must be a regular file"),
        (place("link"), "it is a pipe, must be a regular file"),
        (place("socket"), "it is a socket, must be a regular file"),
        (folder.to_owned(), "it is a directory, must be a regular file"),
        (PathBuf::from("/dev/zero"), "it is a device, must be a regular file"),
        (PathBuf::from("/dev/tty"), "it is a device, must be a regular file"),
    ]
}

/// A path may lead to anything. Nothing waits for what nobody writes.
#[test]
fn a_roles_file_that_is_no_regular_file_is_refused_at_the_start() {
    let (sts, folder) = (LocalSts::start().unwrap(), Folder::new("", &[]));
    for (path, problem) in paths_without_a_file(folder.0.path()) {
        let name = name("no-file");
        let mut exec = shmcreds(&sts);
        exec.args(["exec", "--name", &name, "--role", "alpha", "--roles"]).arg(&path);
        exec.args(["--", "true"]);
        for command in [serve_roles(&sts, &name, &path), exec] {
            let output = ended_soon(command);
            let said = text(&output.stderr);
            assert!(said.contains("--roles") && said.contains(path.to_str().unwrap()), "{said}");
            assert!(said.contains(problem) && said.lines().count() == 1, "{said}");
            assert_eq!(code(&output), 66, "{said}");
        }
        assert_gone(&name);
    }
}

/// The same at SIGHUP: the roles stay, and the next file is read.
#[test]
fn a_roles_file_that_becomes_a_pipe_changes_nothing() {
    let sts = LocalSts::start().unwrap();
    let name = name("piped");
    let folder = Folder::new("", &[ALPHA]);
    let (mut running, url) = served_roles(&sts, &name, &folder);
    let mut log = BufReader::new(running.child.stderr.take().unwrap());
    let pipes = tempfile::tempdir().unwrap();
    for (path, problem) in paths_without_a_file(pipes.path()) {
        std::fs::remove_file(folder.file()).unwrap();
        std::os::unix::fs::symlink(&path, folder.file()).unwrap();
        running.signal(Signal::SIGHUP);
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert!(line.contains("the roles stay as they are") && line.contains(problem), "{line}");
        assert!(is_of(&set_of(&url, "/v1/roles/alpha", &folder.token("alpha")), "id-of-alpha"));
    }
    std::fs::remove_file(folder.file()).unwrap();
    folder.write("", &[ALPHA, BETA]);
    running.signal(Signal::SIGHUP);
    until("beta is there", || folder.names() == ["alpha", "beta"]);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
    assert_gone(&name);
}
