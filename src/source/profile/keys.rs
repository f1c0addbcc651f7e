//! Keys that the environment holds.

use aws_credential_types::Credentials;

use super::environment::Environment;
use crate::source::{KeysOf, moment, redact::redact};

/// # Errors
/// Half a pair of keys.
pub(super) fn by_environment(environment: &Environment) -> Result<Option<Credentials>, String> {
    let id = environment.get("AWS_ACCESS_KEY_ID");
    let secret = environment.get("AWS_SECRET_ACCESS_KEY");
    let (id, secret) = match (id, secret) {
        (Some(id), Some(secret)) => (id, secret),
        // As for botocore, it is the id that says whether there are keys.
        (None, _) => return Ok(None),
        (Some(_), None) => {
            return Err("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not".into());
        }
    };
    let written = environment.get("AWS_CREDENTIAL_EXPIRATION");
    let expiry = written.as_deref().and_then(moment::parse);
    let token =
        environment.get("AWS_SESSION_TOKEN").or_else(|| environment.get("AWS_SECURITY_TOKEN"));
    let mut keys = Credentials::builder()
        .access_key_id(id.trim())
        .secret_access_key(secret.trim())
        .provider_name("keys of the environment");
    keys.set_session_token(token.map(|token| token.trim().to_owned()));
    keys.set_expiry(expiry);
    keys.set_account_id(environment.get("AWS_ACCOUNT_ID").map(Into::into));
    let mut keys = keys.build();
    if expiry.is_none() {
        // Keys that sign in for a role need none.
        let origin = match written {
            None => "AWS_ACCESS_KEY_ID is set, and AWS_CREDENTIAL_EXPIRATION is not".to_owned(),
            Some(text) => format!(
                "AWS_CREDENTIAL_EXPIRATION {:?} is no time, must be like 2030-01-01T00:00:00Z",
                redact(&text)
            ),
        };
        keys.set_property(KeysOf(origin));
    }
    Ok(Some(keys))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn keys_with_their_expiry_are_read() {
        let environment = Environment::of([
            ("AWS_ACCESS_KEY_ID", "ASIA1"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_SESSION_TOKEN", "token"),
            ("AWS_CREDENTIAL_EXPIRATION", "2030-01-02T03:04:05+00:00"),
        ]);
        let keys = by_environment(&environment).unwrap().unwrap();
        assert_eq!(keys.access_key_id(), "ASIA1");
        assert_eq!(keys.session_token(), Some("token"));
        assert_eq!(keys.expiry(), Some(UNIX_EPOCH + Duration::from_secs(1_893_553_445)));
    }

    #[test]
    fn half_a_pair_is_no_pair_and_a_bad_expiry_is_named() {
        let of = |pairs: &[(&str, &str)]| by_environment(&Environment::of(pairs.iter().copied()));
        assert_eq!(of(&[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")]), Ok(None));
        let half = of(&[("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "")]).unwrap_err();
        assert!(half.contains("AWS_SECRET_ACCESS_KEY is not"), "{half}");
        assert_eq!(of(&[("AWS_SECRET_ACCESS_KEY", "hush")]), Ok(None));
        let pair = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let keys = of(&[pair[0], pair[1], ("AWS_CREDENTIAL_EXPIRATION", "soon")]).unwrap().unwrap();
        let KeysOf(origin) = keys.get_property().unwrap();
        assert!(origin.starts_with("AWS_CREDENTIAL_EXPIRATION \"soon\""), "{origin}");
    }
}
