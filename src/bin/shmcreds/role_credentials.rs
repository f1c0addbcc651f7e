//! `credentials NAME --role ROLE`: the set of a role, from the process that serves the pool.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{command_error::CommandError, role_grant::BY_NAME, same_user};

/// The answer of a `credential_process`.
pub(crate) fn get(
    pool: &str,
    role: &str,
    valid_for: Option<Duration>,
) -> Result<String, CommandError> {
    let query = valid_for.map_or_else(String::new, |time| format!("?valid_for={}", time.as_secs()));
    let role = percent_encoding::utf8_percent_encode(role, percent_encoding::NON_ALPHANUMERIC);
    let set = same_user::ask(pool, &format!("{BY_NAME}{role}{query}"))?;
    let mut answer = json!({
        "Version": 1,
        "AccessKeyId": set["AccessKeyId"],
        "SecretAccessKey": set["SecretAccessKey"],
        "SessionToken": set["Token"],
        "Expiration": set["Expiration"],
    });
    if let Value::String(account) = &set["AccountId"] {
        answer["AccountId"] = account.as_str().into();
    }
    Ok(answer.to_string())
}
