//! The JSON that SDKs read: the answers of `credential_process` and of the container endpoint.

use aws_credential_types::Credentials;
use aws_smithy_types::{DateTime, date_time::Format};
use serde_json::{Value, json};

/// In whole seconds: some SDKs cannot read fractions. `None` if the expiry is not a valid time.
pub fn expiration(credentials: &Credentials) -> Option<String> {
    let seconds = DateTime::from(credentials.expiry()?).secs();
    DateTime::from_secs(seconds).fmt(Format::DateTime).ok()
}

/// A set, with the name that the token has there.
pub fn set(credentials: &Credentials, token: &str) -> Option<Value> {
    let mut answer = json!({
        "AccessKeyId": credentials.access_key_id(),
        "SecretAccessKey": credentials.secret_access_key(),
        token: credentials.session_token().unwrap_or_default(),
        "Expiration": expiration(credentials)?,
    });
    if let Some(account) = credentials.account_id() {
        answer["AccountId"] = account.as_str().into();
    }
    Some(answer)
}

/// A refusal of the endpoint. Some SDKs read the names in lower case, others the capitalised names.
pub fn refusal(code: &str, message: &str) -> String {
    json!({"code": code, "message": message, "Code": code, "Message": message}).to_string()
}
