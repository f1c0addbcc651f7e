//! Keys that the environment or a profile holds.

use aws_credential_types::Credentials;

use super::{
    environment::Environment,
    files::{Profile, Setting},
};
use crate::source::{KeysOf, redact::redact, timestamp};

/// The settings for the expiry of keys. Several common programs write them into the credentials file.
pub(super) const EXPIRIES: [&str; 6] = [
    "aws_expiration",
    "aws_credential_expiration",
    "aws_session_expiration",
    "x_security_token_expires",
    "token_expiration",
    "expiration",
];

/// The keys in the environment, if it has any.
///
/// # Errors
/// Half a pair of keys.
pub(super) fn by_environment(environment: &Environment) -> Result<Option<Credentials>, String> {
    let id = environment.get("AWS_ACCESS_KEY_ID");
    let secret = environment.get("AWS_SECRET_ACCESS_KEY");
    let (id, secret) = match (id, secret) {
        (Some(id), Some(secret)) => (id, secret),
        // As in botocore, there are keys only if there is an access key id.
        (None, _) => return Ok(None),
        (Some(_), None) => {
            return Err("AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not".into());
        }
    };
    let written = environment.get("AWS_CREDENTIAL_EXPIRATION");
    let expiry = written.as_deref().and_then(timestamp::parse);
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
        // Keys that assume a role need no expiry.
        let origin = match written {
            None => "AWS_ACCESS_KEY_ID is set, but AWS_CREDENTIAL_EXPIRATION is not".to_owned(),
            Some(text) => format!(
                "AWS_CREDENTIAL_EXPIRATION {:?} is not a time, must be like 2030-01-01T00:00:00Z",
                redact(&text)
            ),
        };
        keys.set_property(KeysOf(origin));
    }
    Ok(Some(keys))
}

/// The keys in a profile, if it has any.
///
/// # Errors
/// Half a pair of keys.
pub(super) fn by_profile(name: &str, profile: &Profile) -> Result<Option<Credentials>, String> {
    let text = |key: &str| profile.get(key).map(str::to_owned);
    let id = profile.setting("aws_access_key_id");
    let secret = profile.setting("aws_secret_access_key");
    let (id, secret) = match (id, secret) {
        (Some(id), Some(secret)) => (id, secret),
        (None, None) => return Ok(None),
        (Some(id), None) => {
            return Err(half(name, "aws_access_key_id", id, "aws_secret_access_key"));
        }
        (None, Some(secret)) => {
            return Err(half(name, "aws_secret_access_key", secret, "aws_access_key_id"));
        }
    };
    let token = text("aws_session_token").or_else(|| text("aws_security_token"));
    let expiry = EXPIRIES.iter().find_map(|key| Some((*key, profile.setting(key)?)));
    let (expiry, problem) = match expiry
        .map(|(key, setting)| (key, setting, timestamp::parse(setting.value())))
    {
        Some((_, _, Some(expiry))) => (Some(expiry), None),
        Some((key, setting, None)) => {
            (None, Some(setting.breaks(key, "is not a time, must be like 2030-01-01T00:00:00Z")))
        }
        None => (None, None),
    };
    let mut keys = Credentials::builder()
        .access_key_id(id.value())
        .secret_access_key(secret.value())
        .provider_name("keys of a profile");
    keys.set_session_token(token);
    keys.set_expiry(expiry);
    keys.set_account_id(text("aws_account_id").map(Into::into));
    let mut keys = keys.build();
    if expiry.is_none() {
        // Keys that assume a role need no expiry.
        keys.set_property(KeysOf(problem.unwrap_or_else(|| {
            format!("profile {:?} has keys ({}), but no aws_expiration", name, id.place)
        })));
    }
    Ok(Some(keys))
}

fn half(name: &str, key: &str, setting: &Setting, other: &str) -> String {
    format!("profile {:?} has {key} ({}), but no {other}", name, setting.place)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{super::files::tests::files, *};

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
    fn the_expiry_of_keys_is_read_in_every_form() {
        let moment = UNIX_EPOCH + Duration::from_secs(1_893_553_445);
        let with = |line: &str| {
            let text = format!("[x]\naws_access_key_id = A\naws_secret_access_key = s\n{line}\n");
            by_profile("x", files("", &text).profile("x").unwrap()).unwrap().unwrap()
        };
        for line in [
            "aws_expiration = 2030-01-02T03:04:05.000Z",
            "x_security_token_expires = 2030-01-02T03:04:05+00:00",
            "aws_session_expiration = 2030-01-02T03:04:05+0000",
            "aws_credential_expiration = 2030-01-02T03:04:05Z",
            "expiration = 2030-01-02 03:04:05",
        ] {
            assert_eq!(with(line).expiry(), Some(moment), "{line}");
        }
        let keys = with("aws_security_token = t");
        assert_eq!((keys.session_token(), keys.expiry()), (Some("t"), None));
        let keys = with("aws_expiration = soon");
        let KeysOf(error) = keys.get_property().unwrap();
        assert!(error.contains("aws_expiration \"soon\"") && error.contains("line 4"), "{error}");
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
