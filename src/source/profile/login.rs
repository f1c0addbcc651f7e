//! The session of `aws login`, which signs in with a browser.

use std::{io, path::PathBuf};

use aws_config::login::LoginCredentialsProvider;
use aws_credential_types::provider::ProvideCredentials;
use sha2::{Digest, Sha256};

use super::{environment::Environment, misconfigured, settings::Settings};
use crate::{
    hexadecimal,
    source::{Fetched, SourceError, SourceErrorClass, user_file},
};

/// Takes the keys from the cache of the session. The SDK renews them if they have expired.
pub(super) async fn fetch(
    session: &str,
    profile: &str,
    settings: &Settings,
    environment: &Environment,
) -> Result<Fetched, SourceError> {
    let path = cache(session, environment);
    let advice = format!("run `aws login --profile {profile}`");
    // The SDK would wait for the writer of a pipe.
    user_file::bytes(&path).map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::NotFound => "there is no session at".to_owned(),
            _ => format!("{} at", crate::errno::told(&error)),
        };
        misconfigured(format!(
            "profile {profile:?} uses `aws login`, but {problem} {}; {advice}",
            path.display()
        ))
    })?;
    let config = settings.provider_config().map_err(misconfigured)?;
    let provider = LoginCredentialsProvider::builder(session).configure(&config).build();
    match provider.provide_credentials().await {
        Ok(credentials) => Ok(Fetched::new(credentials)),
        Err(error) => {
            let failure = SourceError::from_error("the session of `aws login`", &error);
            // Only network problems can pass by themselves.
            let has_ended =
                failure.class() != SourceErrorClass::Transient || says_it_has_ended(&failure);
            let failure = match has_ended {
                true => failure.of_class(SourceErrorClass::Terminal),
                false => failure,
            };
            Err(failure.explained(&format!("{} cannot be used; {advice}", path.display())))
        }
    }
}

fn says_it_has_ended(failure: &SourceError) -> bool {
    ["expired", "reauthenticate", "missing field", "invalid JSON"]
        .iter()
        .any(|word| failure.message().contains(word))
}

fn cache(session: &str, environment: &Environment) -> PathBuf {
    let digest = hexadecimal::text(&Sha256::digest(session.trim().as_bytes()));
    let folder = environment.path("AWS_LOGIN_CACHE_DIRECTORY");
    folder.unwrap_or_else(|| environment.in_home("login/cache")).join(format!("{digest}.json"))
}
