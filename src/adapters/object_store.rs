//! The session as a `CredentialProvider` of object_store, which DataFusion, delta-rs and Polars use. Each version of
//! object_store has a trait of its own.

use std::sync::Arc;

use async_trait::async_trait;
use aws_credential_types::{Credentials, provider::ProvideCredentials};

use crate::session::SharedSession;

impl SharedSession {
    /// The newest set, or an error with what it was asked for.
    async fn set_for_store(&self) -> Result<Credentials, Refused> {
        self.provide_credentials().await.map_err(|error| Refused {
            path: format!("the credentials of session {}", self.name()),
            source: error.into(),
        })
    }
}

/// The fields of `Unauthenticated`, an error of each version.
struct Refused {
    path: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// The provider for one version of object_store.
macro_rules! provide {
    ($object_store:ident, $(#[$text:meta])*) => {
        $(#[$text])*
        #[async_trait]
        impl $object_store::client::CredentialProvider for SharedSession {
            type Credential = $object_store::aws::AwsCredential;

            async fn get_credential(&self) -> $object_store::Result<Arc<Self::Credential>> {
                let set = self.set_for_store().await.map_err(|Refused { path, source }| {
                    $object_store::Error::Unauthenticated { path, source }
                })?;
                Ok(Arc::new(Self::Credential {
                    key_id: set.access_key_id().to_owned(),
                    secret_key: set.secret_access_key().to_owned(),
                    token: set.session_token().map(ToOwned::to_owned),
                }))
            }
        }
    };
}

#[cfg(feature = "object-store")]
provide! {
    object_store,
    /// With the feature `object-store`. object_store asks for each request and keeps nothing, so each request is signed
    /// with the newest set.
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
}

#[cfg(feature = "object-store-0-13")]
provide! {
    object_store_0_13,
    /// With the feature `object-store-0-13`, for libraries that use this version: DataFusion 55, delta-rs 1.1.
}
