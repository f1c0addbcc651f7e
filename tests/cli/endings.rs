//! `exec` as a supervisor: whatever dies, nothing is left.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use shmcreds::testing::{Fault, LocalSts, Times};

use crate::{harness::*, terminal::Terminal};

/// A family: a child, a grandchild, and an orphan that has a session of its own.
const FAMILY: &str = "(sleep 1000 & sleep 1000) & (setsid sleep 1000 &) ; echo ready; wait";

/// `exec` of a script, in processes that can be found.
fn marked_exec(sts: &LocalSts, name: &str, options: &[&str], script: &str) -> Command {
    let mut command = shmcreds(sts);
    command.env("MARK", name).args(["exec", "--name", name]).args(options).args(ROLE);
    command.args(["--", "/bin/sh", "-c", script]);
    command
}

fn assert_nothing_is_left(name: &str) {
    until("nothing is left", || marked(name).is_empty());
    assert_gone(name);
}

#[derive(Clone, Copy, Debug)]
enum Victim {
    Guard,
    Supervisor,
    Cmd,
}

impl Victim {
    fn pid(self, running: &Running) -> Pid {
        let supervisor = || child_of(running.pid()).unwrap();
        match self {
            Victim::Guard => running.pid(),
            Victim::Supervisor => supervisor(),
            Victim::Cmd => child_of(supervisor()).unwrap(),
        }
    }
}

/// Kills one of the three once `script` says that it is ready.
fn killed(what: &str, victim: Victim, options: &[&str], script: &str) {
    let sts = LocalSts::start().unwrap();
    let name = name(what);
    let mut running = Running::start(marked_exec(&sts, &name, options, script));
    assert_eq!(running.line(), "ready");
    assert!(marked(&name).len() >= 3, "{victim:?}");
    kill(victim.pid(&running), Signal::SIGKILL).unwrap();
    running.silence();
    let status = running.child.wait().unwrap();
    match victim {
        Victim::Guard => assert_eq!(status.code(), None),
        Victim::Supervisor | Victim::Cmd => assert_eq!(status.code(), Some(128 + 9)),
    }
    assert_nothing_is_left(&name);
}

#[test]
fn a_killed_guard_takes_all_with_it() {
    killed("guard", Victim::Guard, &[], FAMILY);
}

#[test]
fn a_killed_supervisor_takes_all_with_it() {
    killed("supervisor", Victim::Supervisor, &[], FAMILY);
}

#[test]
fn a_killed_program_takes_all_with_it() {
    killed("cmd", Victim::Cmd, &[], FAMILY);
}

#[test]
fn whoever_is_killed_nothing_is_left_of_a_sealed_session() {
    for victim in [Victim::Guard, Victim::Supervisor, Victim::Cmd] {
        killed("killed-sealed", victim, &["--sealed"], FAMILY);
    }
}

#[test]
fn what_does_not_want_to_end_is_killed() {
    let script = "trap '' TERM; sleep 1000 & echo ready; while :; do sleep 1; done";
    killed("stubborn-cmd", Victim::Guard, &[], script);
    let script = "(trap '' TERM; sleep 1000; sleep 1000) & echo ready; wait";
    killed("stubborn-child", Victim::Supervisor, &[], script);
}

#[test]
fn a_stopped_program_ends_too() {
    killed("stopped", Victim::Guard, &[], "sleep 1000 & echo ready; kill -STOP $$; wait");
}

#[test]
fn a_program_that_puts_itself_in_the_background_is_ended() {
    let sts = LocalSts::start().unwrap();
    let name = name("daemon");
    let script = "setsid /bin/sh -c 'setsid sleep 1000 & setsid sleep 1000' & exit 3";
    let output = marked_exec(&sts, &name, &[], script).output().unwrap();
    assert_eq!(code(&output), 3, "{}", text(&output.stderr));
    assert_nothing_is_left(&name);
}

#[test]
fn killed_before_the_first_set_it_leaves_nothing() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::BlackHole, Times::UntilCleared).unwrap();
    for (victim, options) in [
        (Victim::Guard, &[][..]),
        (Victim::Supervisor, &[]),
        (Victim::Guard, &["--sealed"]),
        (Victim::Supervisor, &["--sealed"]),
    ] {
        let name = name("unborn");
        let asked = assumed(&sts);
        let mut running = Running::start(marked_exec(&sts, &name, options, "echo started"));
        until("it asks STS", || assumed(&sts) > asked);
        kill(victim.pid(&running), Signal::SIGKILL).unwrap();
        assert_eq!(running.silence(), "");
        running.child.wait().unwrap();
        assert_nothing_is_left(&name);
    }
}

#[test]
fn killed_at_any_moment_it_leaves_nothing() {
    let sts = LocalSts::start().unwrap();
    for round in 0..40 {
        let name = name("moment");
        let mut running = Running::start(marked_exec(&sts, &name, &[], FAMILY));
        thread::sleep(Duration::from_millis(round));
        let victim = match round % 2 {
            0 => Some(running.pid()),
            _ => child_of(running.pid()),
        };
        // There may be no supervisor yet.
        kill(victim.unwrap_or(running.pid()), Signal::SIGKILL).unwrap();
        running.silence();
        running.child.wait().unwrap();
        assert_nothing_is_left(&name);
    }
}

#[test]
fn when_both_are_killed_the_program_is_and_the_next_one_clears_up() {
    let sts = LocalSts::start().unwrap();
    let unnamed = |script: &str| {
        let mut command = shmcreds(&sts);
        command.arg("exec").args(ROLE).args(["--", "/bin/sh", "-c", script]);
        command
    };
    let mut running = Running::start(unnamed("echo $SHMCREDS_SESSION; exec sleep 1000"));
    let name = running.line();
    let random = name.strip_prefix("exec-").unwrap();
    assert!(random.len() == 16 && random.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    let supervisor = child_of(running.pid()).unwrap();
    // Stopped, neither can do anything before the other is killed.
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        kill(supervisor, signal).unwrap();
        running.signal(signal);
    }
    assert_eq!(running.silence(), "");
    assert_eq!(code(&unnamed("true").output().unwrap()), 0);
    assert_gone(&name);
}

/// A change of credentials clears the parent-death signal.
#[test]
fn when_both_are_killed_a_program_of_another_user_is_too() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let sts = LocalSts::start().unwrap();
    for options in [&[][..], &["--sealed"]] {
        let name = name("both-setpriv");
        let script =
            "exec setpriv --reuid 12345 --clear-groups /bin/sh -c 'id -u; exec sleep 1000'";
        let mut running = Running::start(marked_exec(&sts, &name, options, script));
        assert_eq!(running.line(), "12345");
        let supervisor = child_of(running.pid()).unwrap();
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            kill(supervisor, signal).unwrap();
            running.signal(signal);
        }
        running.child.wait().unwrap();
        until("nothing is left", || marked(&name).is_empty());
        let _ = shmcreds(&sts).args(["remove", &name]).output();
        assert_gone(&name);
    }
}

#[test]
fn one_of_the_two_is_enough_for_a_program_of_another_user() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let script =
        "exec setpriv --reuid 12345 --clear-groups /bin/sh -c 'echo ready; exec sleep 1000'";
    for victim in [Victim::Guard, Victim::Supervisor] {
        killed("one-setpriv", victim, &[], script);
    }
}

#[test]
fn a_program_that_puts_itself_in_the_background_is_told_of() {
    let sts = LocalSts::start().unwrap();
    let name = name("told");
    let output = marked_exec(&sts, &name, &[], "setsid sleep 1000 & exit 0").output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(code(&output), 0, "{said}");
    assert!(said.contains(" behind, which is ended") && said.contains("--wait-orphans"), "{said}");
    assert_nothing_is_left(&name);
    // A program that leaves nothing, and one that fails, are not told so.
    for script in ["exit 0", "sleep 1000 & exit 3"] {
        let output = marked_exec(&sts, &name, &[], script).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{script}");
    }
}

#[test]
fn a_program_in_the_background_is_waited_for() {
    let sts = LocalSts::start().unwrap();
    let name = name("waited");
    let credentials = "$SHMCREDS credentials $SHMCREDS_SESSION >/dev/null && echo served";
    let daemon = format!(
        "trap 'echo told; exit 0' TERM; echo up; read go < $FIFO; {credentials}; \
                          echo again; while :; do sleep 0.01; done"
    );
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = "setsid /bin/sh -c \"$DAEMON\" & exit 0";
    let start = || {
        let mut command = marked_exec(&sts, &name, &["--wait-orphans"], script);
        command.env("DAEMON", &daemon).env("FIFO", &fifo);
        let mut running = Running::start(command);
        assert_eq!(running.line(), "up");
        let supervisor = child_of(running.pid()).unwrap();
        let daemon_s_parent = || {
            let children =
                std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"));
            let first = children.unwrap_or_default();
            let first = first.split_whitespace().next().unwrap_or("0").to_owned();
            std::fs::read_to_string(format!("/proc/{first}/cmdline"))
                .is_ok_and(|line| line.contains("echo up"))
        };
        until("the program has ended, and its daemon lives", daemon_s_parent);
        std::fs::write(&fifo, "go\n").unwrap();
        assert_eq!((running.line(), running.line()), ("served".into(), "again".into()));
        running
    };
    let running = start();
    running.signal(Signal::SIGTERM);
    let mut running = running;
    assert_eq!(running.line(), "told");
    assert_eq!(running.wait(), 0);
    assert_nothing_is_left(&name);
    // Without a guard, nobody waits.
    let mut running = start();
    running.signal(Signal::SIGKILL);
    assert_eq!(running.line(), "told");
    running.wait_for_end();
    assert_nothing_is_left(&name);
    // A program that fails has no daemon to wait for.
    let mut command = marked_exec(&sts, &name, &["--wait-orphans"], "sleep 1000 & exit 3");
    assert_eq!(code(&command.output().unwrap()), 3);
}

/// Containers of one pod: a pid namespace for each, and one `/dev/shm`.
#[test]
fn pid_namespaces_that_share_dev_shm_have_a_session_each() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let sts = LocalSts::start().unwrap();
    let container = || {
        let script = "echo $SHMCREDS_SESSION; while read line; do \
                      $SHMCREDS credentials $SHMCREDS_SESSION >/dev/null; echo $?; done";
        let mut command = shmcreds(&sts);
        command.arg("exec").args(ROLE).args(["--", "/bin/sh", "-c", script]);
        let mut command = wrapped("exec unshare --pid --fork --kill-child -- \"$@\"", &command);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        let name = running.line();
        assert!(name.starts_with("exec-"), "{name}");
        (running, name)
    };
    let mut containers: Vec<_> = (0..3).map(|_| container()).collect();
    let names: BTreeSet<String> = containers.iter().map(|(_, name)| name.clone()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    // Each start has looked for what killed processes have left, and has left alone what lives.
    for (running, _) in &mut containers {
        running.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(running.line(), "0");
    }
    // What a killed container has left is cleared up from another one.
    let (mut killed, left) = containers.remove(0);
    killed.signal(Signal::SIGKILL);
    killed.wait_for_end();
    let (_another, _) = container();
    assert_gone(&left);
    for (running, _) in &mut containers {
        running.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        assert_eq!(running.line(), "0");
    }
}

/// A source that runs programs has children in the supervisor, too: it alone waits for them.
#[test]
fn orphans_and_the_programs_of_a_source_are_told_apart() {
    let sts = LocalSts::start().unwrap();
    let name = name("programs");
    let expires = "2100-01-01T00:00:00Z";
    let answer = format!(
        r#"{{"Version":1,"AccessKeyId":"ASIAEXAMPLE00001","SecretAccessKey":"s","SessionToken":"t","Expiration":"{expires}"}}"#
    );
    let script = "for i in 1 2 3 4 5 6 7 8; do (setsid true &); $SHMCREDS refresh $SHMCREDS_SESSION || exit 9; done";
    let mut command = shmcreds(&sts);
    command.args(["exec", "--name", &name, "--process", "/bin/echo", "--process-arg", &answer]);
    let output = command.args(["--", "/bin/sh", "-c", script]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().last(), Some("generation 9"));
}

#[test]
fn ctrl_c_reaches_the_program_once() {
    let sts = LocalSts::start().unwrap();
    let name = name("ctrl-c");
    let script = "n=0; trap 'n=$((n+1)); echo interrupt $n' INT; trap 'echo counted $n; exit 4' USR1; \
                  echo ready; while :; do sleep 0.01; done";
    let mut terminal = Terminal::start(marked_exec(&sts, &name, &[], script), 80, 24);
    terminal.shows("ready");
    for count in 1..=3 {
        terminal.press("\x03");
        terminal.shows(&format!("interrupt {count}"));
    }
    // What the guard had to forward before it has arrived before this.
    kill(Pid::from_raw(terminal.child.id() as i32), Signal::SIGUSR1).unwrap();
    terminal.shows("counted 3");
    assert_eq!(terminal.wait().code(), Some(4));
    assert_nothing_is_left(&name);
}

#[test]
fn a_job_is_stopped_and_goes_on() {
    let sts = LocalSts::start().unwrap();
    let name = name("job");
    let program = marked_exec(&sts, &name, &[], "echo ready; read line; echo got $line; exit 6");
    let job = "set -m; \"$@\"; echo stopped $?; fg; echo ended $?";
    let mut terminal = Terminal::start(wrapped(job, &program), 80, 24);
    terminal.shows("ready");
    terminal.press("\x1a");
    terminal.shows("stopped 148");
    terminal.press("a line\n");
    terminal.shows("got a line");
    terminal.shows("ended 6");
    assert_eq!(terminal.wait().code(), Some(0));
    assert_nothing_is_left(&name);
}

#[test]
fn what_was_ignored_stays_ignored() {
    let sts = LocalSts::start().unwrap();
    let name = name("ignored");
    let script = "kill -HUP $PPID; kill -HUP $$; kill -INT $$; echo alive";
    let program = marked_exec(&sts, &name, &[], script);
    let mut command = wrapped("trap '' HUP INT; exec \"$@\"", &program);
    let output = command.output().unwrap();
    assert_eq!((code(&output), text(&output.stdout).as_str()), (0, "alive\n"));
    assert_nothing_is_left(&name);
}

#[test]
fn the_program_gets_the_limits_of_its_parent() {
    let sts = LocalSts::start().unwrap();
    let program = exec(&sts, &name("limits"), "ulimit -Sn");
    let mut command = wrapped("ulimit -Sn 300; exec \"$@\"", &program);
    assert_eq!(text(&command.output().unwrap().stdout), "300\n");
}

/// Each limit of threads that is too low is an error that says so, and leaves nothing.
#[test]
fn too_few_threads_are_an_error() {
    // The limit does not count for root.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (sts, name) = (LocalSts::start().unwrap(), name("threads"));
    // A user who has no other process.
    let uid = 1_000_000 + std::process::id();
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    std::os::unix::fs::chown(folder.path(), Some(uid), Some(uid)).unwrap();
    let mut exec = shmcreds(&sts);
    exec.args(["exec", "--deadline", "1", "--name", &name]).args(ROLE).args(["--", "/bin/true"]);
    exec.env("SHMCREDS_DIR", folder.path());
    let enough = (1..64).find(|limit| {
        let script = format!(
            "ulimit -u {limit}; exec setpriv --reuid {uid} --regid {uid} --clear-groups \"$@\""
        );
        let output = wrapped(&script, &exec).output().unwrap();
        let said = text(&output.stderr);
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert!(left.is_empty(), "limit {limit}: {left:?}, {said}");
        let succeeded = output.status.success();
        assert!(succeeded || said.contains("RLIMIT_NPROC"), "limit {limit}: {output:?}");
        assert!(!said.contains("panicked"), "limit {limit}: {said}");
        succeeded
    });
    assert!(enough.is_some_and(|limit| limit > 3), "{enough:?}");
}
