//! Variables and files that decide the identity, or take precedence over the endpoint of `exec`. Only their names.

use std::{env, path::PathBuf};

use super::{Finding, note, ok};
use crate::source::decides_identity;

/// Files that old clients read before they ask an endpoint, below the home directory or not.
const OLD_FILES: [&str; 2] = ["/etc/boto.cfg", "~/.boto"];

pub(super) fn look(findings: &mut Vec<Finding>) {
    identity(findings);
    proxies(findings);
}

fn identity(findings: &mut Vec<Finding>) {
    let why = "they decide whose credentials a source without options gives, and take precedence over an endpoint; `exec` \
               hides them from CMD";
    let mut names: Vec<String> = env::vars_os()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| decides_identity(name))
        .collect();
    names.sort();
    findings.push(match names.is_empty() {
        true => ok("variables", "none that decides the identity", why),
        false => ok("variables", format!("set: {}", names.join(", ")), why),
    });
    let home = env::var_os("HOME").map(PathBuf::from);
    let path = |file: &str| match (file.strip_prefix("~/"), &home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(file),
    };
    for file in OLD_FILES.into_iter().filter(|file| path(file).is_file()) {
        let why =
            "boto reads it before it asks an endpoint; `exec` hides it from CMD (BOTO_CONFIG)";
        let advice = "programs that use `serve` need BOTO_CONFIG=/dev/null";
        findings.push(note("files", format!("{file} exists"), why, advice));
    }
    for (name, why) in [
        ("SHMCREDS_DANGEROUS_SECRETS_ON_DISK", "it allows credentials in files on a disk"),
        ("SHMCREDS_DIR", "only processes with the same value find each other's sessions"),
    ] {
        if env::var_os(name).is_some_and(|value| !value.is_empty()) {
            findings.push(note(
                "variables",
                format!("{name} is set"),
                why,
                "unset it if that is not intended",
            ));
        }
    }
}

fn proxies(findings: &mut Vec<Finding>) {
    let why = "some clients send requests to the endpoint on 127.0.0.1 through a proxy, with its token; `exec` adds it to \
               NO_PROXY for CMD";
    let set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let names =
        ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"];
    let names: Vec<&str> = names.into_iter().filter(|name| set(name)).collect();
    if names.is_empty() {
        return findings.push(ok("proxies", "none", why));
    }
    let exempt = ["NO_PROXY", "no_proxy"]
        .iter()
        .filter_map(|name| env::var(name).ok())
        .any(|list| list.split(',').map(str::trim).any(|host| host == "127.0.0.1" || host == "*"));
    let text = format!("set: {}", names.join(", "));
    findings.push(match exempt {
        true => ok("proxies", format!("{text}; NO_PROXY names 127.0.0.1"), why),
        false => {
            let advice = "with `serve`, add 127.0.0.1 to NO_PROXY of the programs that use it";
            note("proxies", format!("{text}; NO_PROXY does not name 127.0.0.1"), why, advice)
        }
    });
}
