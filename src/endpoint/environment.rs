//! The environment of a program that uses the endpoint. Every SDK finds the endpoint in it, and nothing that takes
//! precedence over the endpoint.

use std::{env, ffi::OsString, path::Path};

/// The address of the endpoint.
pub const URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
/// Its token.
pub const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
/// The same token in a file.
pub const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// The files of an endpoint that clients read.
#[derive(Clone, Copy, Default)]
pub struct Files<'a> {
    /// The token.
    pub token: Option<&'a Path>,
    /// The settings of the chosen profile that are not credentials.
    pub config: Option<&'a Path>,
}

/// What a client of the endpoint needs in its environment. [`CLEARED`] must not be there.
pub fn variables(url: &str, token: &str, files: Files<'_>) -> Vec<(&'static str, OsString)> {
    let mut variables = vec![(URI, url.into()), (TOKEN, token.into())];
    if let Some(file) = files.token {
        variables.push((TOKEN_FILE, file.into()));
    }
    // In most SDKs, keys in the files take precedence over the endpoint.
    let null = Path::new("/dev/null");
    variables.push(("AWS_CONFIG_FILE", files.config.unwrap_or(null).into()));
    variables.push(("AWS_SHARED_CREDENTIALS_FILE", null.into()));
    // If BOTO_CONFIG is unset, botocore reads /etc/boto.cfg and ~/.boto before it asks the endpoint.
    variables.push(("BOTO_CONFIG", null.into()));
    variables.extend(bypass_proxies().map(|(name, value)| (name, value.into())));
    variables
}

/// Variables that take precedence over the endpoint in some program, and variables that belong to them.
pub const CLEARED: &[&str] = &[
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

/// The addresses that must not go through a proxy.
const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// The values of `NO_PROXY` and `no_proxy` that keep the endpoint's token away from proxies. Some HTTP clients use
/// `http_proxy` for every address. They would send the token to the proxy, and accept its answer as credentials.
pub fn bypass_proxies() -> [(&'static str, String); 2] {
    let set = |name| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let (upper, lower) = (set("NO_PROXY"), set("no_proxy"));
    // A client may read only one of the two variables. So each gets a value.
    [("NO_PROXY", upper.as_ref()), ("no_proxy", lower.as_ref())].map(|(name, value)| {
        let value = value.or(upper.as_ref()).or(lower.as_ref());
        (name, with_loopback(value.map_or("", String::as_str)))
    })
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
