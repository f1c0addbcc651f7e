//! The rules that the inputs of several sources share. Each error names the field, the problem and the rule. No error
//! shows a value that may be secret.

use std::{net::Ipv6Addr, ops::RangeInclusive, time::Duration};

use aws_credential_types::Credentials;
use hyper::http::Uri;

/// The error is a sentence with the field, the problem of the value, and the rule.
pub(super) type Checked = Result<(), String>;

pub(super) const WORD: &str = "+=,.@-_";

/// The longest time for a fetch with all its parts. The lease is a little longer, and a ticket must have room for it.
pub(crate) const LONGEST_FETCH: Duration = Duration::from_secs(7 * 86_400);
/// The limits of one part of a fetch. Timers count milliseconds.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

/// The name of a profile.
pub(super) fn profile(name: &str) -> Checked {
    length("profile", name, 1..=128)?;
    ensure(!name.chars().any(|c| c.is_control() || "[]".contains(c)), || {
        format!("profile {} is not a name that a config file can contain", shown(name))
    })
}

/// A role of IAM Identity Center.
pub(super) fn sso(
    start_url: &str,
    region_name: &str,
    account_id: &str,
    role_name: &str,
) -> Checked {
    length("start_url", start_url, 1..=2048)?;
    // The value is not shown: it may contain a user and a password.
    ensure(is_url(start_url, &["https://"]), || {
        format!("start_url is not an address, must be https://HOST/PATH with no user{PORT_RULE}")
    })?;
    region(region_name)?;
    ensure(is_account(account_id), || {
        format!("account_id {} is not an account, must be 12 digits", shown(account_id))
    })?;
    word("role_name", role_name, 1..=64, WORD)
}

/// The description of a provider.
pub(super) fn description(field: &str, text: &str) -> Checked {
    length(field, text, 1..=256)?;
    ensure(!text.chars().any(char::is_control), || {
        format!("{field} {} contains a control character, must be printable", shown(text))
    })
}

/// An optional time-out of a source.
pub(super) fn timeout(field: &str, value: Option<Duration>) -> Checked {
    ensure(value.is_none_or(|value| TIMEOUTS.contains(&value)), || {
        format!("{field} is {:?}, must be 1 ms to 86400 s", value.unwrap_or_default())
    })
}

/// `HOST` or `HOST:PORT`.
pub(super) fn host(field: &str, value: &str) -> Checked {
    // The value is not shown: it may contain a user and a password.
    ensure(is_authority(value), || {
        format!("{field} is not the name of a host, must be HOST or HOST:PORT{PORT_RULE}")
    })
}

/// A text of letters, digits and the characters of `others`.
pub(super) fn word(
    field: &str,
    value: &str,
    count: RangeInclusive<usize>,
    others: &str,
) -> Checked {
    length(field, value, count)?;
    ensure(value.chars().all(|c| ascii_word(c, others)), || {
        format!(
            "{field} {} has a forbidden character, must be of letters, digits and {others}",
            shown(value)
        )
    })
}

pub(super) fn region(value: &str) -> Checked {
    // It becomes a part of a host name.
    let lower = !value.chars().any(|c| c.is_ascii_uppercase());
    ensure(lower && is_label(value, 64, "-"), || {
        format!(
            "region {} is not the name of a Region, must be 1 to 64 of [a-z0-9-] with no - at either \
             end",
            shown(value)
        )
    })
}

pub(super) fn endpoint_url(value: &str) -> Checked {
    // The value is not shown: it may contain a user or a query, and so a secret. The rule forbids both, because other
    // messages show the endpoint.
    let plain = !value.contains(|c| "@?#\"\\".contains(c));
    ensure(plain && is_address(value), || {
        format!(
            "endpoint_url is not an address, must be http://HOST or https://HOST with no user and no \
             query{PORT_RULE}"
        )
    })
}

/// `http://HOST` or `https://HOST`, with a port and a path if need be.
pub(super) fn is_address(value: &str) -> bool {
    is_url(value, &["http://", "https://"])
}

pub(super) fn length(field: &str, value: &str, range: RangeInclusive<usize>) -> Checked {
    let count = value.chars().count();
    ensure(range.contains(&count), || {
        format!("{field} has {count} characters, must have {} to {}", range.start(), range.end())
    })
}

/// The keys of a set go into headers of requests. The SDK panics on a character that no header may have.
///
/// # Errors
/// When the access key id or the session token has such a character. The sentence names the field, never its value.
pub(crate) fn signing_keys(credentials: &Credentials) -> Checked {
    for (field, value) in [
        ("AccessKeyId", credentials.access_key_id()),
        ("SessionToken", credentials.session_token().unwrap_or_default()),
    ] {
        ensure(value.bytes().all(|byte| byte.is_ascii_graphic()), || {
            format!(
                "{field} has a character other than the visible ones of ASCII, which AWS never gives"
            )
        })?;
    }
    Ok(())
}

pub(super) fn ensure(good: bool, problem: impl FnOnce() -> String) -> Checked {
    if good { Ok(()) } else { Err(problem()) }
}

/// A value in quotes, escaped, and cut if it is long.
pub(super) fn shown(value: &str) -> String {
    match value.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

pub(super) fn ascii_word(c: char, extra: &str) -> bool {
    c.is_ascii_alphanumeric() || extra.contains(c)
}

const PORT_RULE: &str = "; a PORT is 1 to 65535";

/// An absolute URL that begins with one of `schemes` and has a host, but no user.
fn is_url(value: &str, schemes: &[&str]) -> bool {
    let known = schemes.iter().any(|scheme| value.starts_with(scheme));
    let parsed = value.parse::<Uri>().ok();
    known
        && value.chars().all(|c| c.is_ascii_graphic())
        && parsed
            .and_then(|url| url.into_parts().authority)
            .is_some_and(|a| is_authority(a.as_str()))
}

/// `HOST` or `HOST:PORT`, where the host may be an IPv6 address in brackets.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, "443"),
    };
    is_host(host) && is_port(port)
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let name = text.strip_suffix('.').unwrap_or(text);
            name.len() <= 253 && name.split('.').all(|label| is_label(label, 63, "-_"))
        }
    }
}

fn is_port(text: &str) -> bool {
    // The number parser accepts a sign.
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// One label of a host name: at most `longest` letters, digits and `others`.
fn is_label(text: &str, longest: usize, others: &str) -> bool {
    (1..=longest).contains(&text.len())
        && text.chars().all(|c| ascii_word(c, others))
        && !text.starts_with('-')
        && !text.ends_with('-')
}

pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{CredentialProcess, Provider, Source};

    #[test]
    fn only_hosts_are_accepted() {
        for good in ["host", "host:443", "c1.credentials.iot.eu-central-1.amazonaws.com", "[::1]:1"]
        {
            assert_eq!(host("endpoint", good), Ok(()), "{good}");
        }
        for bad in
            ["", ".", ":1", "host:", "host:0", "host:+1", "host:65536", "a b", "me:pw@b", "a/b"]
        {
            let error = host("endpoint", bad).expect_err(bad);
            assert!(error.starts_with("endpoint is not the name of a host"), "{bad}: {error}");
        }
    }

    #[test]
    fn only_urls_are_accepted_as_endpoint() {
        for url in [
            "http://127.0.0.1:4566",
            "https://sts.eu-west-1.amazonaws.com",
            "https://sts.eu-west-1.amazonaws.com./",
            "https://vpce-0a-1b.sts.us-east-1.vpce.amazonaws.com:443/",
            "http://localhost:1/path",
            "http://localhost:65535",
            "http://aws_stand-in:8080",
            "http://[::1]:4566/",
            "http://[::1]",
        ] {
            assert_eq!(endpoint_url(url), Ok(()), "{url}");
        }
        for url in [
            "",
            "localhost:80",
            "/path",
            "ftp://host",
            "HTTP://host",
            "http:/host",
            "http://",
            "http:///path",
            "http://[",
            "http://]",
            "http://[]",
            "http://[::1",
            "http://[::1]x",
            "http://[host]",
            "http://::1",
            "http://:80",
            "http://host:",
            "http://host:0",
            "http://host:+1",
            "http://host:65536",
            "http://host:port",
            "http://host:1:2",
            "http://a..b",
            "http://.",
            "http://-a",
            "http://a,b",
            "http://a b",
            "http://hôte",
            "http://host/a b",
            "http://me:pw@host",
            "http://host?query",
            "http://host#part",
        ] {
            let error = endpoint_url(url).expect_err(url);
            assert!(error.starts_with("endpoint_url is not an address, must be"), "{url}: {error}");
        }
    }

    #[test]
    fn invalid_inputs_of_ready_made_providers_are_named() {
        let sso = |url: &str, region: &str, account: &str, role: &str| {
            Provider::sso(url, region, account, role).validate()
        };
        let (url, account) = ("https://example.awsapps.com/start", "123456789012");
        for url in [url, "https://d-1234567890.awsapps.com/start/#/?tab=accounts"] {
            assert_eq!(sso(url, "eu-central-1", account, "reader"), Ok(()));
        }
        let longest = Duration::from_secs(86_400);
        assert_eq!(Provider::imds().timeout(longest).validate(), Ok(()));
        assert_eq!(CredentialProcess::new(["x"]).timeout(longest).validate(), Ok(()));
        let longer = longest + Duration::from_nanos(1);
        for (outcome, problem) in [
            (sso("", "eu-central-1", account, "reader"), "start_url has 0"),
            (sso("http://host", "eu-central-1", account, "reader"), "start_url is not an address"),
            (sso("https://[", "eu-central-1", account, "reader"), "start_url is not an address"),
            (sso("https://a:0", "eu-central-1", account, "reader"), "start_url is not an address"),
            (
                sso("https://a:b@c", "eu-central-1", account, "reader"),
                "start_url is not an address",
            ),
            (sso(url, "EU", account, "reader"), "region \"EU\""),
            (sso(url, "eu-", account, "reader"), "region \"eu-\""),
            (Provider::imds().timeout(longer).validate(), "timeout is 86400.000000001s"),
            (
                CredentialProcess::new(["x"]).timeout(longer).validate(),
                "process timeout is 86400.000000001s",
            ),
            (sso(url, "eu-central-1", "12345", "reader"), "account_id \"12345\""),
            (sso(url, "eu-central-1", account, ""), "role_name has 0"),
            (sso(url, "eu-central-1", account, "a/b"), "role_name \"a/b\""),
            (Provider::profile("").validate(), "profile has 0"),
            (Provider::profile("a]").validate(), "profile \"a]\""),
            (Provider::profile("a\nb").validate(), "profile \"a\\nb\""),
        ] {
            let error = outcome.expect_err(problem);
            assert!(error.starts_with(problem), "{error:?} is not {problem:?}");
        }
    }
}
