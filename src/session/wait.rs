//! Waiting for a set: an elected process fetches it, and others sleep until it is published. How long: `timing.rs`. Who
//! waits for what: `read.rs`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Inner,
    snapshot::{Phase, SecretRoom, Snapshot},
    timing::{Limit, READER_INTERVAL},
};
use crate::{
    error::{ErrorKind, Fault},
    refresh::{
        backoff::Backoff,
        election::{self, Elected, Outcome},
        election_lock::ElectionGuard,
        fetch::{FetchHandle, Recipe},
        predecessor, wait_for_holder,
    },
    seqlock::Version,
    source::SourceError,
    sys::death_watch,
};

/// What a caller waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    /// A set that has not expired.
    Valid,
    /// A set of a later generation than this, which is valid meanwhile: not for as long as the source is left alone.
    Better(u64),
    /// The same, by a call of this process: not while another one is at it.
    Own(u64),
    /// A set of a later generation than this, because the user wants one.
    After(u64),
    /// The same, because this one is not valid for long enough. Deaths in calls delay it: callers that live shorter than
    /// a call must not make a storm of calls.
    Longer(u64),
}

/// What a wait does with an election that it wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// It asks the source.
    Fetch,
    /// It ends: the program asks the source.
    Term,
}

/// How a wait ends.
pub(super) enum End {
    Set(Arc<Snapshot>),
    /// Only with [`Aim::Term`].
    Elected(Elected),
}

impl End {
    /// The set, of a wait with [`Aim::Fetch`].
    pub(super) fn set(self) -> Arc<Snapshot> {
        match self {
            End::Set(snapshot) => snapshot,
            End::Elected(_) => unreachable!("a wait that fetches ends with a set"),
        }
    }
}

/// A wait that is going on.
struct Wait<'a> {
    inner: &'a Inner,
    need: Need,
    aim: Aim,
    limit: Limit,
    end: Instant,
    /// The newest failure when the wait began: a later one is the one that was waited for.
    failed: Version,
    /// The refresh that this wait started.
    refresh: Option<FetchHandle>,
    /// This wait has looked at the state once.
    looked: bool,
    /// This wait has started one, be it a refresh loop that goes on.
    started: bool,
    /// The call of this wait has to wait for the budget of the pool.
    budgeted: bool,
    /// Where the secrets of the set that is waited for will be.
    room: Option<SecretRoom>,
}

impl Inner {
    /// Waits at most `limit` for a set.
    pub(super) fn wait(&self, need: Need, limit: Limit) -> Result<Arc<Snapshot>, Fault> {
        self.wait_for(need, Aim::Fetch, limit).map(End::set)
    }

    /// Waits at most `limit` for a set, or for the election of this process.
    pub(super) fn wait_for(&self, need: Need, aim: Aim, limit: Limit) -> Result<End, Fault> {
        let (end, failed) = (limit.end(), self.segment.view().failures().version());
        let mut wait = Wait {
            inner: self,
            need,
            aim,
            limit,
            end,
            failed,
            refresh: None,
            looked: false,
            started: false,
            budgeted: false,
            room: None,
        };
        let outcome = wait.run();
        wait.join();
        // Who may have its workers yet to fork has no thread more than before.
        if self.shared.is_creator() {
            death_watch::join_ended();
        }
        outcome
    }
}

impl Wait<'_> {
    fn run(&mut self) -> Result<End, Fault> {
        let view = self.inner.segment.view();
        loop {
            // Before the look at the state: what happens after it ends the sleep.
            let event = view.latest_event();
            if let Some(outcome) = self.outcome()? {
                return outcome.map(End::Set);
            }
            // The caller goes on with the session that has its name now.
            let is_valid = matches!(self.need, Need::Better(_) | Need::Own(_));
            if self.inner.follow(is_valid)? {
                return Err(not_now());
            }
            let left = self.end.saturating_duration_since(Instant::now());
            // A limit of zero is too short to wait, but not to stand for election once.
            if std::mem::replace(&mut self.looked, true) && left.is_zero() {
                return Err(self.give_up());
            }
            let left = self.inner.segment.slice(left);
            self.room = self.room.take().or_else(|| self.inner.room_for_next());
            let pause = self.pause().filter(|_| !self.started);
            if let Some(pause) = pause {
                self.keep_still(event, pause.min(left))?;
                continue;
            }
            match self.guard() {
                Some(guard) => {
                    if let Some(elected) = self.act(guard, event, left)? {
                        return Ok(End::Elected(elected));
                    }
                }
                None if matches!(self.need, Need::Own(_)) && !self.started => return Err(not_now()),
                None if self.started => view.sleep_last(event, left),
                None if self.recipe().is_none() => {
                    self.inner.ask(self.need, true)?;
                    view.sleep(event, left.min(READER_INTERVAL));
                }
                None => view.sleep(event, left),
            }
        }
    }

    /// How this process may refresh in this wait.
    fn recipe(&self) -> Option<&'_ Recipe> {
        match self.aim {
            Aim::Fetch => self.inner.recipe(),
            Aim::Term => self.inner.term_recipe(),
        }
    }

    /// The outcome, if there is one already.
    fn outcome(&mut self) -> Result<Option<Result<Arc<Snapshot>, Fault>>, Fault> {
        let inner = self.inner;
        let now = inner.shared.clock.boot();
        let newest = inner.newest_in(&mut self.room)?;
        let newest = newest.filter(|snapshot| snapshot.life.phase(now) != Phase::Expired);
        let enough = newest.filter(|snapshot| match self.need {
            Need::Valid => true,
            Need::Better(generation)
            | Need::Own(generation)
            | Need::After(generation)
            | Need::Longer(generation) => snapshot.life.version.generation() > generation,
        });
        if let Some(snapshot) = enough {
            return Ok(Some(Ok(snapshot)));
        }
        let failure = Backoff::read(inner.segment.view())
            .filter(|backoff| !backoff.died)
            .filter(|backoff| backoff.version != self.failed || backoff.forbids(now));
        Ok(failure.map(|backoff| {
            let next = backoff.next_attempt_in(now);
            Err(refused(backoff.failure, next))
        }))
    }

    /// How long this process leaves the source alone, because others have died in their calls: no error, and no
    /// reason not to do what the user wants.
    fn pause(&self) -> Option<Duration> {
        self.recipe().filter(|_| !matches!(self.need, Need::After(_)))?;
        let now = self.inner.shared.clock.boot();
        let backoff = Backoff::read(self.inner.segment.view())?;
        (backoff.died && backoff.forbids(now)).then(|| backoff.next_attempt_in(now))
    }

    /// Sleeps for `pause` or until an event. Does not sleep if there is a set that suffices.
    fn keep_still(&self, event: u32, pause: Duration) -> Result<(), Fault> {
        if !matches!(self.need, Need::Valid | Need::Longer(_)) {
            return Err(not_now());
        }
        self.inner.segment.view().sleep(event, self.inner.shared.clock.longest_sleep(pause));
        Ok(())
    }

    /// The election lock, where this process has a source.
    fn guard(&self) -> Option<ElectionGuard> {
        self.recipe()?;
        self.inner.shared.election_lock.try_lock_or_notify(&self.inner.segment)
    }

    /// Stands for election. If elected, fetches, or returns the election to a program that asks the source itself.
    /// Else sleeps while another process is elected.
    fn act(
        &mut self,
        guard: ElectionGuard,
        event: u32,
        left: Duration,
    ) -> Result<Option<Elected>, Fault> {
        let inner = self.inner;
        let Some(recipe) = self.recipe().cloned() else { return Ok(None) };
        let (now, writable) = (inner.shared.clock.boot(), inner.segment.writable()?);
        match election::stand(guard, writable, now, recipe.lease())? {
            Outcome::Held(..) if matches!(self.need, Need::Own(_)) => Err(not_now()),
            Outcome::Held(..) if left.is_zero() => Ok(None),
            Outcome::Held(guard, holder) => {
                wait_for_holder::sleep(&inner.segment, &guard, holder, now, event, left)?;
                Ok(None)
            }
            // Another process may have done it between the look and the election.
            Outcome::Won(elected) if self.outcome()?.is_some() || inner.was_taken() => {
                elected.resign();
                Ok(None)
            }
            Outcome::Won(mut elected) => {
                self.join();
                let job = inner.job(&recipe);
                predecessor::complete(&mut elected, &job);
                if self.pause().is_some() {
                    elected.resign();
                    return Ok(None);
                }
                if self.aim == Aim::Term {
                    return Ok(Some(elected));
                }
                let (elected, job) = inner.reserve(elected, job, left)??;
                self.budgeted = job.not_before > 0;
                let left = self.end.saturating_duration_since(Instant::now());
                self.refresh = inner.start_waited_for(elected, &recipe, job, left)?;
                self.started = true;
                Ok(None)
            }
        }
    }

    /// Ends the wait without a set; another of those who wait takes its place.
    fn give_up(&self) -> Fault {
        // A program that waits in short slices would wake all processes each time. The guard of the election lock has
        // woken the threads of this process that wait for this one.
        if !self.limit.of_call && !self.inner.segment.is_foreign() {
            self.inner.segment.announce();
        }
        if let Some(fault) = self.inner.budget_fault(self.budgeted) {
            return fault;
        }
        let limit = self.limit.given;
        let what = match self.need {
            Need::Valid => "no valid credentials",
            Need::Better(_) | Need::Own(_) | Need::After(_) | Need::Longer(_) => {
                "no newer credentials"
            }
        };
        let (kind, why) = if self.recipe().is_some() {
            (ErrorKind::Timeout, "")
        } else if self.inner.is_served() {
            (ErrorKind::Timeout, ", by the refresher of the pool")
        } else if self.inner.may_write() {
            let why = ", and the program asks this session's source itself: call elect()";
            (ErrorKind::NoSource, why)
        } else if self.inner.segment.is_foreign() {
            (ErrorKind::NoSource, ", and only processes of the session's owner may ask the source")
        } else if self.inner.segment.header.sealed {
            (ErrorKind::NoSource, ", and of a sealed session only its refresher may ask the source")
        } else {
            let why = ", and this process has no source to ask; attach with a source, or keep the \
                       processes alive that have one";
            (ErrorKind::NoSource, why)
        };
        Fault::new(kind, format!("{what} within {limit:?}{why}"))
    }

    /// Leaves no thread behind, apart from one whose source does not answer: that goes on without its caller.
    fn join(&mut self) {
        if let Some(refresh) = self.refresh.take() {
            refresh.join();
        }
    }
}

/// The end of a wait while there is a valid set, which suffices.
fn not_now() -> Fault {
    Fault::new(ErrorKind::Timeout, "no newer credentials can be had now")
}

fn refused(failure: SourceError, next: Duration) -> Fault {
    let kind = failure.kind();
    let next = Duration::from_millis(u64::try_from(next.as_millis()).unwrap_or(u64::MAX));
    let text = format!("the source failed: {failure}; next attempt in {next:?} at the earliest");
    Fault::new(kind, text).retry_after(next).caused_by(failure)
}
