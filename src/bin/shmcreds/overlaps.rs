//! Refuses a roles file in which the token of one table would be good for roles of another one: `tenant-1*` also fits the roles
//! of `tenant-10`. A table that is to do so says it.

use std::{collections::BTreeMap, ops::Bound};

use crate::{
    arn_table::{ArnTable, GRANT},
    pattern,
    roles_file::RolesFile,
};

/// The parts of an ARN, divided by colons. The last one may contain colons.
const PARTS: usize = 6;

/// A pattern, and the table that has it.
type Owned<'a> = (&'a str, &'a str, &'a ArnTable);

/// # Errors
/// A sentence that names the line and both tables.
pub(crate) fn check(file: &RolesFile) -> Result<(), String> {
    let grants = file.by_arn.iter().filter(|(label, _)| label.starts_with(GRANT));
    let patterns = grants.flat_map(|(label, table)| {
        table.allow.iter().map(move |one| (one.as_str(), label.as_str(), table))
    });
    let mut patterns: Vec<Owned<'_>> = patterns.collect();
    patterns.sort_by_key(|(pattern, label, _)| (literal(pattern), *label));
    for (place, one) in patterns.iter().enumerate() {
        // What fits a pattern begins with its literal part. So both can fit only if one of these begins with the other.
        let begins = |other: &&Owned<'_>| literal(other.0).starts_with(literal(one.0));
        patterns[place + 1..]
            .iter()
            .take_while(begins)
            .try_for_each(|other| check_grants(one, other))?;
    }
    check_roles(file, &patterns)
}

fn check_grants(one: &Owned<'_>, other: &Owned<'_>) -> Result<(), String> {
    let ((first, label, table), (second, other_label, other_table)) = (one, other);
    let is_said = label == other_label || says(table, other_label) || says(other_table, label);
    if is_said || !meet(first, second) {
        return Ok(());
    }
    let line = table.line.max(other_table.line);
    Err(format!(
        "line {line}: {label} and {other_label}: one role fits both {first:?} and {second:?}, so the token of each would \
         be good for roles of the other; make the patterns narrower, or add may-overlap = [{other_label:?}] to [{label}]"
    ))
}

/// The roles with names, too: a client of such a role has a token that no other client should replace.
fn check_roles(file: &RolesFile, patterns: &[Owned<'_>]) -> Result<(), String> {
    let mut by_arn: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, role) in &file.roles {
        by_arn.entry(&role.arn).or_default().push(name);
    }
    for (one, label, table) in patterns {
        let from = (Bound::Included(literal(one)), Bound::Unbounded);
        let near =
            by_arn.range::<str, _>(from).take_while(|(arn, _)| arn.starts_with(literal(one)));
        for (_, names) in near.filter(|(arn, _)| pattern::fits(one, arn)) {
            // A role and a grant of one name belong to one tenant.
            let own = |name: &&&str| label.strip_prefix(GRANT) == Some(**name);
            let other = |name: &&&str| !own(name) && !says(table, &format!("role.{name}"));
            if let Some(name) = names.iter().find(other) {
                let line = table.line;
                return Err(format!(
                    "line {line}: {label}: {one:?} fits the ARN of role.{name}, so its token would be good for that role; \
                     make the pattern narrower, or add may-overlap = [\"role.{name}\"]"
                ));
            }
        }
    }
    Ok(())
}

/// Whether a table says that it may give out roles of the table `label`.
fn says(table: &ArnTable, label: &str) -> bool {
    table.may_overlap.iter().any(|one| pattern::fits(one, label))
}

/// The part of a pattern before its first wildcard.
fn literal(pattern: &str) -> &str {
    let end = pattern.find(['*', '?']).unwrap_or(pattern.len());
    &pattern[..end]
}

/// Whether there is an ARN that fits both patterns.
fn meet(one: &str, other: &str) -> bool {
    let (parts, others) = (one.splitn(PARTS, ':'), other.splitn(PARTS, ':'));
    parts.clone().count() == others.clone().count()
        && parts.zip(others).all(|(one, other)| meet_parts(one.as_bytes(), other.as_bytes()))
}

/// From the right: `meets[j]` tells whether `one` from its byte `at` meets `other` from its byte `j`.
fn meet_parts(one: &[u8], other: &[u8]) -> bool {
    let only_stars = |rest: &[u8]| rest.iter().all(|c| *c == b'*');
    let mut meets: Vec<bool> = (0..=other.len()).map(|at| only_stars(&other[at..])).collect();
    for at in (0..one.len()).rev() {
        let before = meets.clone();
        meets[other.len()] = only_stars(&one[at..]);
        for (j, c) in other.iter().enumerate().rev() {
            meets[j] = match (one[at], *c) {
                (b'*', _) | (_, b'*') => before[j] || meets[j + 1],
                (a, b) => (a == b || a == b'?' || b == b'?') && before[j + 1],
            };
        }
    }
    meets[0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_meet_where_one_arn_fits_both() {
        let at = |role: &str| format!("arn:aws:iam::*:role/{role}");
        for (one, other) in [
            ("tenant-1*", "tenant-10*"),
            ("tenant-1*", "tenant-1"),
            ("*-a", "b-*"),
            ("a?c", "ab?"),
            ("*", "x"),
            ("a*b*c", "*bc"),
        ] {
            assert!(meet(&at(one), &at(other)) && meet(&at(other), &at(one)), "{one} {other}");
        }
        for (one, other) in
            [("tenant-1-*", "tenant-10-*"), ("*-a", "*-b"), ("a?", "a"), ("a*", "b*"), ("aa*", "a")]
        {
            assert!(!meet(&at(one), &at(other)) && !meet(&at(other), &at(one)), "{one} {other}");
        }
        assert!(!meet("arn:aws:iam::111122223333:role/*", "arn:aws:iam::444455556666:role/*"));
        assert!(meet("arn:*:iam::111122223333:role/a", "arn:aws:iam::*:role/?"));
    }

    /// All texts of two letters and at most seven of them.
    fn texts() -> Vec<String> {
        let mut all = vec![String::new()];
        let mut last = 0;
        for _ in 0..7 {
            let end = all.len();
            for at in last..end {
                all.extend(["a", "b"].map(|letter| all[at].clone() + letter));
            }
            last = end;
        }
        all
    }

    proptest! {
        #[test]
        fn a_common_text_is_found_by_trial(one in "[ab*?]{0,4}", other in "[ab*?]{0,3}") {
            // If there is a common text, there is one that is no longer than both patterns together.
            let common = texts().iter().any(|text| pattern::fits(&one, text) && pattern::fits(&other, text));
            prop_assert_eq!(meet(&one, &other), common);
        }
    }
}
