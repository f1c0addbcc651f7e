//! A set as texts for people show it: never with a secret, nor with the whole id of its key.

use std::fmt;

use aws_credential_types::Credentials;

/// The last four characters of an access key id: enough to compare it with another one.
pub(crate) fn tail(key: &str) -> String {
    let skip = key.chars().count().saturating_sub(4);
    key.chars().skip(skip).collect()
}

/// The `Debug` of a set, in place of the one that `Credentials` has.
pub(super) struct ShownSet<'a>(pub(super) &'a Credentials);

impl fmt::Debug for ShownSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_tail", &tail(self.0.access_key_id()))
            .field("expiry", &self.0.expiry())
            .finish_non_exhaustive()
    }
}
