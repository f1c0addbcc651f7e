//! The identity that a source has before it has a set: that which assumes its role.

use super::{Fetching, profile::Explicit};

/// Who asks another service of AWS for the source, and by which settings.
#[derive(Default)]
#[doc(hidden)]
pub struct BaseIdentity<'a> {
    /// Without them, those of the environment.
    pub(super) credentials: Option<Fetching<'a>>,
    pub(super) profile: Option<&'a str>,
    pub(super) explicit: Explicit<'a>,
}
