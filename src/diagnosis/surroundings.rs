//! Namespaces, the kind of container, and the clock.

use std::{env, os::unix::fs::MetadataExt, path::Path, time::SystemTime};

use super::{Finding, fault, note, ok, read};

/// 2024-01-01.
const PLAUSIBLE: u64 = 1_704_067_200;

pub(super) fn look(findings: &mut Vec<Finding>) {
    findings.push(namespaces());
    findings.push(container());
    findings.push(first_process());
    findings.push(clock());
}

fn namespaces() -> Finding {
    let number = |name: &str| {
        let found = std::fs::metadata(format!("/proc/self/ns/{name}"));
        format!("{name} {}", found.map_or_else(|_| "?".to_owned(), |found| found.ino().to_string()))
    };
    let text = ["pid", "time", "user", "mnt"].map(number).join(", ");
    let why = "processes share a session only in one time namespace and with one directory; a death in another pid \
               namespace is noticed by looking, every 50 ms";
    ok("namespaces", text, why)
}

fn container() -> Finding {
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let kinds = [
        ("AWS Lambda", is_set("AWS_LAMBDA_FUNCTION_NAME")),
        ("ECS or Fargate", is_set("ECS_CONTAINER_METADATA_URI_V4")),
        ("Kubernetes", is_set("KUBERNETES_SERVICE_HOST")),
        ("Docker", Path::new("/.dockerenv").exists()),
        ("Podman", Path::new("/run/.containerenv").exists()),
    ];
    let mut found: Vec<String> =
        kinds.iter().filter(|(_, is)| *is).map(|(kind, _)| (*kind).to_owned()).collect();
    found.extend(read("/run/systemd/container").map(|kind| format!("systemd says {kind}")));
    let text = if found.is_empty() { "none that is known".to_owned() } else { found.join(", ") };
    ok("container", text, "docs/REQUIREMENTS.md says what each kind needs")
}

fn first_process() -> Finding {
    let why = "where the server is pid 1 or a subreaper, there is one more process between it and its refresher";
    let text = match std::process::id() {
        1 => "this is pid 1".to_owned(),
        pid => format!("this is pid {pid}"),
    };
    ok("process", text, why)
}

fn clock() -> Finding {
    let why = "AWS refuses requests that are signed more than 5 minutes off; --online compares the clock with that of STS";
    let seconds =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    if seconds < PLAUSIBLE {
        return fault("clock", "it is before 2024", why, "set the clock (NTP)");
    }
    match read("/proc/self/timens_offsets") {
        Some(offsets) if offsets.lines().any(has_offset) => {
            let why = "a session is shared only inside of this time namespace";
            note(
                "clock",
                "this time namespace has another boot clock",
                why,
                "start all processes in one time namespace",
            )
        }
        _ => ok("clock", "plausible", why),
    }
}

fn has_offset(line: &str) -> bool {
    line.split_whitespace().skip(1).any(|number| number != "0")
}
