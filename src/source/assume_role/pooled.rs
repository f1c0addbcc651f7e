//! A role of a pool: its key, and its base credentials, which are those of the pool.

use std::sync::Arc;

use super::{AssumeRole, Base, fingerprint};
use crate::source::{Fingerprint, Source};

/// The part of the environment that counts for the key of a role without a Region or an endpoint.
pub(crate) fn environment() -> Fingerprint {
    fingerprint::of_environment()
}

impl AssumeRole {
    /// The ARN of the role.
    pub(crate) fn arn(&self) -> &str {
        &self.inputs.role_arn
    }

    /// Identifies all that can change what STS answers, and who asks. `base` is the fingerprint of the pool's base source,
    /// `environment` that of [`environment`].
    ///
    /// # Errors
    /// A sentence, for what processes cannot share by a key.
    pub(crate) fn pool_key(
        &self,
        base: &Fingerprint,
        environment: &Fingerprint,
    ) -> Result<Fingerprint, String> {
        if self.mfa.is_some() {
            return Err(
                "mfa: a code works once, so no pool can have such a role; use a session".into()
            );
        }
        if !matches!(self.base, Base::DefaultChain) {
            let text = "base_source: all roles of a pool have the base source of the pool; leave it out, or make \
                        another pool";
            return Err(text.into());
        }
        Ok(fingerprint::of_inputs(&self.inputs, base, environment))
    }

    /// The same role with the base source of its pool.
    pub(crate) fn of_pool(self, base: Arc<dyn Source>) -> Self {
        AssumeRole { base: Base::Source(base), ..self }
    }
}
