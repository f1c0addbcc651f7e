//! The session as a credential provider of reqsign, which signs for OpenDAL.

use std::time::UNIX_EPOCH;

use aws_credential_types::provider::ProvideCredentials;
use reqsign_aws_core::Credential;
use reqsign_core::{Context, Error, ProvideCredential, Result, time::Timestamp};

use crate::session::{SetSnapshot, SharedSession};

/// With the feature `opendal`. reqsign gets the true expiry of each set. It keeps a set until two minutes before that, and
/// asks the session for each request from then on.
///
/// ```
/// # fn example(session: shmcreds::SharedSession) {
/// use reqsign_core::ProvideCredentialChain;
///
/// let chain = ProvideCredentialChain::new().push(session);
/// // With OpenDAL: S3::default().bucket("bucket").credential_provider_chain(chain)
/// # }
/// ```
///
/// A chain of reqsign writes the error of a provider to the log (`log::warn!`), and returns an error of its own.
impl ProvideCredential for SharedSession {
    type Credential = Credential;

    async fn provide_credential(&self, _: &Context) -> Result<Option<Credential>> {
        let set = self.provide_credentials().await.map_err(|error| {
            Error::credential_invalid("the session has no credentials").with_source(error)
        })?;
        // The same set, or a newer one. reqsign compares its expiry with the wall clock as it is now.
        let newest = self.snapshot().ok().flatten().filter(SetSnapshot::is_valid);
        let set = newest.map_or(set, |newest| newest.dated());
        Ok(Some(Credential {
            access_key_id: set.access_key_id().to_owned(),
            secret_access_key: set.secret_access_key().to_owned(),
            session_token: set.session_token().map(ToOwned::to_owned),
            expires_in: set
                .expiry()
                .map(|expiry| {
                    // In whole milliseconds: never later than it is.
                    let since = expiry.duration_since(UNIX_EPOCH).unwrap_or_default();
                    Timestamp::from_millisecond(
                        i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
                    )
                })
                .transpose()?,
        }))
    }
}
