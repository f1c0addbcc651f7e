//! `status` and `metrics` of a pool of roles.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use openmetrics_parser::openmetrics::parse_openmetrics;
use serde_json::Value;
use shmcreds::testing::{Fault, LocalSts, Times};

use crate::{harness::*, roles::*, terminal::Terminal};

/// A pool in which alpha has a set, beta fails, and gamma was not asked for.
fn pool(sts: &LocalSts, name: &str) -> (Folder, Running, String) {
    let roles = [("alpha", "id-of-alpha"), ("beta", "id-of-beta"), ("gamma", "id-of-gamma")];
    let folder = Folder::new("capacity = 50\ncalls-per-second = 20", &roles);
    let (running, url) = served_roles(sts, name, &folder);
    set_of(&url, "/v1/roles/alpha", &folder.token("alpha"));
    sts.inject(Fault::AccessDenied, Times::Next(1)).unwrap();
    until("beta fails", || {
        ask(&url, "/v1/roles/beta", &folder.token("beta")).1["code"] == "Unavailable"
    });
    (folder, running, url)
}

fn shown(sts: &LocalSts, arguments: &[&str]) -> (String, i32) {
    let output = shmcreds(sts).arg("status").args(arguments).output().unwrap();
    (text(&output.stdout), code(&output))
}

/// The first words of the lines below the heading.
fn roles_of(table: &str) -> Vec<&str> {
    table.lines().skip(2).filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn a_pool_is_a_table_of_its_roles() {
    let sts = LocalSts::start().unwrap();
    let name = name("table");
    let (_folder, running, _) = pool(&sts, &name);
    let (table, code) = shown(&sts, &[&name]);
    assert_eq!(code, 1, "a role fails");
    let lines: Vec<&str> = table.lines().collect();
    let summary =
        format!("{name}: a pool with 2 of 50 roles (1 empty, 1 fresh); soonest expiry 59m");
    assert!(lines[0].starts_with(&summary), "{table}");
    assert!(
        lines[0].contains("2 calls of STS, 0 throttled; budget of 20 calls a second"),
        "{table}"
    );
    let heading = "ROLE ARN KEY STATE EXPIRES IN REFRESH IN USED CALLS FAILED LAST FAILURE";
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>().join(" "), heading);
    assert!(
        lines[2].starts_with(&format!("alpha  {TENANT}")) && lines[2].contains("  fresh  "),
        "{table}"
    );
    assert!(
        lines[3].starts_with("beta ") && lines[3].contains("AccessDenied, next attempt in"),
        "{table}"
    );
    assert_eq!(lines.len(), 4);
    for (sort, first) in
        [("role", "alpha"), ("state", "beta"), ("expiry", "beta"), ("failure", "beta")]
    {
        let (table, _) = shown(&sts, &[&name, "--sort", sort]);
        assert_eq!(roles_of(&table)[0], first, "{sort}: {table}");
    }
    assert_eq!(roles_of(&shown(&sts, &[&name, "--sort", "use"]).0).len(), 2);
    assert_eq!(roles_of(&shown(&sts, &[&name, "--filter", "FRESH"]).0), ["alpha"]);
    assert!(roles_of(&shown(&sts, &[&name, "--filter", "nobody"]).0).is_empty());
    // Among all, one line.
    let (all, _) = shown(&sts, &[]);
    let own: Vec<&str> = all.lines().filter(|line| line.starts_with(&name)).collect();
    assert!(own.len() == 1 && own[0].starts_with(&summary), "{all}");
    let (json, code) = shown(&sts, &[&name, "--json", "--sort", "state"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, 1);
    for (field, value) in [
        ("kind", Value::from("pool")),
        ("capacity", 50.into()),
        ("calls_per_second", 20.into()),
        ("source_calls", 2.into()),
        ("insertions", 2.into()),
        ("evictions", 0.into()),
    ] {
        assert_eq!(json[field], value, "{field}");
    }
    assert_eq!((&json["states"]["fresh"], &json["states"]["empty"]), (&1.into(), &1.into()));
    let entries = json["entries"].as_array().unwrap();
    let (beta, alpha) = (&entries[0], &entries[1]);
    assert_eq!((&beta["role"], &alpha["role"]), (&"beta".into(), &"alpha".into()));
    assert_eq!((&alpha["arn"], &alpha["state"]), (&TENANT.into(), &"fresh".into()));
    assert_eq!(beta["last_failure"]["code"], "AccessDenied");
    assert_eq!(alpha["key"].as_str().unwrap().len(), 64);
    // Without the process that knows the names, the pool tells what it has itself.
    let reader = shmcreds::SharedRoles::attach(&name).unwrap();
    let mut running = running;
    running.signal(Signal::SIGKILL);
    running.wait_for_end();
    let (table, _) = shown(&sts, &[&name]);
    assert!(table.contains(&format!("-     {TENANT}")), "{table}");
    drop(reader);
    shmcreds(&sts).args(["remove", &name]).output().unwrap();
    assert_gone(&name);
    assert_eq!(shown(&sts, &[&name]).1, 3);
}

#[test]
fn metrics_have_no_label_of_a_tenant() {
    let sts = LocalSts::start().unwrap();
    let name = name("series");
    let (folder, _running, url) = pool(&sts, &name);
    let (status, answer) = get(&url, "/metrics", "");
    assert_eq!(status, 200);
    let served = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    let printed = text(&shmcreds(&sts).args(["metrics", &name]).output().unwrap().stdout);
    for text in [&served, &printed] {
        parse_openmetrics(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let value = |series: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
            line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
        };
        for (series, expected) in [
            ("shmcreds_roles_entries{state=\"fresh\"}", 1.0),
            ("shmcreds_roles_entries{state=\"empty\"}", 1.0),
            ("shmcreds_roles_entries{state=\"expired\"}", 0.0),
            ("shmcreds_roles_failing", 1.0),
            ("shmcreds_roles_capacity", 50.0),
            ("shmcreds_roles_budget_calls_per_second", 20.0),
            ("shmcreds_roles_source_calls_total", 2.0),
            ("shmcreds_roles_throttles_total", 0.0),
            ("shmcreds_roles_insertions_total", 2.0),
            ("shmcreds_roles_evictions_total", 0.0),
            ("shmcreds_roles_refusals_total", 0.0),
            ("shmcreds_roles_rebuilds_total", 0.0),
        ] {
            assert_eq!(value(series), expected, "{series}");
        }
        assert!((3000.0..=3600.0).contains(&value("shmcreds_roles_soonest_expiry_seconds")));
        assert!((0.0..=1.0).contains(&value("shmcreds_roles_budget_used_ratio")));
        assert_eq!(value("shmcreds_roles_budget_queue_seconds"), 0.0);
        // The only labels are states, and the limits of the histogram.
        let labels = text.lines().filter(|line| !line.starts_with('#'));
        let labels = labels.filter_map(|line| Some(line.split_once('{')?.1.split_once('}')?.0));
        let labels: BTreeSet<&str> = labels.flat_map(|labels| labels.split(',')).collect();
        let is_known = |label: &&&str| {
            let (name, value) = label.split_once('=').unwrap();
            let states = ["empty", "fresh", "advisory", "mandatory", "expired"];
            (name == "state" && states.contains(&value.trim_matches('"'))) || name == "le"
        };
        let foreign: Vec<_> = labels.iter().filter(|label| !is_known(label)).collect();
        assert!(labels.len() >= 5 && foreign.is_empty(), "{foreign:?}");
        for private in
            ["alpha", "beta", "tenant", "arn:", "123456789012", &name, &folder.token("alpha")]
        {
            assert!(!text.contains(private), "{private} in {text}");
        }
    }
    // The throttling of STS is counted.
    sts.inject(Fault::Throttling, Times::Next(1)).unwrap();
    until("gamma is throttled", || {
        ask(&url, "/v1/roles/gamma", &folder.token("gamma")).1["code"] == "Unavailable"
    });
    assert!(get(&url, "/metrics", "").1.contains("\nshmcreds_roles_throttles_total 1\n"));
}

#[test]
fn a_pool_is_watched() {
    let sts = LocalSts::start().unwrap();
    let name = name("watched");
    let (folder, running, url) = pool(&sts, &name);
    let mut command = shmcreds(&sts);
    command.args(["status", &name, "--watch"]);
    let mut terminal = Terminal::start(command, 160, 12);
    terminal.shows("1-2 of 2; / filters; s sorts: role");
    set_of(&url, "/v1/roles/gamma", &folder.token("gamma"));
    terminal.shows("1-3 of 3");
    let first =
        |terminal: &Terminal| terminal.lines()[3].split(' ').next().unwrap_or_default().to_owned();
    assert_eq!(first(&terminal), "alpha");
    terminal.press("s");
    until("the failing one is first", || first(&terminal) == "beta");
    terminal.press("/gam");
    terminal.shows("filter: gam_ (Enter)");
    terminal.shows("1-1 of 1");
    terminal.press("\r");
    terminal.shows("/ filters: gam;");
    running.signal(Signal::SIGTERM);
    running.wait();
    terminal.shows("no pool; q ends");
    terminal.press("q");
    assert!(terminal.wait().success());
}
