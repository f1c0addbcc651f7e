//! What the text in the header of a pool means.

use crate::error::Fault;

/// The rules in the text of a pool's header. The layer above knows the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The rate of calls.
    pub(crate) rate: fn(&str) -> Option<u32>,
    /// Checks the ARN of a role.
    pub(crate) check: fn(&str, &str) -> Result<(), Fault>,
}
