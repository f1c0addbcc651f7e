//! Whose credentials these are.

use std::{future::Future, pin::Pin};

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_sdk_sts::{Client, config::IdentityCache};

use super::{SourceError, SourceErrorClass, http};

/// The answer of `sts:GetCallerIdentity`, on its way.
pub type Identifying<'a> = Pin<Box<dyn Future<Output = Result<Identity, SourceError>> + Send + 'a>>;

/// The identity behind credentials, as STS knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The account's number, of twelve digits.
    pub account: String,
    /// The user or the role's session: `arn:aws:sts::123456789012:assumed-role/app/web`.
    pub arn: String,
    /// The unique id of the user or the role's session.
    pub user_id: String,
}

/// Asks the STS that the environment names.
pub(crate) async fn by_environment(credentials: Credentials) -> Result<Identity, SourceError> {
    let sdk = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http::client())
        .identity_cache(IdentityCache::no_cache())
        .credentials_provider(credentials)
        .load()
        .await;
    ask(aws_sdk_sts::Config::new(&sdk)).await
}

/// Asks the STS of `config`, with the credentials of `config`.
pub(super) async fn ask(config: aws_sdk_sts::Config) -> Result<Identity, SourceError> {
    let answer = Client::from_conf(config).get_caller_identity().send().await.map_err(|error| {
        let service = error.as_service_error().and_then(|e| SourceError::from_service(e.meta()));
        service.unwrap_or_else(|| SourceError::from_error("asking STS for the identity", &error))
    })?;
    let part = |text: Option<&str>, what| {
        text.map(str::to_owned).ok_or_else(|| {
            SourceError::new(SourceErrorClass::Transient, format!("incomplete identity: no {what}"))
        })
    };
    Ok(Identity {
        account: part(answer.account(), "Account")?,
        arn: part(answer.arn(), "Arn")?,
        user_id: part(answer.user_id(), "UserId")?,
    })
}
