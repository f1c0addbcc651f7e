//! The rules of STS for the value of one input, except for [ARNs](super::arn). Each error names the field, the problem and the
//! rule. No error shows a value that may be secret.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use serde_json::{Map, Value};

use super::arn::context_provider_arn;
use crate::source::{
    FailedRegions,
    validate::{Checked, WORD, ascii_word, ensure, length, region, shown},
};

pub(super) fn name(field: &str, value: &str) -> Checked {
    length(field, value, 2..=64)?;
    ensure(value.chars().all(|c| ascii_word(c, WORD)), || {
        format!("{field} {} has a forbidden character, must be of [A-Za-z0-9+=,.@_-]", shown(value))
    })
}

pub(super) fn source_identity(value: &str) -> Checked {
    // The alphabet has no colon anyway. This error gives the better reason.
    ensure(!value.to_ascii_lowercase().starts_with("aws:"), || {
        format!("source_identity {} starts with \"aws:\", which is reserved", shown(value))
    })?;
    name("source_identity", value)
}

pub(super) fn duration(value: &Duration) -> Checked {
    ensure(value.subsec_nanos() == 0 && (900..=43_200).contains(&value.as_secs()), || {
        format!("duration is {value:?}, must be 900 to 43200 whole seconds")
    })
}

pub(super) fn external_id(id: &str) -> Checked {
    secret("external_id", id, 2..=1224, |c| ascii_word(c, "+=,.@:/-_"), "[A-Za-z0-9+=,.@:/_-]")
}

pub(super) fn policy(text: &str) -> Checked {
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

pub(super) fn tags(tags: &[(String, String)]) -> Checked {
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

pub(super) fn tag_key(field: &str, key: &str) -> Checked {
    length(&format!("{field} key"), key, 1..=128)?;
    ensure(key.chars().all(is_tag_char), || {
        format!("{field} key {} has a forbidden character, {TAG_RULE}", shown(key))
    })?;
    ensure(!key.to_lowercase().starts_with("aws:"), || {
        format!("{field} key {} starts with \"aws:\", which is reserved", shown(key))
    })
}

pub(super) fn provided_context((arn, assertion): &(String, String)) -> Checked {
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

pub(super) fn regions(regions: &[String]) -> Checked {
    at_most("regions", regions.len(), FailedRegions::MOST)?;
    for (place, name) in regions.iter().enumerate() {
        region(name).map_err(|problem| format!("regions: {problem}"))?;
        ensure(!regions[..place].contains(name), || {
            format!("regions names {} twice, must name each Region once", shown(name))
        })?;
    }
    Ok(())
}

pub(super) fn attempts(attempts: Option<u32>) -> Checked {
    ensure(attempts != Some(0), || "max_attempts is 0, must be at least 1".into())
}

/// A list of at most `limit` items, of which each has a rule.
pub(super) fn each<T>(
    field: &str,
    items: &[T],
    limit: usize,
    rule: impl Fn(&T) -> Checked,
) -> Checked {
    at_most(field, items.len(), limit)?;
    items.iter().try_for_each(rule)
}
