//! `status --watch`, as it looks on a terminal.

use std::process::Command;

use nix::sys::signal::Signal;
use shmcreds::{
    AssumeRole, CredentialProcess, SharedSession,
    testing::{Fault, LocalSts, Times},
};

use crate::{harness::*, terminal::Terminal};

fn watch(sts: &LocalSts, name: &str, columns: u16, rows: u16) -> Terminal {
    let mut command = shmcreds(sts);
    command.args(["status", name, "--watch"]);
    let terminal = Terminal::start(command, columns, rows);
    terminal.shows("here, fresh");
    terminal
}

/// The words of a line, with T for a time, PID, KEY and BAR for what is never the same.
fn masked(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in line.split_whitespace() {
        let is_time = word.ends_with(['h', 'm', 's'])
            && word[..word.len() - 1].bytes().all(|byte| byte.is_ascii_digit());
        match word {
            _ if is_time && words.last() == Some(&"T") => {}
            _ if is_time => words.push("T"),
            _ if words.last() == Some(&"refresher") => words.push("PID"),
            _ if word.starts_with('…') => words.push("KEY"),
            _ if word.chars().all(|one| "█░".contains(one)) => words.push("BAR"),
            word => words.push(word),
        }
    }
    words.join(" ")
}

fn expected(name: &str) -> [String; 7] {
    [
        format!("{name} fresh"),
        "expires in T BAR".to_owned(),
        "refresh in T BAR".to_owned(),
        "generation 1 key KEY refresher PID calls 1 failed 0 takeovers 0".to_owned(),
        String::new(),
        "what happened, newest first; q ends".to_owned(),
        "T ago here, fresh".to_owned(),
    ]
}

#[test]
fn a_wide_screen_shows_it_in_colour() {
    let sts = LocalSts::start().unwrap();
    let name = name("wide");
    let (_sidecar, _) = served(&sts, &name);
    let terminal = watch(&sts, &name, 100, 24);
    let lines = terminal.lines();
    let shown: Vec<String> = lines.iter().map(|line| masked(line)).collect();
    assert_eq!(shown[..7], expected(&name));
    assert!(shown[7..].iter().all(String::is_empty), "{lines:?}");
    for bar in [&lines[1], &lines[2]] {
        assert_eq!(bar.chars().count(), 100, "{bar}");
    }
    let emulator = terminal.emulator();
    let colour = |row, column| emulator.screen().cell(row, column).unwrap().fgcolor();
    let state = u16::try_from(name.len() + 2).unwrap();
    assert_eq!(colour(0, state), vt100::Color::Idx(2), "green");
    assert_eq!(colour(1, 30), vt100::Color::Idx(2));
    assert_eq!(colour(3, 0), vt100::Color::Default);
    assert!(emulator.screen().cell(0, 0).unwrap().bold());
}

#[test]
fn a_narrow_screen_without_colour_shows_it_too() {
    let sts = LocalSts::start().unwrap();
    let name = name("narrow");
    let (_sidecar, _) = served(&sts, &name);
    let mut command = shmcreds(&sts);
    command.args(["status", &name, "--watch"]).env("NO_COLOR", "1");
    let terminal = Terminal::start(command, 40, 12);
    terminal.shows("here, fresh");
    let lines = terminal.lines();
    let words = expected(&name).join(" ");
    assert_eq!(masked(&lines.join(" ")), masked(&words.replace("PID", "1")));
    // The facts need two lines, and none is broken.
    assert!(lines[4].contains("takeovers 0"), "{lines:?}");
    let emulator = terminal.emulator();
    for (row, column) in (0..12).flat_map(|row| (0..40).map(move |column| (row, column))) {
        let cell = emulator.screen().cell(row, column).unwrap();
        let colours = (cell.fgcolor(), cell.bgcolor());
        assert_eq!(colours, (vt100::Color::Default, vt100::Color::Default), "{row}, {column}");
    }
}

#[test]
fn what_happens_is_seen_as_it_happens() {
    let sts = LocalSts::start().unwrap();
    let name = name("events");
    let (sidecar, _) = served(&sts, &name);
    let terminal = watch(&sts, &name, 100, 24);
    let refresh = || code(&shmcreds(&sts).args(["refresh", &name]).output().unwrap());
    assert_eq!(refresh(), 0);
    terminal.shows("published generation 2, key …");
    terminal.shows("generation 2  key …");
    sts.inject(Fault::Status(503), Times::UntilCleared).unwrap();
    assert_eq!(refresh(), 69);
    terminal.shows("the refresh failed: ServiceUnavailable");
    terminal.shows("failing, next attempt in");
    let yellow = || {
        let emulator = terminal.emulator();
        emulator.screen().cell(1, 30).unwrap().fgcolor() == vt100::Color::Idx(3)
    };
    until("it is yellow", yellow);
    sts.clear_faults().unwrap();
    sidecar.signal(Signal::SIGKILL);
    terminal.shows(&format!("refresher {} (dead)", sidecar.pid()));
    let (sidecar, _) = served(&sts, &name);
    terminal.shows(&format!("refresher {}  calls", sidecar.pid()));
    sidecar.signal(Signal::SIGTERM);
    terminal.shows("gone");
    terminal.shows("no session; q ends");
}

/// Gives a command the AWS variables of this process, which decide what its source is.
fn as_in_this_process(command: &mut Command) {
    let set: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    for name in set.iter().filter(|name| name.to_string_lossy().starts_with("AWS_")) {
        match std::env::var_os(name) {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

#[test]
fn a_takeover_is_seen() {
    let sts = LocalSts::start().unwrap();
    let name = name("takeover");
    let keys = format!(
        r#"{{"Version":1,"AccessKeyId":"ASIAEXAMPLE00001","SecretAccessKey":"{BASE_SECRET}","SessionToken":"t","Expiration":"2100-01-01T00:00:00Z"}}"#
    );
    let mut command = serve(&sts, &name);
    command.args(["--sts-region", "us-east-1", "--sts-endpoint-url", &sts.url()]);
    command.args(["--process", "/bin/echo", "--process-arg", &keys]);
    as_in_this_process(&mut command);
    let mut sidecar = Running::start(command);
    let url = sidecar.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    let terminal = watch(&sts, &name, 100, 24);
    // This process stands by: it has the same source, and the same environment.
    let source = AssumeRole::new(ROLE[1]).region("us-east-1").endpoint_url(sts.url());
    let source = source.base_source(CredentialProcess::new(["/bin/echo", &keys]));
    let session = SharedSession::builder(&name).source(source).attach().unwrap();
    let stop = shmcreds::StopHandle::new();
    let standby = std::thread::spawn({
        let stop = stop.clone();
        move || session.run_refresher(&stop)
    });
    terminal.shows(&format!("refresher {}", sidecar.pid()));
    sidecar.signal(Signal::SIGKILL);
    terminal.shows("another process took over");
    terminal.shows(&format!("refresher {}", std::process::id()));
    terminal.shows("takeovers 1");
    stop.stop();
    drop(stop);
    standby.join().unwrap().unwrap();
    sidecar.wait_for_end();
    until("nobody uses it", || SharedSession::remove(&name).is_ok());
}

#[test]
fn it_follows_the_size_of_the_terminal() {
    let sts = LocalSts::start().unwrap();
    let name = name("resize");
    let (_sidecar, _) = served(&sts, &name);
    let mut terminal = watch(&sts, &name, 100, 24);
    for (columns, rows) in [(60, 20), (132, 43), (40, 12)] {
        terminal.resize(columns, rows);
        let fills = |line: &String| line.chars().count() == usize::from(columns);
        until("the bars are as wide as the screen", || {
            let lines = terminal.lines();
            lines[1..3].iter().all(|line| line.ends_with(['█', '░']) && fills(line))
        });
        terminal.shows("q ends");
    }
}

#[test]
fn q_ends_it_and_leaves_the_terminal_as_it_was() {
    let sts = LocalSts::start().unwrap();
    let name = name("end");
    let (_sidecar, _) = served(&sts, &name);
    for keys in ["q", "\x03"] {
        let mut terminal = watch(&sts, &name, 80, 24);
        until("it has the whole screen", || {
            let emulator = terminal.emulator();
            emulator.screen().alternate_screen() && emulator.screen().hide_cursor()
        });
        assert!(!terminal.is_cooked());
        terminal.press(keys);
        assert_eq!(terminal.wait().code(), Some(0));
        until("the screen is as before", || {
            let emulator = terminal.emulator();
            !emulator.screen().alternate_screen() && !emulator.screen().hide_cursor()
        });
        assert!(terminal.is_cooked());
        assert!(terminal.lines().iter().all(String::is_empty));
    }
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let sts = LocalSts::start().unwrap();
    let output = shmcreds(&sts).args(["status", "--watch"]).output().unwrap();
    assert_eq!(code(&output), 64);
    assert!(text(&output.stderr).contains("--json"));
}
