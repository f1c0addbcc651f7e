//! The environment of CMD: every SDK finds the endpoint there, and nothing that wins over it.

use std::{env, process::Command};

/// Variables that win over the endpoint in one program or another, and those that belong to them.
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
    // botocore: the file of the old EC2 tools, which it reads before it asks a container.
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
    // TensorFlow, and other programs of that time.
    "ACCESS_KEY_ID",
    "SECRET_ACCESS_KEY",
    // boto 2: more files to look for keys in.
    "BOTO_PATH",
];

/// The addresses that no proxy is asked for.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// Takes away what would win over the endpoint.
pub(crate) fn clear(command: &mut Command) {
    for name in CLEARED {
        command.env_remove(name);
    }
    // Unset, botocore reads /etc/boto.cfg and ~/.boto before it asks the endpoint.
    command.env("BOTO_CONFIG", "/dev/null");
}

/// Keeps the endpoint's token from proxies. Some HTTP clients honour `http_proxy` for every address: they
/// would send the token to the proxy, and take its answer for credentials.
pub(crate) fn bypass_proxies(command: &mut Command) {
    let set = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let (upper, lower) = (set("NO_PROXY"), set("no_proxy"));
    // A client that reads only one of them must not lose what the other says.
    for (name, value) in [("NO_PROXY", upper.as_ref()), ("no_proxy", lower.as_ref())] {
        let value = value.or(upper.as_ref()).or(lower.as_ref());
        command.env(name, with_loopback(value.map_or("", String::as_str)));
    }
}

/// The list with the loopback addresses in it. `*` alone is every address already, and means that only
/// when it stands alone.
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
    fn the_loopback_is_added_to_what_is_there() {
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
