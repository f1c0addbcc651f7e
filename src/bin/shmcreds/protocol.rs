//! What the SDKs read: a set as `credential_process` and as a container's endpoint give it.

use aws_credential_types::Credentials;
use aws_smithy_types::{DateTime, date_time::Format};
use serde_json::{Value, json};

use crate::command_error::{CommandError, UNAVAILABLE};

/// To the second: some SDKs read nothing finer.
fn expiration(credentials: &Credentials) -> Result<String, CommandError> {
    let unusable = |_| CommandError::new(UNAVAILABLE, "the set's expiry is no time");
    let expiry = credentials.expiry().ok_or(()).map_err(unusable)?;
    let seconds = DateTime::from(expiry).secs();
    DateTime::from_secs(seconds).fmt(Format::DateTime).map_err(|_| unusable(()))
}

fn answer(credentials: &Credentials, token: &str) -> Result<Value, CommandError> {
    let mut answer = json!({
        "AccessKeyId": credentials.access_key_id(),
        "SecretAccessKey": credentials.secret_access_key(),
        token: credentials.session_token().unwrap_or_default(),
        "Expiration": expiration(credentials)?,
    });
    if let Some(account) = credentials.account_id() {
        answer["AccountId"] = account.as_str().into();
    }
    Ok(answer)
}

/// The answer of a `credential_process`.
pub(crate) fn process_answer(credentials: &Credentials) -> Result<String, CommandError> {
    let mut answer = answer(credentials, "SessionToken")?;
    answer["Version"] = 1.into();
    Ok(answer.to_string())
}

/// The answer of a container's endpoint.
pub(crate) fn endpoint_answer(credentials: &Credentials) -> Result<String, CommandError> {
    answer(credentials, "Token").map(|answer| answer.to_string())
}

/// A refusal of the endpoint: one half of the SDKs reads the small letters, the other the capitals.
pub(crate) fn refusal(code: &str, message: &str) -> String {
    json!({"code": code, "message": message, "Code": code, "Message": message}).to_string()
}
