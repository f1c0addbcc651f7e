//! A role of a pool: its key, and its base credentials, which are those of the pool.

use std::{sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::{AssumeRole, Base, Inputs, fingerprint};
use crate::source::{Fingerprint, Source, to_json};

/// The longest call that a process may ask of the refresher of a pool.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// The part of the environment that counts for the key of a role without a Region or an endpoint.
pub(crate) fn environment() -> Fingerprint {
    fingerprint::of_environment()
}

impl AssumeRole {
    /// The ARN of the role.
    pub(crate) fn arn(&self) -> &str {
        &self.inputs.role_arn
    }

    /// Whether a pool can have the role: its inputs alone tell whose the credentials are.
    pub(crate) fn is_of_inputs_only(&self) -> bool {
        self.mfa.is_none() && self.settings.is_none() && matches!(self.base, Base::DefaultChain)
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

    /// Checks that the refresher of a pool can be asked for the role. A process that asks chooses whose credentials it gets,
    /// and not by which way: another process gets the same set.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn check_asking(&self) -> Result<(), String> {
        let inputs = &self.inputs;
        let (field, variable) = match (&inputs.ca_bundle, &inputs.proxy) {
            (Some(_), _) => ("ca_bundle", "AWS_CA_BUNDLE"),
            (None, Some(_)) => ("proxy", "HTTPS_PROXY"),
            (None, None) if inputs.operation_timeout > LONGEST_ASKED => {
                let (timeout, limit) = (inputs.operation_timeout, LONGEST_ASKED);
                return Err(format!(
                    "operation_timeout is {timeout:?}, must be at most {limit:?} in a pool with a refresher"
                ));
            }
            (None, None) => return Ok(()),
        };
        Err(format!(
            "{field}: the refresher of the pool makes the calls, for all processes; leave it out, and set {variable} \
             where the pool is created"
        ))
    }

    /// The inputs, for the refresher of the pool.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn asked(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        self.check_asking().and_then(|()| to_json(&self.inputs))
    }

    /// The role of [`asked`](Self::asked). `None` for anything else.
    pub(crate) fn of_asked(text: &[u8]) -> Option<Self> {
        let inputs: Inputs = serde_json::from_slice(text).ok()?;
        Some(AssumeRole { inputs, ..AssumeRole::new("") })
    }

    /// The same role with the base source of its pool.
    pub(crate) fn of_pool(self, base: Arc<dyn Source>) -> Self {
        AssumeRole { base: Base::Source(base), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_refresher_cannot_do_for_others_is_named() {
        let role = || AssumeRole::new("arn:aws:iam::123456789012:role/app");
        let minute = Duration::from_secs(60);
        for asked in [role(), role().operation_timeout(minute)] {
            assert_eq!(asked.check_asking(), Ok(()));
        }
        let longer = role().operation_timeout(minute + Duration::from_nanos(1));
        for (refused, says) in [
            (longer, "operation_timeout is 60.000000001s, must be at most 60s"),
            (role().ca_bundle("/ca.pem"), "ca_bundle: the refresher of the pool"),
            (role().proxy("http://proxy"), "proxy: the refresher of the pool"),
        ] {
            let problem = refused.check_asking().unwrap_err();
            assert!(problem.starts_with(says), "{problem}");
            assert!(refused.asked().is_err(), "{problem}");
        }
    }
}
