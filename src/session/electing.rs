//! Elections of the program's own: it makes the call of the source itself.

use std::{sync::Arc, time::Duration};

use super::{
    SharedSession,
    inner::Inner,
    look::SetSnapshot,
    snapshot::Phase,
    term::Term,
    timing::Limit,
    wait::{Aim, End, Need},
};
use crate::{
    error::{Error, Fault},
    refresh::{election::Elected, term_call::TermCall},
};

/// What [`SharedSession::elect`] gives: a term, or a set that needs no call now.
// Exhaustive: a caller that handles both handles everything, and a third outcome would be a change of the contract.
#[derive(Debug)]
#[must_use]
pub enum Election {
    /// This process is elected. It makes the call, and publishes the outcome.
    Elected(Term),
    /// There is a valid set. It is fresh, or another process replaces it, or the back-off forbids a call now.
    Valid(SetSnapshot),
}

impl SharedSession {
    /// Elects this process for one call of the source, if a call is needed. [`credentials`](Self::credentials) does the
    /// same and then makes the call. Here the program makes the call itself, with the [`Term`] that it gets.
    ///
    /// It is for a source that is synchronous, belongs to a thread, or is written in another language.
    /// [`ManualSource`](crate::ManualSource) has an example. A session with any other source can use it, too.
    ///
    /// | the set | this process gets |
    /// | --- | --- |
    /// | is fresh | [`Valid`](Election::Valid) |
    /// | is due, and no process is elected | [`Elected`](Election::Elected) |
    /// | is due, and another process is elected, or the back-off forbids a call | `Valid`. In the mandatory window it waits for the other process, once for each set, at most 1 s |
    /// | was rejected | as "is due". It waits for the other process at most for the wait timeout |
    /// | has expired, or there is none | `Elected`; or it waits for the process that is, and gets `Valid` or its failure |
    ///
    /// A process looks for an elected one every 50 ms at most while a set is valid. In between it gets `Valid`.
    ///
    /// In an eager session the refresher is always elected, so this gives the refresher's sets. If the refresher has died,
    /// this gives a term for one call. A process without a source is never elected, nor is a worker of a sealed session,
    /// which cannot write. Such a process waits as `credentials` does.
    ///
    /// It blocks the thread. A program that must look at something else meanwhile uses
    /// [`elect_within`](Self::elect_within).
    ///
    /// # Errors
    /// See [`SharedSession`].
    pub fn elect(&self) -> Result<Election, Error> {
        self.elect_by(self.inner.limit())
    }

    /// As [`elect`](Self::elect), but waits at most `limit`. Each call that waits stands for election anew, so a caller may
    /// wait in short slices. With a limit of zero it never waits: it is elected now or not.
    ///
    /// # Errors
    /// See [`SharedSession`]. [`Timeout`](crate::ErrorKind::Timeout) names `limit`; in a process without a source it is
    /// [`NoSource`](crate::ErrorKind::NoSource).
    pub fn elect_within(&self, limit: Duration) -> Result<Election, Error> {
        self.elect_by(Limit::of_call(limit))
    }

    /// Elects this process for a set that is newer than `generation`, also if that one is still fresh. It is
    /// [`refresh`](Self::refresh) for a program that makes the call itself. `Valid` is a newer set, which another process
    /// has published. Waits at most `limit`.
    ///
    /// # Errors
    /// See [`SharedSession`]; the set that was there stays.
    pub fn elect_after(&self, generation: u64, limit: Duration) -> Result<Election, Error> {
        let limit = Limit::of_call(limit);
        let work = |inner: &Arc<Inner>| {
            inner.requests()?.request_refresh(generation);
            let end = inner.wait_for(Need::After(generation), Aim::Term, limit)?;
            Ok(inner.election(end))
        };
        self.inner.on_latest(work).map_err(|fault| self.inner.fault("elect", fault))
    }

    fn elect_by(&self, limit: Limit) -> Result<Election, Error> {
        self.inner
            .on_latest(|inner| Ok(inner.election(inner.stand(limit)?)))
            .map_err(|fault| self.inner.fault("elect", fault))
    }
}

impl Inner {
    /// A valid set, or the election of this process.
    pub(super) fn stand(&self, limit: Limit) -> Result<End, Fault> {
        let now = self.shared.clock.boot();
        let valid = self.newest()?.filter(|set| set.life.phase(now) != Phase::Expired);
        let Some(set) = valid else { return self.wait_for(Need::Valid, Aim::Term, limit) };
        let will_do = match set.life.phase(now) {
            Phase::Fresh => true,
            Phase::Mandatory if set.life.is_rejected_too_soon(now) => true,
            Phase::Mandatory if !self.was_waited_for(&set) => false,
            _ => !self.is_probe_due(now),
        };
        if will_do {
            return Ok(End::Set(set));
        }
        self.wait_for_newer(set, Aim::Term, limit)
    }

    pub(super) fn election(self: &Arc<Self>, end: End) -> Election {
        match end {
            End::Set(set) => Election::Valid(self.seen_now(set)),
            End::Elected(elected) => Election::Elected(self.term(elected)),
        }
    }

    fn term(self: &Arc<Self>, elected: Elected) -> Term {
        let Some(recipe) = self.term_recipe() else {
            unreachable!("only a process with a source is elected")
        };
        Term::new(Arc::clone(self), TermCall::begin(elected, self.job(recipe)))
    }
}
