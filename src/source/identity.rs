//! The identity behind credentials: `sts:GetCallerIdentity`.

use std::{future::Future, pin::Pin};

use aws_sdk_sts::Client;

use super::{SourceError, SourceErrorClass};

/// The future that [`Source::identify`](super::Source::identify) returns.
pub type Identifying<'a> = Pin<Box<dyn Future<Output = Result<Identity, SourceError>> + Send + 'a>>;

/// The identity behind credentials, as STS names it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The account id: twelve digits.
    pub account: String,
    /// The ARN of the user or of the role session: `arn:aws:sts::123456789012:assumed-role/app/web`.
    pub arn: String,
    /// The unique id of the user or of the role session.
    pub user_id: String,
}

/// Asks the STS of `config`, with the credentials of `config`.
pub(super) async fn ask(config: aws_sdk_sts::Config) -> Result<Identity, SourceError> {
    let answer = Client::from_conf(config)
        .get_caller_identity()
        .send()
        .await
        .map_err(|error| SourceError::from_sdk("STS", &error))?;
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
