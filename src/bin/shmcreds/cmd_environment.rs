//! The environment of CMD. Every SDK finds the endpoint in it, and nothing that takes precedence over the endpoint.

use std::{env, io, process::Command};

/// Variables that take precedence over the endpoint in some program, and variables that belong to them.
const CLEARED: &[&str] = &[
    // The SDKs of today.
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_CREDENTIAL_SCOPE",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    // botocore reads the file of the old EC2 tools before it asks the container endpoint.
    "AWS_CREDENTIAL_FILE",
    "AWS_SECURITY_TOKEN",
    // Java 1: the file of profiles.
    "AWS_CREDENTIAL_PROFILES_FILE",
    // Go, Java 1, PHP 2, Ruby, s3cmd.
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    // JavaScript 2, Ruby.
    "AMAZON_ACCESS_KEY_ID",
    "AMAZON_SECRET_ACCESS_KEY",
    "AMAZON_SESSION_TOKEN",
    // object_store of Rust.
    "AWS_TOKEN",
    // Ansible.
    "EC2_ACCESS_KEY",
    "EC2_SECRET_KEY",
    "EC2_SECURITY_TOKEN",
    // s3fs.
    "AWSACCESSKEYID",
    "AWSSECRETACCESSKEY",
    "AWSSESSIONTOKEN",
    // TensorFlow, and other older programs.
    "ACCESS_KEY_ID",
    "SECRET_ACCESS_KEY",
    // boto 2: more files with keys.
    "BOTO_PATH",
];

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

/// The addresses that must not go through a proxy.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

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

/// A name of the prefix and a random number.
pub(crate) fn random_name(prefix: &str) -> io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{prefix}{:016x}", u64::from_ne_bytes(bytes)))
}

/// Removes the variables that would take precedence over the endpoint.
pub(crate) fn clear(command: &mut Command) {
    for name in CLEARED {
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

/// Keeps the endpoint's token away from proxies. Some HTTP clients use `http_proxy` for every address. They would send
/// the token to the proxy, and accept its answer as credentials.
pub(crate) fn bypass_proxies(command: &mut Command) {
    let set = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let (upper, lower) = (set("NO_PROXY"), set("no_proxy"));
    // A client may read only one of the two variables. So each gets a value.
    for (name, value) in [("NO_PROXY", upper.as_ref()), ("no_proxy", lower.as_ref())] {
        let value = value.or(upper.as_ref()).or(lower.as_ref());
        command.env(name, with_loopback(value.map_or("", String::as_str)));
    }
}

/// The list with the loopback addresses added. `*` means every address, but only if it is the whole list.
fn with_loopback(list: &str) -> String {
    let listed: Vec<&str> = list.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    if listed == ["*"] {
        return "*".to_owned();
    }
    let missing = LOOPBACK.iter().filter(|address| !listed.contains(address));
    listed.iter().chain(missing).copied().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_addresses_are_added_to_the_list() {
        for (list, expected) in [
            ("", "127.0.0.1,localhost,::1"),
            (" , ", "127.0.0.1,localhost,::1"),
            ("*", "*"),
            (" * ", "*"),
            ("169.254.169.254, .internal", "169.254.169.254,.internal,127.0.0.1,localhost,::1"),
            ("::1,localhost,127.0.0.1", "::1,localhost,127.0.0.1"),
            ("127.0.0.10", "127.0.0.10,127.0.0.1,localhost,::1"),
        ] {
            assert_eq!(with_loopback(list), expected, "{list:?}");
        }
    }
}
