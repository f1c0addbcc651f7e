//! The session as a `CredentialProvider` of object_store, which DataFusion, delta-rs and Polars use.

use std::sync::Arc;

use async_trait::async_trait;
use aws_credential_types::provider::ProvideCredentials;
use object_store::{Error, Result, aws::AwsCredential, client::CredentialProvider};

use crate::session::SharedSession;

/// With the feature `object-store`. object_store asks for each request and keeps nothing, so each request is signed with
/// the newest set.
///
/// ```
/// # fn example(session: shmcreds::SharedSession) -> object_store::Result<()> {
/// use std::sync::Arc;
///
/// use object_store::aws::AmazonS3Builder;
///
/// let s3 = AmazonS3Builder::new()
///     .with_bucket_name("bucket")
///     .with_region("eu-west-1")
///     .with_credentials(Arc::new(session))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[async_trait]
impl CredentialProvider for SharedSession {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let set = self.provide_credentials().await.map_err(|error| Error::Unauthenticated {
            path: format!("the credentials of session {}", self.name()),
            source: error.into(),
        })?;
        Ok(Arc::new(AwsCredential {
            key_id: set.access_key_id().to_owned(),
            secret_key: set.secret_access_key().to_owned(),
            token: set.session_token().map(ToOwned::to_owned),
        }))
    }
}
