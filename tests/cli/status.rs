//! `status`: for people, and for programs.

use std::time::Duration;

use nix::sys::signal::Signal;
use shmcreds::testing::{Fault, LocalSts, Settings, Times};

use crate::harness::*;

#[test]
fn the_exit_code_says_how_it_is() {
    let sts = LocalSts::start().unwrap();
    let name = name("codes");
    let (absent, code) = status(&sts, &name);
    assert_eq!((&absent["state"], code), (&"absent".into(), 3));
    assert!(absent["error"].as_str().unwrap().contains("no session of that name"), "{absent}");

    // The first set never comes: asking how it is neither waits nor asks.
    sts.inject(Fault::BlackHole, Times::UntilCleared).unwrap();
    let sidecar = Running::start(serve(&sts, &name));
    until("it asks STS", || assumed(&sts) == 1);
    let (empty, code) = status(&sts, &name);
    assert_eq!((&empty["state"], code), (&"empty".into(), 2));
    assert!(empty["age_seconds"].is_null() && empty["access_key_tail"].is_null(), "{empty}");
    assert_eq!((empty["generation"].as_u64(), assumed(&sts)), (Some(0), 1));
    assert_eq!(empty["refresher"]["pid"], sidecar.child.id());
    drop(sidecar);
    sts.clear_faults().unwrap();

    let (sidecar, _) = served(&sts, &name);
    let (fresh, code) = status(&sts, &name);
    assert_eq!((&fresh["state"], code), (&"fresh".into(), 0));
    sts.inject(Fault::Throttling, Times::UntilCleared).unwrap();
    shmcreds(&sts).args(["refresh", &name]).output().unwrap();
    let (degraded, code) = status(&sts, &name);
    assert_eq!((&degraded["state"], code), (&"fresh".into(), 1));
    let failure = &degraded["last_failure"];
    assert_eq!((&failure["class"], &failure["code"]), (&"throttled".into(), &"Throttling".into()));
    assert!(
        failure["at"].as_str().unwrap().ends_with('Z') && failure["in_a_row"] != 0,
        "{failure}"
    );
    drop(sidecar);
    assert_eq!(status(&sts, &name).1, 3);
}

#[test]
fn an_expired_set_is_as_bad_as_none() {
    let sts = LocalSts::start().unwrap();
    sts.inject(Fault::Under(Settings::new().lifetime(Duration::from_secs(2))), Times::Next(1))
        .unwrap();
    sts.inject(Fault::AccessDenied, Times::UntilCleared).unwrap();
    let name = name("expired");
    let mut sidecar = Running::start(serve(&sts, &name));
    sidecar.line();
    until("it expires", || status(&sts, &name).0["state"] == "expired");
    let (expired, code) = status(&sts, &name);
    assert_eq!((code, &expired["generation"]), (2, &1.into()));
    assert_eq!(expired["expires_in_seconds"], 0.0);
}

#[test]
fn a_program_gets_all_that_is_known() {
    let sts = LocalSts::start().unwrap();
    let name = name("json");
    let (sidecar, _) = served(&sts, &name);
    let (status, _) = status(&sts, &name);
    let text = |key: &str| status[key].as_str().unwrap_or_else(|| panic!("{key}: {status}"));
    assert_eq!((text("name"), text("state"), text("mode")), (name.as_str(), "fresh", "deferred"));
    assert!(text("source").contains("role/app"));
    assert_eq!(text("access_key_tail").len(), 4);
    let seconds = |key: &str| status[key].as_f64().unwrap_or_else(|| panic!("{key}: {status}"));
    assert!(seconds("expires_in_seconds") > seconds("refresh_in_seconds"));
    assert!(seconds("refresh_in_seconds") > 0.0 && seconds("age_seconds") > 0.0);
    for (key, count) in [("generation", 1), ("source_calls", 1), ("published", 1)] {
        assert_eq!(status[key], count, "{key}");
    }
    for key in ["failed", "takeovers", "invalidations"] {
        assert_eq!(status[key], 0, "{key}");
    }
    for class in ["transient", "terminal", "throttled", "misconfigured"] {
        assert_eq!(status["failed_by_class"][class], 0, "{class}");
    }
    assert!(status["last_failure"].is_null() && status["locked_in_ram"].is_boolean());
    let refresher = &status["refresher"];
    assert_eq!(
        (&refresher["pid"], &refresher["alive"]),
        (&sidecar.child.id().into(), &true.into())
    );
    assert!(refresher["lease_left_seconds"].as_f64().unwrap() > 0.0);
    assert!(refresher["elected_for_seconds"].as_f64().unwrap() >= 0.0);
}

#[test]
fn a_refresher_that_hangs_or_is_dead_is_seen() {
    let sts = LocalSts::start().unwrap();
    let name = name("hangs");
    let mut command = serve(&sts, &name);
    command.args(["--timeout", "1"]);
    let mut sidecar = Running::start(command);
    let url = sidecar.line();
    until("it is ready", || get(&url, "/ready", "").0 == 200);
    let table = || {
        let output = shmcreds(&sts).args(["status", &name]).output().unwrap();
        (text(&output.stdout), code(&output))
    };
    assert!(!table().0.contains('('), "{}", table().0);
    sidecar.signal(Signal::SIGSTOP);
    let pid = sidecar.pid();
    until("its lease ends", || table().0.contains(&format!("{pid} (hangs)")));
    assert_eq!(table().1, 1);
    assert_eq!(status(&sts, &name).0["refresher"]["lease_left_seconds"], 0.0);
    sidecar.signal(Signal::SIGKILL);
    until("it is seen to be dead", || table().0.contains(&format!("{pid} (dead)")));
    assert_eq!(table().1, 1);
    assert_eq!(status(&sts, &name).0["refresher"]["alive"], false);
    sidecar.wait_for_end();
    until("nobody uses it", || {
        code(&shmcreds(&sts).args(["remove", &name]).output().unwrap()) != 73
    });
    assert_gone(&name);
}

#[test]
fn all_sessions_are_listed() {
    let sts = LocalSts::start().unwrap();
    let names = [name("all"), name("all")];
    let _sidecars = names.each_ref().map(|name| served(&sts, name));
    let output = shmcreds(&sts).args(["status", "--json"]).output().unwrap();
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let table = text(&shmcreds(&sts).arg("status").output().unwrap().stdout);
    for name in &names {
        assert!(all.iter().any(|one| one["name"] == name.as_str()), "{name}");
        assert!(
            table
                .lines()
                .any(|line| line.starts_with(&format!("{name} ")) && line.contains(" fresh ")),
            "{table}"
        );
    }
    assert!(!table.contains('\x1b'), "no colour where there is no terminal");
}
