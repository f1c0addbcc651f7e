//! Sets that are valid for long enough: `--valid-for`, and the parameter of the endpoint.

use std::time::{Duration, SystemTime};

use aws_smithy_types::{DateTime, date_time::Format};
use nix::sys::signal::Signal;
use serde_json::Value;
use shmcreds::testing::{LocalSts, Settings};

use crate::harness::*;

const MINUTE: Duration = Duration::from_secs(60);

/// How long a set is valid, of its JSON.
fn left(set: &Value) -> Duration {
    let expiration = set["Expiration"].as_str().unwrap_or_else(|| panic!("{set}"));
    let expiration = DateTime::from_str(expiration, Format::DateTime).unwrap();
    let expiration = SystemTime::try_from(expiration).unwrap();
    expiration.duration_since(SystemTime::now()).unwrap()
}

fn early(sts: &LocalSts, name: &str) -> u64 {
    status(sts, name).0["early_refreshes"].as_u64().unwrap()
}

/// A sidecar whose set lives for a minute, and the next ones for an hour. So it grows older than an eighth of its life
/// while the test runs.
fn aged(sts: &LocalSts, name: &str) -> (Running, String, String) {
    sts.configure(Settings::new().lifetime(MINUTE)).unwrap();
    let running = kept(sts, name);
    sts.configure(Settings::new()).unwrap();
    until("the set has passed an eighth of its life", || {
        status(sts, name).0["age_seconds"].as_f64().unwrap() > 7.5
    });
    running
}

#[test]
fn a_set_with_enough_time_is_printed() {
    let (sts, name) = (LocalSts::start().unwrap(), name("valid-for"));
    let (running, _, _) = aged(&sts, &name);
    let ask = |time: &str| {
        shmcreds(&sts).args(["credentials", &name, "--valid-for", time]).output().unwrap()
    };
    // The source gives a minute, as far as anybody knows.
    let refused = ask("2m");
    let said = text(&refused.stderr);
    assert_eq!(code(&refused), 69, "{said}");
    for part in ["valid for 120 s", "live for 5", "DurationSeconds", "MaxSessionDuration"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert_eq!((assumed(&sts), early(&sts, &name)), (1, 0));
    // A process without a source asks the refresher of the session.
    let printed = ask("55s");
    assert_eq!(code(&printed), 0, "{}", text(&printed.stderr));
    let set: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert!(left(&set) > Duration::from_secs(3000), "{:?}", left(&set));
    assert_eq!((assumed(&sts), early(&sts, &name)), (2, 1));
    assert_eq!(code(&ask("50m")), 0);
    assert_eq!(assumed(&sts), 2, "the new set lasts");
    for wrong in ["", "2x", "1h-1s"] {
        let refused = ask(wrong);
        assert_eq!(code(&refused), 64, "{wrong}");
        assert!(text(&refused.stderr).contains("must be a time such as 90m"), "{wrong}");
    }
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
}

#[test]
fn the_endpoint_has_a_parameter() {
    let (sts, name) = (LocalSts::start().unwrap(), name("valid-for-endpoint"));
    let (running, url, token) = aged(&sts, &name);
    let own = format!("Authorization: {token}\r\n");
    let ask = |time: &str| get(&url, &format!("/credentials?x=1&valid_for={time}"), &own);
    for (time, status, part) in [
        ("2h", 400, "\"TooShort\""),
        ("x", 400, "\"InvalidParameter\""),
        ("%31", 400, "\"InvalidParameter\""),
        ("", 400, "\"InvalidParameter\""),
    ] {
        let (found, answer) = ask(time);
        assert!(found == status && answer.contains(part), "{time}: {answer}");
    }
    let (refused, _) = get(&url, "/credentials?valid_for=1", "");
    assert_eq!(refused, 403, "without the token");
    assert_eq!(assumed(&sts), 1);
    // Many ask at once.
    let sets: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(|| ask("55"))).collect();
        let answers = threads.into_iter().map(|thread| thread.join().unwrap());
        let body = |(status, answer): (u16, String)| {
            assert_eq!(status, 200, "{answer}");
            answer.split("\r\n\r\n").nth(1).unwrap().to_owned()
        };
        answers.map(body).collect()
    });
    let set: Value = serde_json::from_str(&sets[0]).unwrap();
    assert!(left(&set) > Duration::from_secs(3000), "{:?}", left(&set));
    assert!(sets.iter().all(|other| *other == sets[0]));
    assert_eq!((assumed(&sts), early(&sts, &name)), (2, 1));
    let (_, answer) = get(&url, "/metrics", "");
    assert!(answer.contains("\nshmcreds_early_refreshes_total 1\n"), "{answer}");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
}

#[test]
fn cmd_starts_only_with_a_set_that_lasts() {
    let (sts, name) = (LocalSts::start().unwrap(), name("valid-for-exec"));
    let run = |time: &str| {
        let mut command = shmcreds(&sts);
        command.args(["exec", "--name", &name, "--static-keys", "--valid-for", time]).args(ROLE);
        command.args(["--", "/bin/sh", "-c", "echo started; echo $AWS_CREDENTIAL_EXPIRATION"]);
        command.output().unwrap()
    };
    let refused = run("2h");
    assert_eq!((code(&refused), text(&refused.stdout).as_str()), (69, ""));
    assert!(text(&refused.stderr).contains("valid for 7200 s"), "{}", text(&refused.stderr));
    assert_eq!(assumed(&sts), 1);
    let ran = run("50m");
    assert_eq!(code(&ran), 0, "{}", text(&ran.stderr));
    assert!(text(&ran.stdout).starts_with("started\n20"), "{}", text(&ran.stdout));
    assert_gone(&name);
}

#[test]
fn consumers_that_keep_sets_for_too_long_are_warned_of() {
    let (sts, name) = (LocalSts::start().unwrap(), name("kept"));
    let mut command = serve(&sts, &name);
    command.args(["--consumers-keep", "30m"]);
    let mut running = Running::start(command);
    let url = running.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    let told = status(&sts, &name).0;
    assert_eq!(told["consumers_keep_seconds"], 1800);
    let warning = told["consumers_warning"].as_str().unwrap();
    assert!(warning.contains("let the sets live for 4000 s"), "{warning}");
    let shown = shmcreds(&sts).args(["status", &name]).output().unwrap();
    assert!(text(&shown.stdout).contains(warning), "{}", text(&shown.stdout));
    running.signal(Signal::SIGTERM);
    let mut log = String::new();
    std::io::Read::read_to_string(&mut running.child.stderr.take().unwrap(), &mut log).unwrap();
    assert!(log.contains(warning), "{log}");
}
