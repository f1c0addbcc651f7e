//! A dedicated refresher that is a program of its own.
#![allow(unsafe_code)]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use aws_credential_types::Credentials;
use nix::{
    errno::Errno,
    sys::{
        prctl::set_child_subreaper,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use shmcreds::{
    AssumeRole, ErrorKind, Refresh, SharedSession, SharedSessionBuilder, State,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};
use support::{
    BASE_SECRET, assumed, child, elected, instant, lives, lock, name, parent_of, segment, until,
};

fn main() {
    support::run_forking(&[
        ("it_refreshes_a_process_with_threads", it_refreshes_a_process_with_threads),
        ("it_has_a_clean_name_and_shows_no_secret", it_has_a_clean_name_and_shows_no_secret),
        ("it_keeps_nothing_of_the_creator", it_keeps_nothing_of_the_creator),
        ("its_end_is_no_event_of_the_creator", its_end_is_no_event_of_the_creator),
        ("one_who_adopts_orphans_does_not_see_it_either", one_who_adopts_orphans),
        ("it_ends_with_the_last_user", it_ends_with_the_last_user),
        ("its_keeper_removes_the_names", its_keeper_removes_the_names),
        ("a_worker_goes_on_when_it_is_killed", a_worker_goes_on_when_it_is_killed),
        ("the_first_error_is_that_of_create", the_first_error_is_that_of_create),
        ("it_reads_the_environment_of_the_creator", it_reads_the_environment_of_the_creator),
        ("a_program_with_another_environment_is_refused", a_program_with_another_environment),
        ("a_program_that_cannot_be_one_is_named", a_program_that_cannot_be_one),
        ("what_cannot_be_handed_over_is_forked", what_cannot_be_handed_over_is_forked),
        ("it_is_found_in_path_where_a_fork_is_not_possible", it_is_found_in_path),
        ("the_command_is_not_for_people", the_command_is_not_for_people),
        ("a_session_of_the_last_user_too", a_session_of_the_last_user_too),
    ]);
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_shmcreds");

fn role(sts: &LocalSts) -> AssumeRole {
    let keys = Credentials::new("AKIAIOSFODNN7EXAMPLE", BASE_SECRET, None, None, "base");
    AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .session_name("test")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .external_id("tenant-42-hush")
        .base_keys(keys)
}

fn eager(name: &str, sts: &LocalSts) -> SharedSessionBuilder {
    let builder = SharedSession::builder(name).source(role(sts)).refresh(Refresh::Eager);
    builder.refresher_program(PROGRAM)
}

/// Runs `work` while this process has three more threads.
fn with_threads<T>(work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let ends: Vec<_> = (0..3)
            .map(|_| {
                let (end, wait) = channel::<()>();
                scope.spawn(move || wait.recv().unwrap_or_default());
                end
            })
            .collect();
        until("four threads run", || support::threads() == 4);
        let outcome = work();
        drop(ends);
        outcome
    })
}

fn proc_bytes(pid: Pid, file: &str) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/{file}")).unwrap()
}

fn executable(pid: Pid) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

fn it_refreshes_a_process_with_threads() {
    let sts = LocalSts::fork().unwrap();
    sts.configure(Settings::new().lifetime(Duration::from_secs(6))).unwrap();
    let name = name("threads");
    // In a child: this process stays one with a single thread.
    child(|_| {
        let session = with_threads(|| eager(&name, &sts).create().unwrap());
        let status = session.status().unwrap();
        assert_eq!(
            (status.state(), status.generation(), status.mode()),
            (State::Fresh, 1, Refresh::Eager)
        );
        let refresher = elected(&session).unwrap();
        assert_eq!(executable(refresher), Path::new(PROGRAM));
        // Nobody reads, and the set is replaced all the same.
        until("it refreshes", || session.status().unwrap().generation() >= 3);
        session.credentials().unwrap();
        session.refresh().unwrap();
        assert_eq!(elected(&session), Some(refresher));
    })
    .finish();
    until("it ends with its user", || !Path::new(&lock(&name)).exists());
}

fn it_has_a_clean_name_and_shows_no_secret() {
    let sts = LocalSts::fork().unwrap();
    let name = name("clean");
    child(|_| {
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var("A_SECRET_OF_THE_SERVER", "hush-of-the-server") };
        let session = eager(&name, &sts).create().unwrap();
        let refresher = elected(&session).unwrap();
        for pid in [refresher, parent_of(refresher)] {
            let (line, environment) = (proc_bytes(pid, "cmdline"), proc_bytes(pid, "environ"));
            let all = [&line[..], &environment, &proc_bytes(pid, "comm")].concat();
            let all = String::from_utf8_lossy(&all);
            for secret in ["hush", BASE_SECRET, "AKIAIOSFODNN7EXAMPLE"] {
                assert!(!all.contains(secret), "{all}");
            }
            assert_eq!(environment, b"");
            let line = String::from_utf8_lossy(&line);
            assert_eq!(line.trim_end_matches('\0'), format!("shmcreds: {name}"));
        }
    })
    .finish();
}

fn it_keeps_nothing_of_the_creator() {
    let sts = LocalSts::fork().unwrap();
    let name = name("nothing");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("open");
    child(|_| {
        // A descriptor that is inherited on exec, and memory with a mark.
        let open = fs::File::create(&file).unwrap();
        let keep = nix::fcntl::FdFlag::empty();
        nix::fcntl::fcntl(&open, nix::fcntl::FcntlArg::F_SETFD(keep)).unwrap();
        let session = eager(&name, &sts).create().unwrap();
        let refresher = elected(&session).unwrap();
        for pid in [refresher, parent_of(refresher)] {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
            // It may close one meanwhile.
            let target = |fd: &Path| match fs::read_link(fd) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                target => Some(target.unwrap()),
            };
            let files: Vec<_> = files.filter_map(|fd| target(&fd.unwrap().path())).collect();
            assert!(!files.contains(&file), "{files:?}");
            let maps = String::from_utf8(proc_bytes(pid, "maps")).unwrap();
            let own = std::env::current_exe().unwrap();
            assert!(!maps.contains(own.to_str().unwrap()), "{maps}");
            assert!(!maps.contains("handover"), "{maps}");
        }
        drop(open);
    })
    .finish();
}

fn its_end_is_no_event_of_the_creator() {
    let sts = LocalSts::fork().unwrap();
    let name = name("no-event");
    child(|_| {
        let session = eager(&name, &sts).create().unwrap();
        let none = || waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
        assert_eq!(none(), Err(Errno::ECHILD));
        let refresher = elected(&session).unwrap();
        let keeper = parent_of(refresher);
        kill(refresher, Signal::SIGKILL).unwrap();
        kill(keeper, Signal::SIGKILL).unwrap();
        until("both are gone", || !lives(refresher) && !lives(keeper));
        assert_eq!(none(), Err(Errno::ECHILD));
        session.unlink();
    })
    .finish();
}

fn one_who_adopts_orphans() {
    let sts = LocalSts::fork().unwrap();
    let name = name("adopts");
    child(|_| {
        set_child_subreaper(true).unwrap();
        let session = with_threads(|| eager(&name, &sts).create().unwrap());
        let none = || waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
        assert_eq!(none(), Err(Errno::ECHILD));
        let refresher = elected(&session).unwrap();
        let keeper = parent_of(refresher);
        let stand_in = parent_of(keeper);
        assert_eq!(parent_of(stand_in), Pid::this());
        let open = fs::read_dir(format!("/proc/{stand_in}/fd")).unwrap().count();
        assert_eq!(open, 0, "it has no descriptor of the server");
        kill(keeper, Signal::SIGKILL).unwrap();
        kill(refresher, Signal::SIGKILL).unwrap();
        until("all are gone", || !lives(refresher) && !lives(stand_in));
        assert_eq!(none(), Err(Errno::ECHILD));
        session.unlink();
    })
    .finish();
}

fn it_ends_with_the_last_user() {
    let sts = LocalSts::fork().unwrap();
    let name = name("ends");
    let mut creator = child(|report| {
        let session = eager(&name, &sts).create().unwrap();
        report.say(format!("{}\n", elected(&session).unwrap()));
        until("it is killed", || false);
    });
    let refresher = Pid::from_raw(creator.hear_line().parse().unwrap());
    let user = SharedSession::attach(&name).unwrap();
    creator.signal(Signal::SIGKILL);
    creator.reap();
    user.refresh().unwrap();
    assert!(lives(refresher), "one user is left");
    let keeper = parent_of(refresher);
    drop(user);
    until("it ends", || !lives(refresher) && !lives(keeper));
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}

fn its_keeper_removes_the_names() {
    let sts = LocalSts::fork().unwrap();
    let name = name("keeper");
    let mut creator = child(|report| {
        let session = eager(&name, &sts).create().unwrap();
        report.say(format!("{}\n", elected(&session).unwrap()));
        until("it is killed", || false);
    });
    let refresher = Pid::from_raw(creator.hear_line().parse().unwrap());
    kill(refresher, Signal::SIGKILL).unwrap();
    creator.signal(Signal::SIGKILL);
    creator.reap();
    until("the keeper removes the names", || {
        !Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists()
    });
}

fn a_worker_goes_on_when_it_is_killed() {
    let sts = LocalSts::fork().unwrap();
    sts.configure(Settings::new().lifetime(Duration::from_secs(4))).unwrap();
    let name = name("killed");
    let session = eager(&name, &sts).create().unwrap();
    let refresher = elected(&session).unwrap();
    let worker = child(|_| {
        let session = SharedSession::attach(&name).unwrap();
        until("it goes on", || {
            session.credentials().unwrap();
            session.status().unwrap().generation() >= 3
        });
        assert_eq!(elected(&session), Some(Pid::this()));
    });
    kill(refresher, Signal::SIGKILL).unwrap();
    worker.finish();
    assert!(assumed(&sts) >= 3);
}

fn the_first_error_is_that_of_create() {
    let sts = LocalSts::fork().unwrap();
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let name = name("denied");
    let error = eager(&name, &sts).create().unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::SourceTerminal, "create"));
    assert_eq!(error.source_error().unwrap().code(), Some("AccessDenied"));
    assert_eq!(assumed(&sts), 1);
    assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
}

/// The base keys of a role, in the environment of a child, which has one thread.
fn set_base_keys(url: &str, config_file: &str) {
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", BASE_SECRET),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL_STS", url),
        ("AWS_CONFIG_FILE", config_file),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ];
    for (key, value) in variables {
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var(key, value) };
    }
}

fn it_reads_the_environment_of_the_creator() {
    let sts = LocalSts::fork().unwrap();
    let (name, url) = (name("environment"), sts.url().to_string());
    child(|_| {
        set_base_keys(&url, "/dev/null");
        let role = AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("test");
        let builder = SharedSession::builder(&name).source(role).refresh(Refresh::Eager);
        let session = builder.refresher_program(PROGRAM).create().unwrap();
        session.credentials().unwrap();
        assert_eq!(proc_bytes(elected(&session).unwrap(), "environ"), b"");
    })
    .finish();
    assert_eq!(assumed(&sts), 1);
}

/// A script starts the program in another directory, where a relative path leads to another file.
fn a_program_with_another_environment() {
    let sts = LocalSts::fork().unwrap();
    let (name, url) = (name("elsewhere"), sts.url());
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, directory: &str| {
        let path = folder.path().join(name);
        let text = format!("#!/bin/sh\ncd '{directory}' && exec '{PROGRAM}' \"$@\"\n");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    };
    let here = script("here", std::env::current_dir().unwrap().to_str().unwrap());
    let elsewhere = script("elsewhere", "/");
    child(|_| {
        set_base_keys(&url, "absent-config");
        let create = |program: &Path| {
            let role = AssumeRole::new("arn:aws:iam::123456789012:role/app").session_name("test");
            let builder = SharedSession::builder(&name).source(role).refresh(Refresh::Eager);
            builder.refresher_program(program).create()
        };
        let error = create(&elsewhere).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::System, "{error}");
        assert!(
            error.to_string().contains("the source reads another environment there"),
            "{error}"
        );
        assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
        assert_eq!(assumed(&sts), 0, "it has asked nobody");
        create(&here).unwrap().credentials().unwrap();
        assert_eq!(assumed(&sts), 1);
    })
    .finish();
}

fn a_program_that_cannot_be_one() {
    let sts = LocalSts::fork().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let refused = |path: &Path| {
        let name = name("program");
        let builder = SharedSession::builder(&name).source(role(&sts)).refresh(Refresh::Eager);
        let error = builder.refresher_program(path).create().unwrap_err();
        assert!(!Path::new(&segment(&name)).exists() && !Path::new(&lock(&name)).exists());
        // The embedded STS is the only child.
        let waited = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG));
        assert_eq!(waited, Ok(WaitStatus::StillAlive));
        (error.kind(), error.to_string())
    };
    for (path, problem) in [
        (PathBuf::from("shmcreds"), "is not an absolute path"),
        (folder.path().join("absent"), "does not exist"),
        (file("plain", "", 0o600), "is not a file that can be executed"),
        (folder.path().to_owned(), "is not a file that can be executed"),
    ] {
        let (kind, text) = refused(&path);
        assert_eq!(kind, ErrorKind::Misconfigured, "{text}");
        assert!(text.contains("refresher_program: ") && text.contains(problem), "{text}");
    }
    let (kind, text) = refused(&file("no-program", "\x7fELF", 0o700));
    assert_eq!(kind, ErrorKind::System);
    assert!(text.contains("starting the refresher: Exec format error"), "{text}");
    // A program that is another one.
    let (kind, text) = refused(Path::new("/bin/true"));
    assert_eq!(kind, ErrorKind::System, "{text}");
    assert!(text.contains("starting the refresher"), "{text}");
    assert_eq!(assumed(&sts), 0);
}

fn what_cannot_be_handed_over_is_forked() {
    let sts = LocalSts::fork().unwrap();
    let own = std::env::current_exe().unwrap();
    let is_forked = |builder: SharedSessionBuilder| {
        let builder = builder.refresh(Refresh::Eager).refresher_program(PROGRAM);
        let session = builder.clone().create().unwrap();
        assert_eq!(executable(elected(&session).unwrap()), own);
        drop(session);
        child(|_| {
            let error = with_threads(|| builder.create().unwrap_err());
            assert_eq!(error.kind(), ErrorKind::Multithreaded, "{error}");
            assert!(error.to_string().contains("4 threads, and "), "{error}");
        })
        .finish();
    };
    is_forked(SharedSession::builder(name("closure")).source(instant()));
    is_forked(SharedSession::builder(name("sealed")).source(role(&sts)).sealed());
    let clock = ManualClock::new().unwrap();
    is_forked(SharedSession::builder(name("clock")).source(role(&sts)).clock(&clock));
    is_forked(SharedSession::builder(name("base")).source(role(&sts).base_source(instant())));
}

fn it_is_found_in_path() {
    let sts = LocalSts::fork().unwrap();
    let folder = Path::new(PROGRAM).parent().unwrap();
    let create = |path: &Path, threads: bool| {
        child(|report| {
            // SAFETY: this process has one thread.
            unsafe { std::env::set_var("PATH", path) };
            let builder = SharedSession::builder(name("found")).source(role(&sts));
            let create = || builder.refresh(Refresh::Eager).create();
            let made = if threads { with_threads(create) } else { create() };
            report.say(match made {
                Ok(session) => executable(elected(&session).unwrap()).display().to_string(),
                Err(error) => error.to_string(),
            });
        })
        .finish()
    };
    assert_eq!(create(folder, true), PROGRAM);
    let own = std::env::current_exe().unwrap();
    assert_eq!(create(folder, false), own.to_str().unwrap(), "a fork is possible");
    let text = create(Path::new("/dev"), true);
    assert!(text.contains("there is no program `shmcreds` in PATH"), "{text}");
}

fn the_command_is_not_for_people() {
    for input in ["", "{}", "{\"version\":\"0\"}"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input");
        fs::write(&path, input).unwrap();
        let answer = std::process::Command::new(PROGRAM)
            .arg("refresher")
            .stdin(fs::File::open(path).unwrap())
            .output()
            .unwrap();
        assert_eq!(answer.status.code(), Some(64));
        let text = String::from_utf8_lossy(&answer.stderr);
        assert!(text.contains("handed over") || text.contains("hands over"), "{text}");
    }
}

fn a_session_of_the_last_user_too() {
    let sts = LocalSts::fork().unwrap();
    let name = name("last-user");
    let user = || {
        let mut user = child(|report| {
            let builder = eager(&name, &sts).removed_by_last_user();
            let session = with_threads(|| builder.attach_or_create().unwrap());
            report.say(format!("{}\n", session.credentials().unwrap().access_key_id()));
            until("it is killed", || false);
        });
        (user.hear_line(), user)
    };
    let (first, creator) = user();
    let (second, other) = user();
    drop(creator);
    let (third, newcomer) = user();
    assert_eq!((&first, &first, assumed(&sts)), (&second, &third, 1));
    drop((other, newcomer));
    until("names are gone", || !Path::new(&lock(&name)).exists());
}
