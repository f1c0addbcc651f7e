//! The JSON that SDKs read: the answers of `credential_process` and of the container endpoint.

use aws_credential_types::Credentials;
use aws_smithy_types::{DateTime, date_time::Format};
use serde_json::{Value, json};

use crate::command_error::{CommandError, UNAVAILABLE};

/// In whole seconds: some SDKs cannot read fractions.
pub(crate) fn expiration(credentials: &Credentials) -> Result<String, CommandError> {
    let unusable = |_| CommandError::new(UNAVAILABLE, "the expiry of the set is not a valid time");
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

/// The answer of the container endpoint.
pub(crate) fn endpoint_answer(credentials: &Credentials) -> Result<String, CommandError> {
    answer(credentials, "Token").map(|answer| answer.to_string())
}

/// A refusal of the endpoint. Some SDKs read the names in lower case, others the capitalised names.
pub(crate) fn refusal(code: &str, message: &str) -> String {
    json!({"code": code, "message": message, "Code": code, "Message": message}).to_string()
}
