//! Whose the credentials are.

use std::sync::Arc;

use aws_credential_types::{Credentials, provider::error::CredentialsError};

use super::inner::Inner;
use crate::{
    error::{Error, ErrorKind, Fault},
    source::{self, Identity},
};

impl Inner {
    /// Asks STS whose `credentials` these are; without any, who the source is.
    pub(crate) async fn identify(
        &self,
        credentials: Option<Credentials>,
    ) -> Result<Identity, Error> {
        let operation = if credentials.is_some() { "identity" } else { "source_identity" };
        let answer = match (&self.shared.recipe, credentials) {
            (Some(recipe), credentials) => recipe.source.identify(credentials).await,
            (None, Some(credentials)) => source::identity_by_environment(credentials).await,
            (None, None) => {
                let fault = Fault::new(ErrorKind::NoSource, "this process has no source to ask");
                return Err(self.fault(operation, fault));
            }
        };
        answer.map_err(|failure| {
            let fault = Fault::new(failure.kind(), failure.to_string());
            self.fault(operation, fault.caused_by(failure))
        })
    }

    /// The error of a wait for credentials, as one of asking whose they are.
    pub(crate) fn unidentified(&self, error: CredentialsError) -> Error {
        let cause = std::error::Error::source(&error);
        let own = cause.and_then(|cause| cause.downcast_ref::<Arc<Error>>());
        let kind = own.map_or(ErrorKind::Timeout, |own| own.kind());
        let text = own.map_or_else(|| error.to_string(), ToString::to_string);
        self.fault("identity", Fault::new(kind, text).caused_by(error))
    }
}
