//! A role of IAM Identity Center, with the token that `aws sso login` has written.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use aws_config::sso::SsoTokenProvider;
use aws_credential_types::{Credentials, provider::token::ProvideToken};
use aws_smithy_types::DateTime;
use serde::Deserialize;
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use super::{
    environment::Environment,
    files::Files,
    misconfigured,
    one_profile::Sso,
    settings::{Explicit, Settings},
};
use crate::{
    hexadecimal,
    source::{
        Fetched, SourceError, SourceErrorClass,
        redact::redact,
        refusal_recorder::{Refusal, RefusalRecorder},
        timestamp, user_file, validate,
    },
};

/// The fields of the token file that this library reads. The SDK reads the rest when it renews the token.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    access_token: Option<String>,
    expires_at: Option<String>,
    refresh_token: Option<String>,
    registration_expires_at: Option<String>,
}

/// The environment, the files and the profiles that decide the endpoint and the advice in an error.
pub(super) struct Context<'a> {
    pub(super) environment: &'a Environment,
    pub(super) files: &'a Files,
    pub(super) names: &'a [String],
}

pub(super) async fn fetch(recipe: &Sso, context: &Context<'_>) -> Result<Fetched, SourceError> {
    validate::sso(&recipe.start_url, &recipe.region, &recipe.account_id, &recipe.role_name)
        .map_err(|problem| misconfigured(format!("sso: {}", redact(&problem))))?;
    let login = login(recipe, context.names);
    let path = token_path(recipe, context.environment);
    let token = match read(&path, &login)? {
        Token::Valid(token) => token,
        Token::Expired { refresh_token } => {
            let renewed = renewed(recipe, context, &path, &login).await;
            renewed.map_err(|failure| failure.without(&refresh_token))?
        }
    };
    let explicit = Explicit { region: Some(&recipe.region), ..Explicit::default() };
    let settings =
        Settings::resolve(context.environment, context.files, context.names, "sso", explicit)
            .map_err(misconfigured)?;
    let client = aws_sdk_sso::Client::new(&settings.sdk_config().map_err(misconfigured)?);
    let answer = client
        .get_role_credentials()
        .role_name(&recipe.role_name)
        .account_id(&recipe.account_id)
        .access_token(token.as_str())
        .send()
        .await
        .map_err(|error| {
            let place = format!("IAM Identity Center in {}", recipe.region);
            refused(SourceError::from_sdk(&place, &error), &login).without(&token)
        })?;
    let set = answer.role_credentials().and_then(|set| {
        let expiry = SystemTime::try_from(DateTime::from_millis(set.expiration())).ok()?;
        let mut credentials = Credentials::builder()
            .access_key_id(set.access_key_id()?)
            .secret_access_key(set.secret_access_key()?)
            .account_id(recipe.account_id.as_str())
            .expiry(expiry)
            .provider_name("SSO");
        credentials.set_session_token(set.session_token().map(str::to_owned));
        Some(credentials.build())
    });
    let lacks =
        || SourceError::new(SourceErrorClass::Transient, "incomplete set of IAM Identity Center");
    set.map(Fetched::new).ok_or_else(lacks)
}

/// Adds what the user must do.
fn refused(failure: SourceError, login: &str) -> SourceError {
    match failure.code() {
        Some("UnauthorizedException") => {
            failure.explained(&format!("the SSO token is no longer valid; run `{login}`"))
        }
        Some("ForbiddenException" | "ResourceNotFoundException") => {
            failure.explained("the user has no access to this sso_account_id and sso_role_name")
        }
        _ => failure,
    }
}

/// The command that signs the user in.
fn login(recipe: &Sso, names: &[String]) -> String {
    match (names.last(), &recipe.session) {
        (Some(profile), _) => format!("aws sso login --profile {profile}"),
        (None, Some(session)) => format!("aws sso login --sso-session {session}"),
        (None, None) => "aws sso login".into(),
    }
}

fn token_path(recipe: &Sso, environment: &Environment) -> PathBuf {
    let id = recipe.session.as_ref().unwrap_or(&recipe.start_url);
    let digest = hexadecimal::text(&Sha1::digest(id.as_bytes()));
    environment.in_home(&format!("sso/cache/{digest}.json"))
}

/// What the token file has.
enum Token {
    Valid(Zeroizing<String>),
    /// It must be renewed first.
    Expired {
        refresh_token: Zeroizing<String>,
    },
}

fn read(path: &Path, login: &str) -> Result<Token, SourceError> {
    let problem = |problem: &str| {
        misconfigured(format!("the SSO token {} {problem}; run `{login}`", path.display()))
    };
    let bytes = user_file::read(path)
        .map_err(|error| problem(&format!("cannot be read: {}", crate::errno::told(&error))))?;
    // The parser's error text may quote the token.
    let cached: Cached = serde_json::from_slice(&bytes)
        .map_err(|_| problem("is not what `aws sso login` writes"))?;
    let time = |text: &Option<String>| text.as_deref().and_then(timestamp::parse);
    let refresh_token = cached.refresh_token.map(Zeroizing::new).filter(|token| !token.is_empty());
    let token = cached.access_token.map(Zeroizing::new).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| problem("has no accessToken"))?;
    let expiry = time(&cached.expires_at).ok_or_else(|| problem("has no expiresAt"))?;
    let now = SystemTime::now();
    if expiry > now {
        return Ok(Token::Valid(token));
    }
    let registered = time(&cached.registration_expires_at).is_some_and(|end| end > now);
    match refresh_token {
        Some(refresh_token) if registered => Ok(Token::Expired { refresh_token }),
        _ => Err(problem("has expired").of_class(SourceErrorClass::Terminal)),
    }
}

/// Lets the SDK renew the token. The SDK writes it where the AWS CLI finds it.
async fn renewed(
    recipe: &Sso,
    context: &Context<'_>,
    path: &Path,
    login: &str,
) -> Result<Zeroizing<String>, SourceError> {
    let expired = || {
        let text = format!("the SSO token {} has expired; run `{login}`", path.display());
        SourceError::of_known_text(SourceErrorClass::Terminal, text)
    };
    let session = recipe.session.as_ref().ok_or_else(expired)?;
    let explicit = Explicit { region: Some(&recipe.region), ..Explicit::default() };
    let settings =
        Settings::resolve(context.environment, context.files, context.names, "sso-oidc", explicit)
            .map_err(misconfigured)?;
    let config = settings.sdk_config().map_err(misconfigured)?;
    let recorder = config.http_client().map(RefusalRecorder::new);
    let mut config = config.into_builder();
    config.set_http_client(recorder.as_ref().map(RefusalRecorder::client));
    let provider = SsoTokenProvider::builder()
        .configure(&config.build())
        .region(settings.region())
        .session_name(session)
        .start_url(&recipe.start_url)
        .build()
        .await;
    match provider.provide_token().await {
        Ok(token) if token.expiration().is_none_or(|end| end > SystemTime::now()) => {
            Ok(Zeroizing::new(token.token().to_owned()))
        }
        // The SDK hides why, and gives the old token.
        Ok(_) => {
            let service = format!("IAM Identity Center in {}", recipe.region);
            let refusal = recorder.and_then(|recorder| recorder.refusal());
            let failure = refusal.map(|refusal| refused_renewal(&service, &refusal));
            let ends =
                failure.as_ref().is_some_and(|one| one.class() == SourceErrorClass::Terminal);
            let advice = if ends { "" } else { "if that goes on, " };
            let text = format!(
                "the SSO token {} has expired, and {service} did not renew it; {advice}run `{login}`",
                path.display()
            );
            // Without an answer it may have been an outage.
            let unanswered = || SourceError::of_known_text(SourceErrorClass::Transient, &text);
            Err(failure.map_or_else(unanswered, |failure| failure.explained(&text)))
        }
        Err(error) => {
            let reason =
                format!("the SSO token {} cannot be renewed; run `{login}`", path.display());
            let failure = SourceError::from_error("renewing it", &error);
            Err(failure.of_class(SourceErrorClass::Terminal).explained(&reason))
        }
    }
}

/// The error of an OAuth service (RFC 6749).
#[derive(Deserialize)]
struct Explained {
    error: String,
    error_description: Option<String>,
}

fn refused_renewal(service: &str, refusal: &Refusal) -> SourceError {
    let by_status = SourceErrorClass::of_status(refusal.status);
    let Ok(said) = serde_json::from_slice::<Explained>(&refusal.body) else {
        let failure = SourceError::from_status(service, refusal.status, &refusal.body);
        return refusal.complete(failure);
    };
    let class = match said.error.as_str() {
        "slow_down" => SourceErrorClass::Throttled,
        _ if by_status == SourceErrorClass::Misconfigured => SourceErrorClass::Terminal,
        _ => by_status,
    };
    let reason = said.error_description.unwrap_or_else(|| "the service gave no reason".into());
    let failure = SourceError::new(class, reason).with_http_status(refusal.status);
    refusal.complete(failure.with_code(said.error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_error_for_each_unusable_token_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token.json");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path, "aws sso login --profile dev")
        };
        for (text, class, problem) in [
            ("", SourceErrorClass::Misconfigured, "is not what"),
            ("[]", SourceErrorClass::Misconfigured, "is not what"),
            ("null", SourceErrorClass::Misconfigured, "is not what"),
            ("{\"accessToken\":1}", SourceErrorClass::Misconfigured, "is not what"),
            ("{}", SourceErrorClass::Misconfigured, "has no accessToken"),
            ("{\"accessToken\":\"hush\"}", SourceErrorClass::Misconfigured, "has no expiresAt"),
            (
                "{\"accessToken\":\"hush\",\"expiresAt\":\"2020-01-01T00:00:00Z\"}",
                SourceErrorClass::Terminal,
                "has expired",
            ),
            (
                "{\"accessToken\":\"hush\",\"expiresAt\":\"2020-01-01T00:00:00UTC\",\"refreshToken\":\"r\",\
                 \"registrationExpiresAt\":\"2020-01-01T00:00:00Z\"}",
                SourceErrorClass::Terminal,
                "has expired",
            ),
        ] {
            let failure = read(text).err().unwrap();
            assert_eq!(failure.class(), class, "{failure}");
            let message = failure.message();
            assert!(message.contains(problem) && message.contains("token.json"), "{message}");
            assert!(message.ends_with("run `aws sso login --profile dev`"), "{message}");
            assert!(!message.contains("hush"), "{message}");
        }
        let good = read("{\"accessToken\":\"t\",\"expiresAt\":\"2999-01-01T00:00:00Z\"}").unwrap();
        assert!(matches!(good, Token::Valid(token) if token.as_str() == "t"));
        let stale = read(
            "{\"accessToken\":\"t\",\"expiresAt\":\"2020-01-01T00:00:00Z\",\"refreshToken\":\"r\",\
             \"registrationExpiresAt\":\"2999-01-01T00:00:00Z\"}",
        );
        assert!(
            matches!(stale, Ok(Token::Expired { refresh_token }) if refresh_token.as_str() == "r")
        );
        fs::remove_file(&path).unwrap();
        let absent = super::read(&path, "aws sso login").err().unwrap();
        assert!(absent.message().contains("token.json cannot be read"), "{absent}");
    }
}
