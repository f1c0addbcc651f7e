//! `metrics`, and the endpoint's own.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use openmetrics_parser::openmetrics::parse_openmetrics;
use shmcreds::testing::{Fault, LocalSts, Times};

use crate::harness::*;

/// The number of a series, of a text that a parser accepts.
fn series(text: &str, name: &str) -> f64 {
    parse_openmetrics(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    let number = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    number.parse().unwrap()
}

fn body(url: &str) -> String {
    let (status, answer) = get(url, "/metrics", "");
    assert_eq!(status, 200, "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    body.to_owned()
}

const STATES: [&str; 5] = ["empty", "fresh", "advisory", "mandatory", "expired"];

fn assert_state(text: &str, state: &str) {
    for one in STATES {
        let value = series(text, &format!("shmcreds_state{{state=\"{one}\"}}"));
        assert_eq!(value, f64::from(u8::from(one == state)), "{one}");
    }
}

#[test]
fn they_are_served_until_a_signal() {
    let sts = LocalSts::start().unwrap();
    let name = name("metrics");
    let mut command = shmcreds(&sts);
    command.args(["metrics", &name, "--listen", "127.0.0.1:0"]);
    let mut metrics = Running::start(command);
    let url = metrics.line();
    assert!(url.ends_with("/metrics"), "{url}");
    // The session may come later, and go.
    let (status, answer) = get(&url, "/metrics", "");
    assert!(status == 503 && answer.contains("no session of that name"), "{answer}");
    let (sidecar, _) = served(&sts, &name);
    let text = body(&url);
    assert_state(&text, "fresh");
    for (name, value) in [
        ("shmcreds_refresher_up", 1.0),
        ("shmcreds_generation", 1.0),
        ("shmcreds_source_calls_total", 1.0),
        ("shmcreds_published_total", 1.0),
        ("shmcreds_takeovers_total", 0.0),
        ("shmcreds_invalidations_total", 0.0),
        ("shmcreds_early_refreshes_total", 0.0),
        ("shmcreds_failures_total{class=\"transient\"}", 0.0),
        ("shmcreds_failures_total{class=\"terminal\"}", 0.0),
        ("shmcreds_failures_total{class=\"throttled\"}", 0.0),
        ("shmcreds_failures_total{class=\"misconfigured\"}", 0.0),
    ] {
        assert_eq!(series(&text, name), value, "{name}");
    }
    assert!(series(&text, "shmcreds_expiry_seconds") > series(&text, "shmcreds_refresh_seconds"));
    sts.inject(Fault::AccessDenied, Times::Next(1)).unwrap();
    shmcreds(&sts).args(["refresh", &name]).output().unwrap();
    until("the failure is counted", || {
        series(&body(&url), "shmcreds_failures_total{class=\"terminal\"}") == 1.0
    });
    assert_eq!(get(&url, "/", "").0, 404);
    assert_eq!(raw(&url, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").0, 405);
    drop(sidecar);
    assert_eq!(get(&url, "/metrics", "").0, 503);
    metrics.signal(Signal::SIGTERM);
    assert_eq!(metrics.wait(), 0);
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with("shmcreds_")).collect()
}

/// Each has its series from the first set on.
#[test]
fn the_rules_and_the_dashboard_name_metrics_that_are_exposed() {
    let sts = LocalSts::start().unwrap();
    let (_running, url) = served(&sts, &name("named"));
    let text = body(&url);
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let exposed: BTreeSet<&str> = series.flat_map(named).collect();
    for file in ["alerts.yaml", "alerts_test.yaml", "dashboard.json"] {
        let path = format!("{}/examples/deploy/prometheus/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let named = named(&text);
        assert!(named.len() > 5, "{file}: {named:?}");
        let missing: Vec<_> = named.difference(&exposed).collect();
        assert!(missing.is_empty(), "{file}: {missing:?} are not in {exposed:?}");
    }
    let dashboard = include_str!("../../examples/deploy/prometheus/dashboard.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| panel["targets"][0]["expr"].is_string()));
    // Labels that the rules select by.
    for label in ["state=\"empty\"", "state=\"expired\"", "class=\"throttled\""] {
        assert!(text.contains(label), "{label}");
    }
}

#[test]
fn the_endpoint_tells_how_long_it_takes() {
    let sts = LocalSts::start().unwrap();
    let name = name("latency");
    let (running, url, token) = kept(&sts, &name);
    let before = series(&body(&url), "shmcreds_endpoint_latency_seconds_count");
    for _ in 0..5 {
        credentials(&url, &token);
    }
    let text = body(&url);
    // The five, and the first look.
    assert_eq!(series(&text, "shmcreds_endpoint_latency_seconds_count"), before + 6.0);
    assert!(series(&text, "shmcreds_endpoint_latency_seconds_sum") > 0.0);
    assert_state(&text, "fresh");
    assert_eq!(series(&text, "shmcreds_refresher_up"), 1.0);
    let printed = shmcreds(&sts).args(["metrics", &name]).output().unwrap().stdout;
    assert_state(&crate::harness::text(&printed), "fresh");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(), 0);
}
