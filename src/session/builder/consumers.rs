//! What the consumers of a session do with its sets.

use std::time::Duration;

use super::SharedSessionBuilder;
use crate::error::{ErrorKind, Fault};

/// The longest life of any set: nothing is kept for longer.
const LONGEST: Duration = Duration::from_secs(36 * 3600);

impl SharedSessionBuilder {
    /// How long a program keeps a set that it got from this session, whatever its expiry: a library with a cache of its
    /// own, for example. Zero by default; in whole seconds.
    ///
    /// Each set is refreshed at least that long before it expires. So a consumer that keeps a set for this time never signs
    /// with an expired key, as long as a process refreshes in time: [`Refresh::Eager`](crate::Refresh::Eager), or
    /// [`run_refresher`](crate::SharedSession::run_refresher). The
    /// [advisory window](Self::advisory_window) is made longer for that, up to nine twentieths of the life of a set. If
    /// that is not enough, [`Status::consumers_warning`](crate::Status::consumers_warning) says so.
    ///
    /// Decided by the process that creates the session; those that attach find it decided. `docs/LIBRARIES.md` tells what
    /// each library keeps.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use shmcreds::{Provider, Refresh, SharedSession};
    /// let builder = SharedSession::builder("web")
    ///     .source(Provider::default_chain())
    ///     .refresh(Refresh::Eager)
    ///     .consumers_keep(Duration::from_secs(1800));
    /// ```
    pub fn consumers_keep(mut self, time: Duration) -> Self {
        self.consumers_keep = time;
        self
    }

    /// In whole seconds, not less than what was given.
    pub(super) fn seconds_kept(&self) -> Result<u32, Fault> {
        let time = self.consumers_keep;
        if time > LONGEST {
            let text = format!("consumers_keep: is {time:?}; it must be {LONGEST:?} at most");
            return Err(Fault::new(ErrorKind::InvalidInput, text));
        }
        Ok(time.as_millis().div_ceil(1000) as u32)
    }
}
