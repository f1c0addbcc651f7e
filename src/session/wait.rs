//! Waiting for a set: by fetching it, if elected, and else by sleeping until somebody has.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Inner,
    snapshot::{Phase, Snapshot},
};
use crate::{
    error::{ErrorKind, Fault},
    refresh::{
        beside,
        desk::Seat,
        election::{self, Outcome},
        refresher::Underway,
        standing::StandingFailure,
    },
    seqlock::Version,
    source::Failure,
    sys::watch,
};

/// How often a process without a source looks: it has no seat, watches nobody, and a refresher that dies
/// between publishing and waking tells it nothing.
const LOOK: Duration = Duration::from_secs(1);

/// What a caller waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Need {
    /// A set that has not expired.
    Valid,
    /// A set of a later generation than this.
    After(u64),
}

/// A wait that is going on.
struct Wait<'a> {
    inner: &'a Inner,
    need: Need,
    end: Instant,
    /// The newest failure when the wait began: a later one is the one that was waited for.
    failed: Version,
    /// The refresh that this wait started.
    refresh: Option<Underway>,
}

impl Inner {
    /// Waits at most `limit` for what is needed.
    pub(super) fn wait(&self, need: Need, limit: Duration) -> Result<Arc<Snapshot>, Fault> {
        let now = Instant::now();
        // A limit beyond what the clock can count is none.
        let end = now.checked_add(limit).unwrap_or(now + Duration::from_secs(u32::MAX.into()));
        let failed = self.segment.view().failures().version();
        let mut wait = Wait { inner: self, need, end, failed, refresh: None };
        let outcome = wait.run();
        wait.join();
        // Who may have its workers yet to fork has no thread more than before.
        if self.home.is_creator() {
            watch::join_ending();
        }
        outcome
    }
}

impl Wait<'_> {
    fn run(&mut self) -> Result<Arc<Snapshot>, Fault> {
        let view = self.inner.segment.view();
        loop {
            // Before the look at the state: what happens after it ends the sleep.
            let event = view.latest_event();
            if let Some(outcome) = self.settled()? {
                return outcome;
            }
            let left = self.end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.give_up());
            }
            match self.seat() {
                Some(seat) => self.act(seat, event, left)?,
                None if self.refresh.is_some() => view.sleep_last(event, left),
                None if self.inner.recipe().is_none() => view.sleep(event, left.min(LOOK)),
                None => view.sleep(event, left),
            }
        }
    }

    /// The outcome, if there is one already.
    fn settled(&self) -> Result<Option<Result<Arc<Snapshot>, Fault>>, Fault> {
        let inner = self.inner;
        let now = inner.home.clock.boot();
        let newest = inner.newest()?.filter(|snapshot| snapshot.life.phase(now) != Phase::Expired);
        let enough = newest.filter(|snapshot| match self.need {
            Need::Valid => true,
            Need::After(generation) => snapshot.life.version.generation() > generation,
        });
        if let Some(snapshot) = enough {
            return Ok(Some(Ok(snapshot)));
        }
        let failure = StandingFailure::read(inner.segment.view())
            .filter(|standing| standing.version != self.failed || standing.forbids(now));
        Ok(failure.map(|standing| {
            let next = standing.next_attempt_in(now);
            Err(refused(standing.failure, next))
        }))
    }

    /// The seat, where this process has a source.
    fn seat(&self) -> Option<Seat> {
        self.inner.recipe()?;
        self.inner.home.desk.sit_or_want(&self.inner.segment)
    }

    /// Stands for election; fetches if elected, else sleeps beside the one who is.
    fn act(&mut self, seat: Seat, event: u32, left: Duration) -> Result<(), Fault> {
        let inner = self.inner;
        let Some(recipe) = inner.recipe() else { return Ok(()) };
        let (now, writable) = (inner.home.clock.boot(), inner.segment.writable()?);
        match election::stand(seat, writable, now, recipe.lease())? {
            Outcome::Held(seat, holder) => {
                beside::sleep(&inner.segment, &seat, holder, now, event, left)
            }
            // Somebody may have settled it between the look and the election.
            Outcome::Won(elected) if self.settled()?.is_some() => {
                elected.resign();
                Ok(())
            }
            Outcome::Won(elected) => {
                self.join();
                self.refresh = inner.start(elected, recipe)?;
                Ok(())
            }
        }
    }

    /// Ends the wait without a set; another of those who wait takes its place.
    fn give_up(&self) -> Fault {
        self.inner.segment.announce();
        let limit = self.inner.home.deadline;
        let what = match self.need {
            Need::Valid => "no valid credentials",
            Need::After(_) => "no newer credentials",
        };
        let (kind, why) = if self.inner.recipe().is_some() {
            (ErrorKind::Timeout, "")
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

fn refused(failure: Failure, next: Duration) -> Fault {
    let kind = failure.class().into();
    let next = Duration::from_millis(u64::try_from(next.as_millis()).unwrap_or(u64::MAX));
    let text = format!("the source failed: {failure}; next attempt in {next:?} at the earliest");
    Fault::new(kind, text).caused_by(failure)
}
