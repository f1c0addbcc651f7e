//! The JSON of `shmcreds credentials`, and the expiry of a set as text.

use aws_credential_types::Credentials;
use shmcreds::endpoint::answers;

use crate::command_error::{CommandError, UNAVAILABLE};

fn unusable() -> CommandError {
    CommandError::new(UNAVAILABLE, "the expiry of the set is not a valid time")
}

/// In whole seconds: some SDKs cannot read fractions.
pub(crate) fn expiration(credentials: &Credentials) -> Result<String, CommandError> {
    answers::expiration(credentials).ok_or_else(unusable)
}

/// The answer of a `credential_process`.
pub(crate) fn process_answer(credentials: &Credentials) -> Result<String, CommandError> {
    let mut answer = answers::set(credentials, "SessionToken").ok_or_else(unusable)?;
    answer["Version"] = 1.into();
    Ok(answer.to_string())
}
