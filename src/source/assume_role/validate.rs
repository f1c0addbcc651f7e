//! The rules for the inputs of `AssumeRole`, as STS defines them. Each error names the field, the problem and the
//! rule. No error shows a value that may be secret.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use aws_credential_types::Credentials;
use serde_json::{Map, Value};

use super::{
    AssumeRole, Base,
    arn::{context_provider_arn, policy_arn, role_arn},
};
use crate::source::{
    FailedRegions, Source,
    profile::ProxyUrl,
    validate::{
        Checked, WORD, ascii_word, description, endpoint_url, ensure, length, region, shown,
        timeout,
    },
};

/// Checks all that STS or the connection to it would refuse.
pub(super) fn inputs(recipe: &AssumeRole) -> Checked {
    role_arn(&recipe.inputs.role_arn)?;
    name("session_name", &recipe.inputs.session_name)?;
    optional(&recipe.inputs.duration, duration)?;
    optional(&recipe.inputs.external_id, |id| {
        secret("external_id", id, 2..=1224, |c| ascii_word(c, "+=,.@:/-_"), "[A-Za-z0-9+=,.@:/_-]")
    })?;
    optional(&recipe.inputs.policy, policy)?;
    at_most("policy_arn", recipe.inputs.policy_arns.len(), 10)?;
    recipe.inputs.policy_arns.iter().try_for_each(|arn| policy_arn(arn))?;
    tags(&recipe.inputs.tags)?;
    at_most("transitive_tag_key", recipe.inputs.transitive_tag_keys.len(), 50)?;
    recipe
        .inputs
        .transitive_tag_keys
        .iter()
        .try_for_each(|key| tag_key("transitive_tag_key", key))?;
    optional(&recipe.inputs.source_identity, source_identity)?;
    at_most("provided_context", recipe.inputs.provided_contexts.len(), 5)?;
    recipe
        .inputs
        .provided_contexts
        .iter()
        .try_for_each(|(arn, text)| provided_context(arn, text))?;
    transport(recipe)
}

fn transport(recipe: &AssumeRole) -> Checked {
    optional(&recipe.inputs.region, region)?;
    optional(&recipe.inputs.endpoint_url, endpoint_url)?;
    optional(&recipe.inputs.proxy, ProxyUrl::validate)?;
    regions(recipe)?;
    timeout("connect_timeout", recipe.inputs.connect_timeout)?;
    timeout("read_timeout", recipe.inputs.read_timeout)?;
    timeout("operation_timeout", Some(recipe.inputs.operation_timeout))?;
    ensure(recipe.inputs.max_attempts != Some(0), || {
        "max_attempts is 0, must be at least 1".into()
    })?;
    mfa(recipe)?;
    match &recipe.base {
        Base::DefaultChain | Base::Ready(_) => Ok(()),
        Base::Keys(keys) => base_keys(keys),
        Base::Provider(provider) => {
            description("credentials_provider description", provider.description())
        }
        Base::Source(source) => base_source(&**source, recipe.inputs.duration),
    }
}

fn regions(recipe: &AssumeRole) -> Checked {
    let regions = &recipe.inputs.regions;
    at_most("regions", regions.len(), FailedRegions::MOST)?;
    for (place, name) in regions.iter().enumerate() {
        region(name).map_err(|problem| format!("regions: {problem}"))?;
        ensure(!regions[..place].contains(name), || {
            format!("regions names {} twice, must name each Region once", shown(name))
        })?;
    }
    let others = [
        ("region", recipe.inputs.region.is_some()),
        ("endpoint_url", recipe.inputs.endpoint_url.is_some()),
    ];
    for (other, is_set) in others {
        ensure(regions.is_empty() || !is_set, || {
            format!("regions is set beside {other}, must be set without it")
        })?;
    }
    ensure(recipe.mfa.is_none() || regions.len() <= 1, || {
        format!(
            "regions names {} Regions, must name one with mfa: a code works once",
            regions.len()
        )
    })
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
    let attempts = recipe.inputs.max_attempts.unwrap_or(1);
    ensure(attempts == 1, || {
        format!("max_attempts is {attempts}, must be 1 with mfa: STS accepts a code only once")
    })?;
    mfa.validate()
}

/// Values that are not shown: they are secrets, or may have been put in each other's place.
fn base_keys(keys: &Credentials) -> Checked {
    let values = [
        ("access key id", Some(keys.access_key_id())),
        ("secret access key", Some(keys.secret_access_key())),
        ("session token", keys.session_token()),
    ];
    for (what, value) in values.into_iter().filter_map(|(what, value)| Some((what, value?))) {
        let good = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic());
        ensure(good, || {
            format!(
                "base_keys: the {what} is empty or has a space or another character that no key has"
            )
        })?;
    }
    Ok(())
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

fn name(field: &str, value: &str) -> Checked {
    length(field, value, 2..=64)?;
    ensure(value.chars().all(|c| ascii_word(c, WORD)), || {
        format!("{field} {} has a forbidden character, must be of [A-Za-z0-9+=,.@_-]", shown(value))
    })
}

fn source_identity(value: &str) -> Checked {
    // The alphabet has no colon anyway. This error gives the better reason.
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
    // The parser's error text may quote the policy.
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
            format!(
                "tag {} is given twice, keys must differ in more than upper and lower case",
                shown(key)
            )
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
    context_provider_arn(arn)?;
    secret("provided_context assertion", assertion, 4..=2048, |_| true, "")
}

fn is_tag_char(c: char) -> bool {
    // STS says \p{Z}: white space without control characters.
    let space = c.is_whitespace() && !c.is_control();
    c.is_alphanumeric() || space || "_.:/=+-@".contains(c)
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
mod tests;
