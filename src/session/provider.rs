//! The session as a credentials provider of the AWS SDK.

use std::{pin::Pin, sync::Arc};

use aws_credential_types::provider::{
    ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future,
};

use super::{SharedSession, inner::Inner};
use crate::error::{Error, ErrorKind};

/// Ready at once, unless there is nothing valid: then a thread waits, and never the runtime.
impl ProvideCredentials for SharedSession {
    // Always, as `SharedSession::credentials`. And the future is made where it is polled: the set is copied into it, in
    // parts as the clone wrote them, and once more by the SDK.
    #[inline(always)]
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        match self.inner().quick() {
            Some(current) => future::ProvideCredentials::ready(current.credentials()),
            None => future::ProvideCredentials::new(look_up(self.inner())),
        }
    }
}

/// The provider of all clones of a session.
pub(super) fn of(inner: Arc<Inner>) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(FromSegment(inner))
}

/// Not the session itself, which holds the provider.
#[derive(Debug)]
struct FromSegment(Arc<Inner>);

impl ProvideCredentials for FromSegment {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        match self.0.quick() {
            Some(current) => current.provided(),
            None => future::ProvideCredentials::new(look_up(&self.0)),
        }
    }
}

/// A look at the segment, and a wait if necessary.
// In a box of its own: two words. A future by value would be one with that of a quick read, and both go through memory.
#[cold]
fn look_up(
    inner: &Arc<Inner>,
) -> Pin<Box<dyn Future<Output = aws_credential_types::provider::Result> + Send + '_>> {
    Box::pin(async move {
        match inner.at_once() {
            Some(credentials) => Ok(credentials),
            None => wait(inner).await,
        }
    })
}

async fn wait(inner: &Arc<Inner>) -> aws_credential_types::provider::Result {
    let waiter = Arc::clone(inner);
    let waiting = match inner.waiters().join(move || waiter.credentials()) {
        Ok(waiting) => waiting,
        // Without a thread, this cannot wait for a better set. It is no error while the current set is valid.
        Err(error) => {
            let refused = || CredentialsError::provider_error(inner.no_thread(error));
            return inner.unexpired().ok_or_else(refused);
        }
    };
    match waiting.await {
        Ok(answer) => answer.map_err(|error| credentials_error(inner, error)),
        Err(_) => Err(CredentialsError::unhandled("the waiting thread ended without an answer")),
    }
}

fn credentials_error(inner: &Inner, error: Arc<Error>) -> CredentialsError {
    match error.kind() {
        // Lets a chain of providers go on.
        ErrorKind::NoSource => CredentialsError::not_loaded(error),
        ErrorKind::Timeout => CredentialsError::provider_timed_out(inner.wait_timeout()),
        ErrorKind::InvalidInput => CredentialsError::invalid_configuration(error),
        _ => CredentialsError::provider_error(error),
    }
}
