//! The environment of CMD, beyond what every client of the endpoint needs.

use std::{env, process::Command};

use shmcreds::endpoint::environment;

/// Variables besides `AWS_…` that this program or its libraries read. For these, too, an empty value means unset.
const READ: [&str; 10] = [
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Unsets empty variables, for this process and for CMD. Compose files and Helm charts write such variables.
/// The caller must have only one thread.
#[allow(unsafe_code)]
pub(crate) fn unset_empty() {
    let is_read = |name: &str| name.starts_with("AWS_") || READ.contains(&name);
    // An empty AWS_PAGER means no pager.
    let is_read = |name: &str| is_read(name) && name != "AWS_PAGER";
    for (name, value) in env::vars_os() {
        if value.is_empty() && name.to_str().is_some_and(is_read) {
            // SAFETY: no other thread exists that could read the environment.
            unsafe { env::remove_var(name) };
        }
    }
}

/// Removes the variables that would take precedence over the endpoint.
pub(crate) fn clear(command: &mut Command) {
    for name in environment::CLEARED {
        command.env_remove(name);
    }
    // If BOTO_CONFIG is unset, botocore reads /etc/boto.cfg and ~/.boto before it asks the endpoint.
    command.env("BOTO_CONFIG", "/dev/null");
}

/// Gives CMD the Region of the environment, or else `otherwise`. CMD may not find that one by itself.
pub(crate) fn keep_region(command: &mut Command, otherwise: Option<&str>) {
    let names = ["AWS_REGION", "AWS_DEFAULT_REGION"];
    let set = names.iter().find_map(|name| env::var(name).ok());
    if let Some(region) = set.as_deref().or(otherwise) {
        for name in names.iter().filter(|name| env::var_os(name).is_none()) {
            command.env(name, region);
        }
    }
}

/// Keeps the endpoint's token away from proxies.
pub(crate) fn bypass_proxies(command: &mut Command) {
    command.envs(environment::bypass_proxies());
}
