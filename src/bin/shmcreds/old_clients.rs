//! What `exec` gives to programs that know no credentials endpoint.

use std::{env, io, process::Command};

use aws_credential_types::Credentials;

use crate::{command_error::CommandError, credentials_json::expiration};

/// The line of an AWS config file that asks this program for the set of the session, or of a role of the pool.
pub(crate) fn helper(session: &str, role: Option<&str>) -> io::Result<String> {
    let program = env::current_exe()?.display().to_string();
    // Quoted only if necessary: old SDKs for Go end the value at the second quote.
    let quote = if program.contains(char::is_whitespace) { "\"" } else { "" };
    let role = role.map_or_else(String::new, |role| format!(" --role {role}"));
    Ok(format!("credential_process = {quote}{program}{quote} credentials {session}{role}\n"))
}

/// The config file with that line in each profile, because CMD may choose any of them.
pub(crate) fn with_helper(config: &str, helper: &str) -> String {
    let is_profile = |line: &str| line.starts_with("[default]") || line.starts_with("[profile ");
    let lines = config.split_inclusive('\n');
    lines.flat_map(|line| [line, if is_profile(line) { helper } else { "" }]).collect()
}

/// Puts the keys themselves into the environment. Almost all clients read these names.
pub(crate) fn set_keys(command: &mut Command, keys: &Credentials) -> Result<(), CommandError> {
    command
        .env("AWS_ACCESS_KEY_ID", keys.access_key_id())
        .env("AWS_SECRET_ACCESS_KEY", keys.secret_access_key())
        .env("AWS_SESSION_TOKEN", keys.session_token().unwrap_or_default())
        .env("AWS_CREDENTIAL_EXPIRATION", expiration(keys)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_profile_gets_the_helper() {
        let config =
            "[default]\nregion = r\n[profile a]\n[services s]\ns3 =\n    endpoint_url = u\n";
        let expected = "[default]\nHELPER\nregion = r\n[profile a]\nHELPER\n[services s]\ns3 =\n    endpoint_url = u\n";
        assert_eq!(with_helper(config, "HELPER\n"), expected);
    }
}
