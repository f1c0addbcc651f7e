//! What the policy needs of a source.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceErrorClass {
    Terminal,
    Transient,
    Throttled,
    Misconfigured,
}

use SourceErrorClass::{Misconfigured, Terminal, Throttled, Transient};

impl SourceErrorClass {
    pub(crate) const ALL: [Self; 4] = [Terminal, Transient, Throttled, Misconfigured];
}

impl fmt::Display for SourceErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
