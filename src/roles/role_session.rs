//! The session of one role of a pool.

use std::{fmt, sync::Arc, time::Duration};

use aws_config::{ConfigLoader, SdkConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, future},
};

use crate::{
    error::Error,
    hexadecimal,
    session::{HeldRole, Reader, SetSnapshot, SharedSession, Status},
    source::{Fingerprint, Identity},
};

/// The credentials of one role of a [pool](crate::SharedRoles). It works as a [`SharedSession`] does.
///
/// When the pool is full and the role was used least recently, another role gets its entry. Then this gets an entry again
/// at its next use, and its credentials are fetched again.
#[derive(Clone)]
pub struct RoleSession {
    role: Arc<HeldRole>,
}

impl RoleSession {
    pub(super) fn new(role: Arc<HeldRole>) -> Self {
        RoleSession { role }
    }

    /// The current credentials, as [`SharedSession::credentials`] gives them.
    ///
    /// # Errors
    /// Those of [`SharedSession`], and those of [`SharedRoles::role`](crate::SharedRoles::role) when the role needs an
    /// entry again. [`SourceThrottled`](crate::ErrorKind::SourceThrottled) also when the budget of the pool allows no call
    /// in time; [`Error::retry_after`] tells when it will.
    // As `SharedSession::credentials`.
    #[inline(always)]
    pub fn credentials(&self) -> Result<Credentials, Error> {
        self.role.credentials()
    }

    /// As [`SharedSession::credentials_within`].
    ///
    /// # Errors
    /// Those of [`credentials`](Self::credentials).
    pub fn credentials_within(&self, limit: Duration) -> Result<Credentials, Error> {
        self.role.credentials_within(limit)
    }

    /// A set that is valid for at least `duration`, as [`SharedSession::credentials_valid_for`] gives it.
    ///
    /// # Errors
    /// Those of [`credentials`](Self::credentials), and [`TooShort`](crate::ErrorKind::TooShort).
    pub fn credentials_valid_for(&self, duration: Duration) -> Result<SetSnapshot, Error> {
        self.role.with_session(|session| session.credentials_valid_for(duration))
    }

    /// [`credentials_valid_for`](Self::credentials_valid_for) for async callers. A thread waits in their place.
    ///
    /// # Errors
    /// Those of [`credentials_valid_for`](Self::credentials_valid_for).
    pub async fn credentials_valid_for_async(
        &self,
        duration: Duration,
    ) -> Result<SetSnapshot, Error> {
        let work =
            async |session: SharedSession| session.credentials_valid_for_async(duration).await;
        self.role.with_session_async(work).await
    }

    /// As [`SharedSession::snapshot`].
    ///
    /// # Errors
    /// Those of [`SharedSession::snapshot`].
    pub fn snapshot(&self) -> Result<Option<SetSnapshot>, Error> {
        self.role.with_session(SharedSession::snapshot)
    }

    /// A handle for one thread, as [`SharedSession::reader`] gives it.
    pub fn reader(&self) -> Reader {
        self.role.given().reader()
    }

    /// Waits for a set that is newer than the current one, as [`SharedSession::refresh`] does.
    ///
    /// # Errors
    /// Those of [`SharedSession::refresh`].
    pub fn refresh(&self) -> Result<Credentials, Error> {
        self.role.with_session(SharedSession::refresh)
    }

    /// Says that AWS rejected `access_key_id`, as [`SharedSession::invalidate`] does.
    ///
    /// # Errors
    /// Those of [`SharedSession::invalidate`].
    pub fn invalidate(&self, access_key_id: &str) -> Result<bool, Error> {
        self.role.with_session(|session| session.invalidate(access_key_id))
    }

    /// The state of the role.
    ///
    /// # Errors
    /// Those of [`SharedSession::status`].
    pub fn status(&self) -> Result<Status, Error> {
        self.role.with_session(SharedSession::status)
    }

    /// Whose the credentials are, as [`SharedSession::identity`] tells.
    ///
    /// # Errors
    /// Those of [`SharedSession::identity`].
    pub async fn identity(&self) -> Result<Identity, Error> {
        let work = async |session: SharedSession| session.identity().await;
        self.role.with_session_async(work).await
    }

    /// A configuration for the clients of the AWS SDK, as [`SharedSession::sdk_config`] gives it.
    pub async fn sdk_config(&self) -> SdkConfig {
        self.role.given().sdk_config().await
    }

    /// As [`SharedSession::sdk_config_from`].
    pub async fn sdk_config_from(&self, loader: ConfigLoader) -> SdkConfig {
        self.role.given().sdk_config_from(loader).await
    }

    /// The role as a credentials provider, as [`SharedSession::credentials_provider`] gives it.
    pub fn credentials_provider(&self) -> SharedCredentialsProvider {
        self.role.given().credentials_provider()
    }

    /// Identifies the role in its pool: equal for recipes that give the same credentials. Tells nothing about the inputs.
    pub fn key(&self) -> &Fingerprint {
        self.role.key()
    }
}

impl ProvideCredentials for RoleSession {
    #[inline(always)]
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        self.role.provide()
    }
}

impl fmt::Debug for RoleSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = hexadecimal::text(&self.key()[..4]);
        f.debug_struct("RoleSession").field("key", &key).finish_non_exhaustive()
    }
}
