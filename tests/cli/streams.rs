//! Standard streams that are closed, full, or that nobody reads.

use std::{
    fs::{self, File, OpenOptions},
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::signal::Signal,
};
use shmcreds::{SharedSession, StopHandle, testing::LocalSts};

use crate::{
    harness::*,
    support::{lock, role},
};

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// A session that a thread refreshes, until it is dropped.
struct Refreshed {
    session: SharedSession,
    stop: StopHandle,
    thread: Option<JoinHandle<()>>,
}

impl Refreshed {
    fn new(sts: &LocalSts, what: &str) -> Self {
        let session = SharedSession::builder(name(what)).source(role(sts)).create().unwrap();
        session.credentials().unwrap();
        let (stop, refreshed) = (StopHandle::new(), session.clone());
        let until = stop.clone();
        let thread = Some(thread::spawn(move || refreshed.run_refresher(&until).unwrap()));
        Refreshed { session, stop, thread }
    }
}

impl Drop for Refreshed {
    fn drop(&mut self) {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn an_error_that_cannot_be_written_has_its_exit_code() {
    let sts = LocalSts::start().unwrap();
    let absent = name("absent");
    for (arguments, expected) in [
        (&["credentials", &absent][..], 69),
        (&["refresh", &absent], 69),
        (&["status", &absent], 3),
        (&["status", "no/name"], 64),
        (&["exec"], 64),
        (&["no-such-command"], 64),
        (&[], 64),
        (&["serve", "--name", "x", "--config", "/no/such/file"], 66),
        (&["export", &absent], 64),
        (&["refresher"], 64),
        (&["-vv", "exec", "--process", "/bin/false", "--deadline", "1", "--", "true"], 69),
    ] {
        for streams in ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- >/dev/full 2>/dev/full"] {
            let mut command = shmcreds(&sts);
            command.args(arguments);
            let output = ended_soon(wrapped(&format!("\"$@\" {streams}"), &command));
            let said = text(&output.stderr);
            // The shell may say something.
            assert_eq!(code(&output), expected, "{arguments:?} {streams}: {said}");
        }
    }
}

#[test]
fn a_standard_output_that_cannot_be_written_is_an_error() {
    let sts = LocalSts::start().unwrap();
    let refreshed = Refreshed::new(&sts, "output");
    let name = refreshed.session.name();
    for arguments in [
        &["--version"][..],
        &["--help"],
        &["exec", "--help"],
        &["help", "serve"],
        &["completions", "bash"],
        &["man"],
        &["list"],
        &["doctor"],
        &["doctor", "--json"],
        &["credentials", name],
        &["status"],
        &["status", name],
        &["status", name, "--json"],
        &["metrics", name],
        &["refresh", name],
    ] {
        let mut command = shmcreds(&sts);
        command.args(arguments).stdout(full()).stderr(Stdio::piped());
        let output = command.spawn().unwrap().wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(code(&output), 71, "{arguments:?}: {said}");
        assert!(said.contains("writing to the standard output: No space left"), "{said}");

        // A reader that has seen enough.
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).output().unwrap();
        let said = text(&output.stderr);
        assert!(!said.contains("standard output") && !said.contains("panicked"), "{said}");
        // There may be sessions of other tests.
        let is_any = arguments[0] == "doctor" || arguments == ["status"];
        let expected = if is_any { 0..=2 } else { 0..=0 };
        assert!(expected.contains(&code(&output)), "{arguments:?}: {}: {said}", code(&output));
    }
}

#[test]
fn a_closed_stream_is_no_file_of_the_session() {
    let sts = LocalSts::start().unwrap();
    let refreshed = Refreshed::new(&sts, "closed");
    let (session, name) = (&refreshed.session, refreshed.session.name());
    let holds = |path: &str, text: &[u8]| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(text.len()).any(|part| part == text)
    };
    for streams in [">&-", "<&- >&-", "<&- >&- 2>&-", "<&- 2>&-"] {
        for arguments in [&["credentials", name][..], &["status", name], &["refresh", name]] {
            let mut command = shmcreds(&sts);
            command.args(["-vv"]).args(arguments);
            let output = ended_soon(wrapped(&format!("\"$@\" {streams}"), &command));
            assert_eq!(code(&output), 0, "{arguments:?} {streams}: {}", text(&output.stderr));
            for path in [segment(name), lock(name)] {
                for word in [&b"AccessKeyId"[..], b"generation", b"DEBUG"] {
                    assert!(!holds(&path, word), "{arguments:?} {streams}: {path}");
                }
            }
        }
    }
    assert!(session.status().unwrap().generation() > 1);
    session.credentials().unwrap();
}

#[test]
fn serve_without_streams_opens_no_file_in_their_place() {
    let sts = LocalSts::start().unwrap();
    let name = name("without");
    let mut command = wrapped("\"$@\" <&- >&- 2>&- & echo $!; wait", &serve(&sts, &name));
    let mut running = Running::start({
        command.arg("-v");
        command
    });
    let pid = running.line();
    until("its refresher stands", || status_is_fresh(&sts, &name));
    for stream in 0..3 {
        let file = fs::read_link(format!("/proc/{pid}/fd/{stream}")).unwrap();
        assert_eq!(file, Path::new("/dev/null"));
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), Signal::SIGTERM)
        .unwrap();
    running.wait_for_end();
    assert_gone(&name);
}

fn status_is_fresh(sts: &LocalSts, name: &str) -> bool {
    let output = shmcreds(sts).args(["status", name, "--json"]).output().unwrap();
    text(&output.stdout).contains(r#""state":"fresh""#)
}

/// A pipe into which nothing fits any more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_WRONLY | OFlag::O_NONBLOCK)).unwrap();
    for size in [4096, 1] {
        while writer.write(&vec![b'.'; size]).is_ok() {}
    }
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_WRONLY)).unwrap();
    (reader, writer)
}

fn is_nonblocking(pipe: impl AsFd) -> bool {
    let flags = OFlag::from_bits_truncate(fcntl(pipe, FcntlArg::F_GETFL).unwrap());
    flags.contains(OFlag::O_NONBLOCK)
}

#[test]
fn a_log_that_nobody_reads_delays_nothing() {
    let sts = LocalSts::start().unwrap();
    for options in [&["-v"][..], &["-vv", "--log-json"]] {
        let (mut reader, writer) = full_pipe();
        let name = name("unread");
        let mut command = shmcreds(&sts);
        command.args(options).args(["serve", "--name", &name]).args(ROLE);
        let kept = writer.try_clone().unwrap();
        let mut child =
            command.stdout(Stdio::piped()).stderr(OwnedFd::from(writer)).spawn().unwrap();
        let refreshed = |generation: u32| {
            let mut refresh = shmcreds(&sts);
            refresh.args(["refresh", &name]);
            let begun = Instant::now();
            let output = ended_soon(refresh);
            assert_eq!(text(&output.stdout), format!("generation {generation}\n"));
            begun.elapsed()
        };
        until("it has its first set", || status_is_fresh(&sts, &name));
        for generation in 2..5 {
            let time = refreshed(generation);
            assert!(time < Duration::from_secs(30), "{time:?}");
        }
        assert!(!is_nonblocking(&kept), "other processes have the pipe, too");
        // Somebody reads again.
        drop((kept, command));
        let log = thread::spawn(move || {
            let mut log = String::new();
            reader.read_to_string(&mut log).unwrap();
            log
        });
        refreshed(5);
        refreshed(6);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGTERM)
            .unwrap();
        assert!(child.wait().unwrap().success());
        let log = log.join().unwrap();
        let lines: Vec<&str> = log.trim_start_matches('.').lines().collect();
        let dropped = lines.iter().filter(|line| line.contains("were not written")).count();
        assert!(dropped >= 1, "{lines:?}");
        assert!(lines.last().unwrap().contains("INFO") || options[0] == "-vv", "{lines:?}");
        if options.contains(&"--log-json") {
            for line in lines {
                let line: serde_json::Value =
                    serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
                assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
            }
        }
    }
}

/// A terminal whose program has stopped. It takes a part of a line, and then waits for more room.
#[test]
fn a_terminal_that_nobody_reads_delays_nothing() {
    let sts = LocalSts::start().unwrap();
    let name = name("terminal");
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut command = shmcreds(&sts);
    command.args(["-vv", "serve", "--name", &name]).args(ROLE);
    let mut child = command.stdout(Stdio::piped()).stderr(terminal.slave).spawn().unwrap();
    until("it has its first set", || status_is_fresh(&sts, &name));
    // A terminal has room for 64 KiB, and a refresh logs more than 1 KiB.
    for generation in 2..66 {
        let mut refresh = shmcreds(&sts);
        let output = ended_soon({
            refresh.args(["refresh", &name]);
            refresh
        });
        assert_eq!(text(&output.stdout), format!("generation {generation}\n"));
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
    let mut said = [0; 1 << 16];
    let length = File::from(terminal.master).read(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said[..length]).contains("DEBUG"));
}

#[test]
fn cmd_runs_although_nobody_reads_the_log() {
    let sts = LocalSts::start().unwrap();
    for options in [&[][..], &["--sealed"]] {
        let (_reader, writer) = full_pipe();
        let mut command = shmcreds(&sts);
        command.args(["-vv", "exec"]).args(options).args(ROLE);
        command.args(["--", "/bin/sh", "-c", "$SHMCREDS credentials $SHMCREDS_SESSION"]);
        let mut child = command.stdout(Stdio::piped()).stderr(writer).spawn().unwrap();
        until("CMD has ended", || child.try_wait().unwrap().is_some());
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success() && said.contains("AccessKeyId"), "{said}");
    }
}

/// What fails for want of a descriptor is not the fault of the network.
#[test]
fn a_shortage_of_this_host_is_named() {
    let sts = LocalSts::start().unwrap();
    let mut seen = 0;
    for limit in 6..40 {
        let mut command = shmcreds(&sts);
        command.args(["exec", "--deadline", "1"]).args(ROLE).args(["--", "true"]);
        let output = ended_soon(wrapped(&format!("ulimit -n {limit}; exec \"$@\""), &command));
        let said = text(&output.stderr);
        if code(&output) == 0 {
            continue;
        }
        assert!(!said.contains("panicked"), "{limit}: {said}");
        assert!(!said.contains("check the network"), "{limit}: {said}");
        seen += usize::from(said.contains("RLIMIT_NOFILE"));
    }
    assert!(seen > 0, "no limit was too small");
}

/// A file can be written to without a wait.
#[test]
fn a_log_in_a_file_is_whole() {
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut command = shmcreds(&sts);
    command.args(["-vv", "--log-json", "exec"]).args(ROLE).args(["--", "true"]);
    let log = File::create(&path).unwrap();
    assert!(Command::status(command.stderr(log)).unwrap().success());
    let log = fs::read_to_string(&path).unwrap();
    assert!(log.lines().count() > 10, "{log}");
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|_| panic!("{line}"));
    }
}

/// A log that reaches the limit of file sizes ends, and nothing else.
#[test]
fn a_limit_of_file_sizes_ends_no_session() {
    const LIMIT: u64 = 100 * 1024;
    let sts = LocalSts::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = File::options().create(true).append(true).open(&path).unwrap();
    log.set_len(LIMIT - 10).unwrap();
    let name = name("limited");
    let mut command = serve(&sts, &name);
    command.arg("-vv");
    let mut limited = wrapped("ulimit -f 100; exec \"$@\"", &command);
    let mut child = limited.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    until("it has its first set", || status_is_fresh(&sts, &name));
    assert_eq!(fs::metadata(&path).unwrap().len(), LIMIT);
    let output = shmcreds(&sts).args(["refresh", &name]).output().unwrap();
    assert_eq!(text(&output.stdout), "generation 2\n");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());

    let mut command = shmcreds(&sts);
    command.args(["exec"]).args(ROLE).args(["--", "grep", "SigIgn", "/proc/self/status"]);
    let output = ended_soon(wrapped("ulimit -f 0; exec \"$@\"", &command));
    assert_eq!(code(&output), 71, "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("RLIMIT_FSIZE"), "{}", text(&output.stderr));

    // CMD has the signal.
    let said = text(&command.output().unwrap().stdout);
    let ignored = u64::from_str_radix(said.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(ignored >> (Signal::SIGXFSZ as u32 - 1) & 1, 0, "{said}");
}
