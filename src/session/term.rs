//! A term: this process makes the next call of the source.

use std::{fmt, sync::Arc, time::Duration};

use super::{inner::Inner, look::SetSnapshot};
use crate::{
    error::{Error, ErrorKind, Fault},
    refresh::term_call::TermCall,
    source::{Fetched, SourceError},
};

/// This process is elected: it makes the next call of the source, and tells all processes the outcome. Given by
/// [`SharedSession::elect`](crate::SharedSession::elect).
///
/// | what happens | what others see |
/// | --- | --- |
/// | [`publish`](Self::publish) | the new set, at once |
/// | [`fail`](Self::fail) | the failure, at once; nobody asks the source again while its back-off lasts |
/// | the term is dropped without either | a transient failure: the call ended without an answer |
/// | the process dies | another process is elected at once. Deaths in a call have a back-off of their own |
/// | the process is stopped, or takes longer than the [lease](Self::lease_left) | another process is elected when the lease is over. This one publishes nothing any more |
///
/// A term may be moved to another thread of its process. It belongs to its process only: in a forked child the copy does
/// nothing. Other threads of the process wait while there is a term. So do not wait for credentials of the same session
/// before the term has ended.
#[must_use = "a term that is dropped is a failure of the source for all processes"]
pub struct Term {
    inner: Arc<Inner>,
    call: TermCall,
}

impl Term {
    pub(super) fn new(inner: Arc<Inner>, call: TermCall) -> Self {
        Term { inner, call }
    }

    /// The generation of the set that the call is to replace; 0 when there is none.
    pub fn generation(&self) -> u64 {
        self.call.generation()
    }

    /// How long the term lasts: the time-out of the source and 5 s, from its begin. Zero in a forked child.
    pub fn lease_left(&self) -> Duration {
        let now = self.inner.shared.clock.boot();
        Duration::from_nanos(self.call.lease_end().saturating_sub(now))
    }

    /// Publishes a new set for all processes: an SDK `Credentials` with an expiry, or a [`Fetched`] that also has the time
    /// of the server. Returns the set as all processes have it now.
    ///
    /// # Errors
    /// [`TermOver`](ErrorKind::TermOver): nothing was published, and another process may have made the call.
    /// [`SourceTransient`](ErrorKind::SourceTransient), [`SourceTerminal`](ErrorKind::SourceTerminal) or
    /// [`SourceMisconfigured`](ErrorKind::SourceMisconfigured): the set is incomplete, too long, expired or has no
    /// expiry. All processes were told that as a failure.
    pub fn publish(self, set: impl Into<Fetched>) -> Result<SetSnapshot, Error> {
        let Term { inner, call } = self;
        call.publish(set.into())
            .and_then(|()| inner.look()?.ok_or_else(damaged))
            .map_err(|fault| inner.fault("publish", fault))
    }

    /// Publishes a failure: each process that waits gets it as its error, and all processes leave the source alone while
    /// its back-off lasts.
    ///
    /// # Errors
    /// [`TermOver`](ErrorKind::TermOver): nothing was published. [`System`](ErrorKind::System) when the segment cannot be
    /// written.
    pub fn fail(self, failure: SourceError) -> Result<(), Error> {
        let Term { inner, call } = self;
        call.fail(&failure).map_err(|fault| inner.fault("fail", fault))
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Term")
            .field("session", &self.inner.shared.name.as_str())
            .field("generation", &self.generation())
            .field("lease_left", &self.lease_left())
            .finish_non_exhaustive()
    }
}

fn damaged() -> Fault {
    Fault::new(ErrorKind::BadChecksum, "the set was published, and then damaged in the segment")
}
