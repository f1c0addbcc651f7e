//! The rules for the inputs of `AssumeRole`, as STS states them. Each error names the field, the problem and the
//! rule. Values that may be secret are never shown.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use serde_json::{Map, Value};

use super::{AssumeRole, Base};
use crate::source::{
    Source,
    validate::{
        Checked, WORD, ascii_word, description, endpoint_url, ensure, is_account, length, region,
        shown, timeout,
    },
};

/// Checks everything that STS, or the way to it, would refuse.
pub(super) fn inputs(recipe: &AssumeRole) -> Checked {
    role_arn(&recipe.role_arn)?;
    name("session_name", &recipe.session_name)?;
    optional(&recipe.duration, duration)?;
    optional(&recipe.external_id, |id| {
        secret("external_id", id, 2..=1224, |c| ascii_word(c, "+=,.@:/-_"), "[A-Za-z0-9+=,.@:/_-]")
    })?;
    optional(&recipe.policy, policy)?;
    at_most("policy_arn", recipe.policy_arns.len(), 10)?;
    recipe.policy_arns.iter().try_for_each(|arn| policy_arn(arn))?;
    tags(&recipe.tags)?;
    at_most("transitive_tag_key", recipe.transitive_tag_keys.len(), 50)?;
    recipe.transitive_tag_keys.iter().try_for_each(|key| tag_key("transitive_tag_key", key))?;
    optional(&recipe.source_identity, source_identity)?;
    at_most("provided_context", recipe.provided_contexts.len(), 5)?;
    recipe.provided_contexts.iter().try_for_each(|(arn, text)| provided_context(arn, text))?;
    transport(recipe)
}

fn transport(recipe: &AssumeRole) -> Checked {
    optional(&recipe.region, region)?;
    optional(&recipe.endpoint_url, endpoint_url)?;
    timeout("connect_timeout", recipe.connect_timeout)?;
    timeout("read_timeout", recipe.read_timeout)?;
    timeout("operation_timeout", Some(recipe.operation_timeout))?;
    ensure(recipe.max_attempts != Some(0), || "max_attempts is 0, must be at least 1".into())?;
    mfa(recipe)?;
    match &recipe.base {
        Base::DefaultChain | Base::Ready(_) => Ok(()),
        Base::Provider(provider) => {
            description("credentials_provider description", provider.description())
        }
        Base::Source(source) => base_source(&**source, recipe.duration),
    }
}

fn mfa(recipe: &AssumeRole) -> Checked {
    let Some(mfa) = &recipe.mfa else { return Ok(()) };
    let serial = &mfa.serial_number;
    length("mfa serial_number", serial, 9..=256)?;
    ensure(serial.chars().all(|c| ascii_word(c, "+=/:,.@-_")), || {
        format!(
            "mfa serial_number {} has a forbidden character, must be of [A-Za-z0-9+=/:,.@_-]",
            shown(serial)
        )
    })?;
    let attempts = recipe.max_attempts.unwrap_or(1);
    ensure(attempts == 1, || {
        format!("max_attempts is {attempts}, must be 1 with mfa: a code works once")
    })?;
    mfa.validate()
}

fn base_source(source: &dyn Source, duration: Option<Duration>) -> Checked {
    let chained = source.is_role().then_some(duration).flatten();
    ensure(chained.is_none_or(|duration| duration <= Duration::from_secs(3600)), || {
        let duration = duration.unwrap_or_default();
        format!(
            "duration is {duration:?}, must be at most 3600 s for a role that another role assumes"
        )
    })?;
    source.validate().map_err(|problem| format!("base_source: {problem}"))
}

fn role_arn(arn: &str) -> Checked {
    length("role_arn", arn, 20..=2048)?;
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let role = match parts[..] {
        ["arn", partition, "iam", "", account, resource] => {
            is_partition(partition) && is_account(account) && resource.starts_with("role/")
        }
        _ => false,
    };
    ensure(role && arn.chars().all(is_arn_char), || {
        format!(
            "role_arn {} is not the ARN of a role, must be arn:PARTITION:iam::12 DIGITS:role/NAME",
            shown(arn)
        )
    })?;
    ensure(names_role(arn_tail(arn)), || {
        format!(
            "role_arn {} does not name a role, must end in role/NAME or role/PATH/NAME, with 1 to 64 \
             of [A-Za-z0-9+=,.@_-] in NAME and no * in PATH",
            shown(arn)
        )
    })
}

/// `role/`, a path or none, and the name.
fn names_role(resource: &str) -> bool {
    let role = resource.strip_prefix("role/").unwrap_or("");
    let name = role.rsplit('/').next().unwrap_or("");
    !role.starts_with('/')
        && !role.contains('*')
        && (1..=64).contains(&name.len())
        && name.chars().all(|c| ascii_word(c, WORD))
}

fn policy_arn(arn: &str) -> Checked {
    length("policy_arn", arn, 20..=2048)?;
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let policy = match parts[..] {
        ["arn", partition, "iam", "", account, resource] => {
            is_partition(partition)
                && (is_account(account) || account == "aws")
                && resource.len() > "policy/".len()
                && resource.starts_with("policy/")
        }
        _ => false,
    };
    ensure(policy && arn.chars().all(is_arn_char), || {
        format!(
            "policy_arn {} is not the ARN of a managed policy, must be \
             arn:PARTITION:iam::ACCOUNT:policy/NAME",
            shown(arn)
        )
    })
}

fn name(field: &str, value: &str) -> Checked {
    length(field, value, 2..=64)?;
    ensure(value.chars().all(|c| ascii_word(c, WORD)), || {
        format!("{field} {} has a forbidden character, must be of [A-Za-z0-9+=,.@_-]", shown(value))
    })
}

fn source_identity(value: &str) -> Checked {
    // The colon is in no name; this says why rather than that.
    ensure(!value.to_ascii_lowercase().starts_with("aws:"), || {
        format!("source_identity {} starts with \"aws:\", which is reserved", shown(value))
    })?;
    name("source_identity", value)
}

fn duration(value: &Duration) -> Checked {
    ensure(value.subsec_nanos() == 0 && (900..=43_200).contains(&value.as_secs()), || {
        format!("duration is {value:?}, must be 900 to 43200 whole seconds")
    })
}

fn policy(text: &str) -> Checked {
    secret(
        "policy",
        text,
        1..=2048,
        |c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{ff}'),
        "printable Latin-1",
    )?;
    // The parser's own text may quote the policy.
    serde_json::from_str::<Map<String, Value>>(text).map(drop).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("policy is not a JSON object, must be one; see line {line} column {column}")
    })
}

fn tags(tags: &[(String, String)]) -> Checked {
    at_most("tag", tags.len(), 50)?;
    let mut seen = HashSet::new();
    for (key, value) in tags {
        tag_key("tag", key)?;
        ensure(value.chars().count() <= 256, || {
            let count = value.chars().count();
            format!("tag {} has a value of {count} characters, must be 0 to 256", shown(key))
        })?;
        ensure(value.chars().all(is_tag_char), || {
            format!("tag {} has a value with a forbidden character, {TAG_RULE}", shown(key))
        })?;
        ensure(seen.insert(key.to_lowercase()), || {
            format!("tag {} is there twice, keys must differ in more than their case", shown(key))
        })?;
    }
    Ok(())
}

const TAG_RULE: &str = "must be of letters, digits, spaces and _.:/=+-@";

fn tag_key(field: &str, key: &str) -> Checked {
    length(&format!("{field} key"), key, 1..=128)?;
    ensure(key.chars().all(is_tag_char), || {
        format!("{field} key {} has a forbidden character, {TAG_RULE}", shown(key))
    })?;
    ensure(!key.to_lowercase().starts_with("aws:"), || {
        format!("{field} key {} starts with \"aws:\", which is reserved", shown(key))
    })
}

fn provided_context(arn: &str, assertion: &str) -> Checked {
    length("provided_context ARN", arn, 20..=2048)?;
    ensure(arn.starts_with("arn:") && arn.chars().all(is_arn_char), || {
        format!("provided_context ARN {} is not an ARN, must begin with arn:", shown(arn))
    })?;
    secret("provided_context assertion", assertion, 4..=2048, |_| true, "")
}

fn is_tag_char(c: char) -> bool {
    // White space less the controls is what STS means by \p{Z}.
    let space = c.is_whitespace() && !c.is_control();
    c.is_alphanumeric() || space || "_.:/=+-@".contains(c)
}

fn is_arn_char(c: char) -> bool {
    c.is_ascii_graphic()
}

fn is_partition(text: &str) -> bool {
    text.starts_with("aws") && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// The resource part of an ARN.
fn arn_tail(arn: &str) -> &str {
    arn.splitn(6, ':').nth(5).unwrap_or("")
}

/// A value that no message may show.
fn secret(
    field: &str,
    value: &str,
    range: RangeInclusive<usize>,
    allowed: impl Fn(char) -> bool,
    alphabet: &str,
) -> Checked {
    length(field, value, range)?;
    ensure(value.chars().all(allowed), || {
        format!("{field} has a forbidden character, must be of {alphabet}")
    })
}

fn at_most(field: &str, count: usize, limit: usize) -> Checked {
    ensure(count <= limit, || {
        format!("{field} is given {count} times, at most {limit} are allowed")
    })
}

fn optional<T, U: ?Sized>(value: &Option<T>, check: impl Fn(&U) -> Checked) -> Checked
where
    T: std::borrow::Borrow<U>,
{
    value.as_ref().map_or(Ok(()), |value| check(value.borrow()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Provider;

    const ROLE: &str = "arn:aws:iam::123456789012:role/app";

    fn role() -> AssumeRole {
        AssumeRole::new(ROLE).session_name("web")
    }

    fn device() -> AssumeRole {
        role().mfa("123456789", || async { Ok::<_, std::io::Error>("123456".to_owned()) })
    }

    fn repeat(n: usize, add: impl Fn(AssumeRole, usize) -> AssumeRole) -> AssumeRole {
        (0..n).fold(role(), add)
    }

    #[test]
    fn invalid_inputs_are_named() {
        let x = |n| "x".repeat(n);
        let secs = Duration::from_secs;
        let table: Vec<(AssumeRole, &str)> = vec![
            (AssumeRole::new("arn:short"), "role_arn has 9 characters"),
            (
                AssumeRole::new("arn:aws:iam::12345:role/application"),
                "role_arn \"arn:aws:iam::12345",
            ),
            (AssumeRole::new("arn:aws:iam::123456789012:user/app"), "role_arn "),
            (AssumeRole::new("arn:aws:iam::123456789012:role/"), "role_arn "),
            (AssumeRole::new("arn:aws:s3::123456789012:role/app"), "role_arn "),
            (AssumeRole::new("arn:aws:iam::123456789012:role/a b"), "role_arn "),
            (AssumeRole::new("arn:aws:iam::123456789012:role//app"), "role_arn "),
            (AssumeRole::new("arn:aws:iam::123456789012:role/app/"), "role_arn "),
            (AssumeRole::new("arn:aws:iam::123456789012:role/*"), "role_arn "),
            (AssumeRole::new("arn:aws:iam::123456789012:role/*/app"), "role_arn "),
            (AssumeRole::new("arn:aws:iam::123456789012:role/a:b"), "role_arn "),
            (AssumeRole::new(format!("arn:aws:iam::123456789012:role/{}", x(65))), "role_arn "),
            (AssumeRole::new(format!("{ROLE}{}", x(2048))), "role_arn has 2082"),
            (role().session_name("w"), "session_name has 1"),
            (role().session_name(x(65)), "session_name has 65"),
            (role().session_name("a b"), "session_name \"a b\""),
            (role().duration(secs(899)), "duration is 899s"),
            (role().duration(secs(43_201)), "duration is 43201s"),
            (role().duration(Duration::from_millis(900_500)), "duration is 900.5s"),
            (role().external_id("e"), "external_id has 1"),
            (role().external_id(x(1225)), "external_id has 1225"),
            (role().external_id("a b"), "external_id has a forbidden"),
            (role().policy(""), "policy has 0"),
            (role().policy(format!("{{{}}}", x(2047))), "policy has 2049"),
            (role().policy("Allow"), "policy is not a JSON object"),
            (role().policy("{€}"), "policy has a forbidden"),
            (role().policy("{Allow}"), "policy is not a JSON object"),
            (role().policy("{} {}"), "policy is not a JSON object"),
            (role().policy("[{}]"), "policy is not a JSON object"),
            (role().policy("{\"Statement\":[}"), "policy is not a JSON object"),
            (role().policy_arn("arn:aws:iam::aws:role/ReadOnly"), "policy_arn "),
            (
                repeat(11, |r, _| r.policy_arn("arn:aws:iam::aws:policy/A")),
                "policy_arn is given 11",
            ),
            (repeat(51, |r, i| r.tag(format!("k{i}"), "v")), "tag is given 51"),
            (role().tag("", "v"), "tag key has 0"),
            (role().tag(x(129), "v"), "tag key has 129"),
            (role().tag("k", x(257)), "tag \"k\" has a value of 257"),
            (role().tag("a*", "v"), "tag key \"a*\""),
            (role().tag("k", "*"), "tag \"k\" has a value with"),
            (role().tag("k", "a\tb"), "tag \"k\" has a value with"),
            (role().tag("k", "a\u{85}b"), "tag \"k\" has a value with"),
            (role().tag("Team", "a").tag("team", "b"), "tag \"team\" is there twice"),
            (role().tag("AWS:x", "v"), "tag key \"AWS:x\" starts with"),
            (role().transitive_tag_key(""), "transitive_tag_key key has 0"),
            (
                repeat(51, |r, i| r.transitive_tag_key(format!("k{i}"))),
                "transitive_tag_key is given",
            ),
            (role().source_identity("a"), "source_identity has 1"),
            (role().source_identity("aws:me"), "source_identity \"aws:me\" starts with"),
            (role().source_identity("a/b"), "source_identity \"a/b\" has"),
            (role().provided_context("arn:short", "assertion"), "provided_context ARN has 9"),
            (role().provided_context(x(30), "assertion"), "provided_context ARN "),
            (role().provided_context(ROLE, "abc"), "provided_context assertion has 3"),
            (repeat(6, |r, _| r.provided_context(ROLE, "abcd")), "provided_context is given 6"),
            (role().region(""), "region \"\""),
            (role().region("EU"), "region \"EU\""),
            (role().region("-eu"), "region \"-eu\""),
            (role().region("eu-"), "region \"eu-\""),
            (role().region("eu.central"), "region \"eu.central\""),
            (role().region("eu_central"), "region \"eu_central\""),
            (role().region(x(65)), "region \"xxx"),
            (role().connect_timeout(Duration::ZERO), "connect_timeout is 0"),
            (role().connect_timeout(Duration::MAX), "connect_timeout is 18446744073709551615.9"),
            (role().read_timeout(Duration::ZERO), "read_timeout is 0"),
            (role().read_timeout(secs(86_401)), "read_timeout is 86401s, must be 1 ms to 86400 s"),
            (role().operation_timeout(Duration::ZERO), "operation_timeout is 0"),
            (role().operation_timeout(Duration::from_micros(999)), "operation_timeout is 999µs"),
            (role().operation_timeout(secs(86_401)), "operation_timeout is 86401s"),
            (
                role().mfa_command("123456789", ["x"]).mfa_timeout(secs(86_401)),
                "mfa_command timeout",
            ),
            (device().mfa_timeout(secs(86_401)), "mfa_timeout is 86401s"),
            (
                role().base_source(Provider::imds().timeout(secs(86_401))),
                "base_source: timeout is 86401s",
            ),
            (role().max_attempts(0), "max_attempts is 0"),
        ];
        for (recipe, expected) in table {
            let error = recipe.validate().expect_err(expected);
            assert!(error.starts_with(expected), "{error:?} is not {expected:?}");
        }
    }

    #[test]
    fn addresses_are_told_from_others() {
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
            assert_eq!(role().endpoint_url(url).validate(), Ok(()), "{url}");
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
            let error = role().endpoint_url(url).validate().expect_err(url);
            assert!(error.starts_with("endpoint_url is not an address, must be"), "{url}: {error}");
        }
    }

    /// The limit of an hour, wherever a role stands in a chain.
    #[test]
    fn a_role_by_a_role_lives_an_hour() {
        let hours = |count: u64| Duration::from_secs(3600 * count);
        let sso = || Provider::sso("https://host", "eu-central-1", "123456789012", "reader");
        let limit = "duration is 7200s, must be at most 3600 s";
        let long = || role().duration(hours(2));
        for refused in [
            long().base_source(role()),
            long().base_source(std::sync::Arc::new(role())),
            long().base_source(role().base_source(role())),
            long().base_source(Provider::web_identity()),
            long().base_source(sso()),
            role().base_source(long().base_source(role())),
            role().base_source(role().base_source(long().base_source(sso()))),
        ] {
            assert!(refused.validate().unwrap_err().contains(limit), "{refused:?}");
        }
        for accepted in [
            // The first role of a chain is assumed by whoever is no role.
            role().base_source(role().base_source(long())),
            role().duration(hours(1)).base_source(role()),
            // What these give is not known before.
            long().base_source(Provider::profile("base")),
            long().base_source(Provider::default_chain()),
        ] {
            assert_eq!(accepted.validate(), Ok(()), "{accepted:?}");
        }
    }

    #[test]
    fn the_widest_valid_inputs_pass() {
        let recipe = role()
            .duration(Duration::from_secs(43_200))
            .external_id("a:b/c@d")
            .policy(" {\"Statement\":[]}\n")
            .policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess")
            .policy_arn("arn:aws-cn:iam::123456789012:policy/path/Mine")
            .tag("Größe", "")
            .transitive_tag_key("inherited")
            .source_identity("me@example.com")
            .provided_context("arn:aws:iam::aws:contextProvider/IdentityCenter", "assertion")
            .region("eu-central-1")
            .endpoint_url("http://127.0.0.1:8080")
            .connect_timeout(Duration::from_millis(1))
            .read_timeout(Duration::from_secs(86_400))
            .operation_timeout(Duration::from_secs(86_400));
        assert_eq!(recipe.validate(), Ok(()));
        for region in ["us-gov-west-1", "eusc-de-east-1", "us-iso-east-1", "a", &"x".repeat(64)] {
            assert_eq!(role().region(region).validate(), Ok(()), "{region}");
        }
        for name in ["a", "path/app", "a/longer!path/app+=,.@-_", &"x".repeat(64)] {
            let arn = format!("arn:aws:iam::123456789012:role/{name}");
            assert_eq!(AssumeRole::new(arn).validate(), Ok(()), "{name}");
        }
        // All that Unicode calls a separator.
        for space in [' ', '\u{a0}', '\u{2009}', '\u{2028}', '\u{2029}', '\u{202f}', '\u{3000}'] {
            let tag = format!("a{space}b");
            assert_eq!(role().tag(&tag, &tag).validate(), Ok(()), "{space:?}");
        }
    }

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let secret = "hush hush";
        for recipe in [
            role().external_id(secret),
            role().policy(secret),
            role().policy("{\"hush\":hush}"),
            role().tag("team", "hush*"),
            role().endpoint_url(format!("http://me:{secret}@host")),
            role().endpoint_url("http://me:hush@host"),
            role().base_source(Provider::sso("https://me:hush@host", "eu", "123456789012", "r")),
        ] {
            assert!(!recipe.validate().unwrap_err().contains("hush"));
        }
    }
}
