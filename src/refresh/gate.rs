//! A gate between the election and the source. An elected process passes it before each call of the source. It may delay
//! the call, refuse it, or give a set in place of it.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use crate::{
    clock::Clock,
    segment::FleetNotes,
    source::{Fetched, Source, SourceError},
};

/// A fetch on the thread of the refresh.
pub(crate) type Passing<'a> = Pin<Box<dyn Future<Output = Result<Fetched, SourceError>> + 'a>>;

/// A gate. It is plain data, so it stays valid after `fork`.
pub(crate) trait Gate: fmt::Debug + Send + Sync {
    /// Checks the settings for the source.
    ///
    /// # Errors
    /// A sentence with the setting, the problem of its value, and the rule.
    fn validate(&self, source: &dyn Source) -> Result<(), String>;

    /// How long a passage takes at most, in addition to one call of the source.
    fn delay(&self, source: &dyn Source) -> Duration;

    /// Asks the source, or does without it.
    fn pass<'a>(&'a self, passage: Passage<'a>) -> Passing<'a>;

    /// The gate as JSON, of which another program makes it again; `None` if it has code of this program.
    fn portable(&self) -> Option<serde_json::Value>;
}

/// One passage.
#[cfg_attr(not(feature = "fleet"), allow(dead_code))]
pub(crate) struct Passage<'a> {
    pub(crate) session: &'a str,
    pub(crate) source: &'a dyn Source,
    pub(crate) clock: &'a Clock,
    pub(crate) notes: FleetNotes<'a>,
    /// The newest set: its generation, 0 for none, and its expiry in milliseconds since 1970 by the clock of this host.
    pub(crate) generation: u64,
    pub(crate) expires: u64,
    /// Asks the source once, within its time limit.
    pub(crate) ask: &'a dyn Fn() -> Passing<'a>,
}
