//! A role with a web identity token: `sts:AssumeRoleWithWebIdentity`. The request is not signed.

use std::{io, path::Path, time::SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_sts::{Client, Config};
use zeroize::Zeroizing;

use super::{
    environment::Environment,
    files::Files,
    misconfigured,
    one_profile::WebIdentity,
    settings::{Explicit, Settings},
};
use crate::source::{
    Fetched, SourceError, SourceErrorClass, assume_role::default_session_name,
    server_time::ServerTime, user_file,
};

/// The role that the environment of a pod names.
pub(super) fn by_environment(environment: &Environment) -> Result<Option<WebIdentity>, String> {
    let Some(token_file) = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") else { return Ok(None) };
    let role_arn = environment
        .get("AWS_ROLE_ARN")
        .ok_or("AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not")?;
    let session_name = environment.get("AWS_ROLE_SESSION_NAME");
    Ok(Some(WebIdentity { role_arn, token_file, session_name, duration: None }))
}

pub(super) async fn fetch(
    recipe: &WebIdentity,
    environment: &Environment,
    files: &Files,
    names: &[String],
) -> Result<Fetched, SourceError> {
    let token = token(&environment.expand(&recipe.token_file))?;
    let mut settings = Settings::resolve(environment, files, names, "sts", Explicit::default())
        .map_err(misconfigured)?;
    settings.settle_region(environment, Some(&recipe.role_arn)).await.map_err(misconfigured)?;
    let config: Config = settings.sts(None).map_err(misconfigured)?.build();
    let server_time = ServerTime::default();
    let answer = Client::from_conf(config)
        .assume_role_with_web_identity()
        .role_arn(&recipe.role_arn)
        .role_session_name(recipe.session_name.clone().unwrap_or_else(default_session_name))
        .set_duration_seconds(recipe.duration.and_then(|d| i32::try_from(d.as_secs()).ok()))
        .web_identity_token(token.as_str())
        .customize()
        .interceptor(server_time.clone())
        .send()
        .await
        .map_err(|error| SourceError::from_sdk(&settings.sts_place(), &error).without(&token))?;
    let lacks = || SourceError::new(SourceErrorClass::Transient, "incomplete set: no Credentials");
    let set = answer.credentials().ok_or_else(lacks)?;
    let expiry = SystemTime::try_from(*set.expiration()).map_err(|_| lacks())?;
    let account = answer.assumed_role_user().and_then(|user| user.arn().split(':').nth(4));
    let mut credentials = Credentials::builder()
        .access_key_id(set.access_key_id())
        .secret_access_key(set.secret_access_key())
        .session_token(set.session_token())
        .expiry(expiry)
        .provider_name("web identity");
    credentials.set_account_id(account.filter(|id| !id.is_empty()).map(Into::into));
    Ok(server_time.get().into_iter().fold(Fetched::new(credentials.build()), Fetched::seen))
}

/// The token is read for each set: it is replaced before it expires.
fn token(path: &Path) -> Result<Zeroizing<String>, SourceError> {
    let unreadable = |error: io::Error| {
        misconfigured(format!(
            "the web identity token {path:?} cannot be read: {}",
            crate::errno::told(&error)
        ))
    };
    let bytes = user_file::read(path).map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| misconfigured(format!("the web identity token {path:?} is not UTF-8 text")))?;
    match text.trim() {
        "" => Err(misconfigured(format!("the web identity token {path:?} is empty"))),
        token => Ok(Zeroizing::new(token.to_owned())),
    }
}
