//! Waiting for a set: by fetching it, if elected, and else by sleeping until somebody has.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Inner,
    snapshot::{Phase, Snapshot},
};
use crate::{
    error::{ErrorKind, Fault},
    refresh::{
        desk::Seat,
        election::{self, Holder, Outcome},
        publish, refresher,
    },
    segment::{
        View,
        record::{FailureRecord, Words},
    },
    seqlock::Version,
    source::{Failure, FailureClass},
    sys::watch::Watch,
};

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
    refresh: Option<JoinHandle<()>>,
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
        if outcome.as_ref().is_err_and(|fault| fault.kind != ErrorKind::Timeout) || outcome.is_ok()
        {
            wait.join();
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
                Some(seat) => {
                    // Whoever sleeps for this seat must not sleep on when it becomes free.
                    self.act(seat, event, left).inspect_err(|_| self.tell())?;
                }
                None => view.sleep(event, left),
            }
        }
    }

    /// The outcome, if there is one already.
    fn settled(&self) -> Result<Option<Result<Arc<Snapshot>, Fault>>, Fault> {
        let inner = self.inner;
        let now = inner.home.clock.boot();
        let newest = inner.newest()?.filter(|snapshot| match self.need {
            Need::Valid => snapshot.phase(now) != Phase::Expired,
            Need::After(generation) => {
                snapshot.version.generation() > generation && snapshot.phase(now) != Phase::Expired
            }
        });
        if let Some(snapshot) = newest {
            return Ok(Some(Ok(snapshot)));
        }
        let view = inner.segment.view();
        let failure = read_failure(view, |record, version| {
            version != self.failed || now < record.next_attempt_boot
        });
        Ok(failure.map(|(failure, next)| Err(refused(failure, next.saturating_sub(now)))))
    }

    /// The seat, where this process has a source.
    fn seat(&self) -> Option<Seat> {
        self.inner.home.recipe.as_ref()?;
        self.inner.home.desk.sit_or_want()
    }

    /// Stands for election; fetches if elected, else sleeps beside the one who is.
    fn act(&mut self, seat: Seat, event: u32, left: Duration) -> Result<(), Fault> {
        let inner = self.inner;
        let Some(recipe) = &inner.home.recipe else { return Ok(()) };
        let (now, writable) = (inner.home.clock.boot(), inner.segment.writable()?);
        match election::stand(seat, writable, now, recipe.lease())? {
            Outcome::Held(seat, holder) => {
                let watched = self.sleep_beside(&seat, holder, now, event, left);
                if seat.leave() {
                    self.tell();
                }
                watched
            }
            // Somebody may have settled it between the look and the election.
            Outcome::Won(elected) if self.settled()?.is_some() => {
                elected.resign();
                Ok(())
            }
            Outcome::Won(elected) => {
                self.join();
                let (name, clock) = (inner.home.name.as_str(), &inner.home.clock);
                self.refresh = Some(refresher::start(elected, name, recipe, clock)?);
                Ok(())
            }
        }
    }

    /// Sleeps until something happens. The holder's death and the end of its lease do not announce
    /// themselves: a watch does it for them.
    fn sleep_beside(
        &self,
        seat: &Seat,
        holder: Holder,
        now: u64,
        event: u32,
        left: Duration,
    ) -> Result<(), Fault> {
        let segment = Arc::clone(&self.inner.segment);
        let view = segment.view();
        let lease = Duration::from_nanos(holder.lease_end.saturating_sub(now));
        let still =
            || matches!(election::holder(view, seat.locks(), now), Ok(Some(h)) if h == holder);
        let teller = Arc::clone(&segment);
        let tell = move || {
            if let Ok(writable) = teller.writable() {
                writable.announce();
            }
        };
        let watch = Watch::new(holder.pid, lease, still, tell)
            .map_err(|error| Fault::system("watching the refresher", error))?;
        // Without a watch the holder has changed: look again at once.
        if watch.is_some() {
            view.sleep(event, left);
        }
        Ok(())
    }

    /// Wakes the others, so that one of them takes the place of this wait.
    fn tell(&self) {
        if let Ok(writable) = self.inner.segment.writable() {
            writable.announce();
        }
    }

    fn give_up(&self) -> Fault {
        self.tell();
        let limit = self.inner.home.deadline;
        match self.inner.home.recipe {
            Some(_) => {
                let text = format!("no valid credentials within {limit:?}");
                Fault::new(ErrorKind::Timeout, text)
            }
            None => {
                let text = format!(
                    "no valid credentials within {limit:?}, and this process has no source to ask; \
                     attach with a source, or keep the processes alive that have one"
                );
                Fault::new(ErrorKind::NoSource, text)
            }
        }
    }

    /// Leaves no thread behind: the refresh has announced its outcome and ends.
    fn join(&mut self) {
        if let Some(thread) = self.refresh.take() {
            let _ = thread.join();
        }
    }
}

/// The newest failure, if no set came after it and `matters` says so of it; with the time of the
/// next attempt.
fn read_failure(
    view: &View,
    matters: impl Fn(&FailureRecord<'_>, Version) -> bool,
) -> Option<(Failure, u64)> {
    let mut words = Words::default();
    let version = view.failures().read(&mut words)?;
    let record = FailureRecord::decode(&words)?;
    let stands = record.generation == view.published().generation();
    (stands && matters(&record, version)).then(|| (failure_of(&record), record.next_attempt_boot))
}

/// The failure that forbids another attempt at `now`.
pub(super) fn backoff(view: &View, now: u64) -> Option<Failure> {
    read_failure(view, |record, _| now < record.next_attempt_boot).map(|(failure, _)| failure)
}

/// The failure as the refresher knew it.
pub(super) fn failure_of(record: &FailureRecord<'_>) -> Failure {
    let mut failure = Failure::new(publish::class_of(record.class), record.message);
    if !record.code.is_empty() {
        failure = failure.with_code(record.code);
    }
    if !record.request_id.is_empty() {
        failure = failure.with_request_id(record.request_id);
    }
    failure
}

fn refused(failure: Failure, next: u64) -> Fault {
    let kind = match failure.class() {
        FailureClass::Terminal => ErrorKind::SourceTerminal,
        _ => ErrorKind::SourceTransient,
    };
    let next = Duration::from_millis(next / 1_000_000);
    let text = format!("the source failed: {failure}; next attempt in {next:?} at the earliest");
    Fault::new(kind, text).caused_by(failure)
}
