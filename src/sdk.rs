//! The session as a credentials provider of the AWS SDK.

mod rejection;

use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig, identity::IdentityCache};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};

use crate::{error::Error, session::SharedSession, source::Identity};

impl SharedSession {
    /// A configuration for every client of the AWS SDK: Region and the rest from the environment as
    /// usual, credentials from the segment on every request (the SDK's own cache is off, so that the
    /// next request sees a rotation).
    ///
    /// When AWS answers that the token has expired or is invalid (`ExpiredToken`,
    /// `ExpiredTokenException`, `InvalidToken`), the key that signed is
    /// [invalidated](Self::invalidate), and the SDK's own retry signs with the next one. This is the
    /// work of the configuration's HTTP client: one that you put in its place does not do it.
    ///
    /// ```
    /// # async fn example(session: shmcreds::SharedSession) {
    /// let s3 = aws_sdk_s3::Client::new(&session.sdk_config().await);
    /// # }
    /// ```
    pub async fn sdk_config(&self) -> SdkConfig {
        self.sdk_config_from(aws_config::defaults(BehaviorVersion::latest())).await
    }

    /// The same from a loader of the program's own: with its Region, retries, time-outs or endpoints.
    /// Credentials and identity cache are the session's.
    ///
    /// ```
    /// # async fn example(session: shmcreds::SharedSession) {
    /// use aws_config::{BehaviorVersion, Region};
    ///
    /// let loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new("eu-central-1"));
    /// let s3 = aws_sdk_s3::Client::new(&session.sdk_config_from(loader).await);
    /// # }
    /// ```
    pub async fn sdk_config_from(&self, loader: ConfigLoader) -> SdkConfig {
        let config = loader
            .identity_cache(IdentityCache::no_cache())
            .credentials_provider(self.provider().clone())
            .load()
            .await;
        let client = rejection::listening(self.inner(), config.http_client());
        config.into_builder().http_client(client).build()
    }

    /// The session as a credentials provider, for a client that is configured without
    /// [`sdk_config`](Self::sdk_config). All clones of a session give one and the same: each other one would be a
    /// partition of its own in an identity cache.
    ///
    /// Switch the SDK's own cache off, so that a rotation is seen at the next request:
    ///
    /// ```
    /// # fn example(session: shmcreds::SharedSession) {
    /// use aws_sdk_s3::config::{BehaviorVersion, IdentityCache, Region};
    ///
    /// let config = aws_sdk_s3::Config::builder()
    ///     .behavior_version(BehaviorVersion::latest())
    ///     .region(Region::new("eu-central-1"))
    ///     .credentials_provider(session.credentials_provider())
    ///     .identity_cache(IdentityCache::no_cache())
    ///     .build();
    /// # }
    /// ```
    pub fn credentials_provider(&self) -> SharedCredentialsProvider {
        self.provider().clone()
    }
}

impl SharedSession {
    /// Whose the shared credentials are: `sts:GetCallerIdentity`, signed with them, at the STS of the
    /// session's source, or that of the environment in a process without it.
    ///
    /// ```
    /// # async fn example(session: shmcreds::SharedSession) -> Result<(), shmcreds::Error> {
    /// println!("workers are {}", session.identity().await?.arn);
    /// println!("on behalf of {}", session.source_identity().await?.arn);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`SharedSession`], and STS's refusals under the same kinds.
    pub async fn identity(&self) -> Result<Identity, Error> {
        let inner = self.inner();
        let credentials = match inner.at_once() {
            Some(credentials) => credentials,
            None => self.provide_credentials().await.map_err(|error| inner.unidentified(error))?,
        };
        inner.identify(Some(credentials)).await
    }

    /// Who fetches them: the identity that assumes the role, for a role; for other sources the one that
    /// they give sets of. Asks the source's own credentials of their source.
    ///
    /// # Errors
    /// [`NoSource`](crate::ErrorKind::NoSource) in a process that has none, and those of
    /// [`identity`](Self::identity).
    pub async fn source_identity(&self) -> Result<Identity, Error> {
        self.inner().identify(None).await
    }
}
