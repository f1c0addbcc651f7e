//! The rules for the ARNs that `AssumeRole` takes.

use crate::source::validate::{Checked, WORD, ascii_word, ensure, is_account, length, shown};

pub(super) fn role_arn(arn: &str) -> Checked {
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

/// `role/`, an optional path, and the name.
fn names_role(resource: &str) -> bool {
    let role = resource.strip_prefix("role/").unwrap_or("");
    let name = role.rsplit('/').next().unwrap_or("");
    !role.starts_with('/')
        && !role.contains('*')
        && (1..=64).contains(&name.len())
        && name.chars().all(|c| ascii_word(c, WORD))
}

pub(super) fn policy_arn(arn: &str) -> Checked {
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

pub(super) fn context_provider_arn(arn: &str) -> Checked {
    length("provided_context ARN", arn, 20..=2048)?;
    ensure(arn.starts_with("arn:") && arn.chars().all(is_arn_char), || {
        format!("provided_context ARN {} is not an ARN, must begin with arn:", shown(arn))
    })
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
