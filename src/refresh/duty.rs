//! The duty of a dedicated refresher: to hold the election, and to refresh when it is time.
//!
//! Whoever does it, a process of its own, a user's, or a thread of a worker that took over, runs
//! this loop. It sleeps until the bell of the requests rings, at most [`ROUND`]: then it renews its lease, so
//! that a refresher that hangs is replaced after a round and the time of one call.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::Builder,
    time::Duration,
};

use tracing::{info, warn};

use super::{
    beside,
    desk::Desk,
    election::{self, Elected, Outcome},
    policy::REJECTION_FLOOR,
    publish,
    refresher::{self, Job},
    standing::StandingFailure,
};
use crate::{
    clock::as_nanos,
    error::Fault,
    segment::{
        EntryWriter, Segment,
        record::{SetRecord, Words},
    },
};

/// How long an idle refresher sleeps at most: two and a half wake-ups a minute.
const ROUND: Duration = Duration::from_secs(24);

/// Tells a refresher to stop; made by
/// [`SharedSession::stop_handle`](crate::SharedSession::stop_handle). Clones stop the same one.
#[derive(Clone, Debug)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    segment: Arc<Segment>,
    desk: Arc<Desk>,
}

impl Stop {
    pub(crate) fn new(segment: Arc<Segment>, desk: Arc<Desk>) -> Self {
        Stop { asked: Arc::default(), segment, desk }
    }

    /// Ends [`run_refresher`](crate::SharedSession::run_refresher), at once or as soon as the call of
    /// the source that is under way has ended; a later one with the same handle does not begin.
    pub fn stop(&self) {
        // Release pairs with the acquire in `is_asked`, which follows the event's wake.
        self.asked.store(true, Ordering::Release);
        // One of them wakes it, on duty or waiting to be.
        self.desk.requests().ring();
        self.segment.announce();
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

/// A dedicated refresher.
#[derive(Debug)]
pub(crate) struct Duty {
    pub(crate) segment: Arc<Segment>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) job: Job,
    pub(crate) stop: Stop,
}

impl Duty {
    /// Waits to be elected, and serves until told to stop; stands again after losing the election.
    ///
    /// # Errors
    /// `System` when the kernel refuses what it has granted before.
    pub(crate) fn run(&self) -> Result<(), Fault> {
        while let Some(elected) = self.wait_for_election()? {
            self.serve(elected)?;
        }
        Ok(())
    }

    /// Sleeps beside whoever is elected, and takes the place as soon as it is vacant. `None` when
    /// told to stop.
    pub(crate) fn wait_for_election(&self) -> Result<Option<Elected>, Fault> {
        loop {
            let event = self.segment.view().latest_event();
            if self.stop.is_asked() {
                return Ok(None);
            }
            let clock = &self.job.clock;
            let Some(seat) = self.desk.sit_or_want(&self.segment) else {
                self.segment.view().sleep(event, clock.longest_sleep(ROUND));
                continue;
            };
            let now = clock.boot();
            match election::stand(seat, self.segment.writable()?, now, self.lease())? {
                Outcome::Won(elected) => return Ok(Some(elected)),
                Outcome::Held(seat, holder) => {
                    let limit = clock.longest_sleep(Duration::MAX);
                    beside::sleep(&self.segment, &seat, holder, now, event, limit)?;
                }
            }
        }
    }

    /// Refreshes whenever it is time, until told to stop or until the election is lost.
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub(crate) fn serve(&self, mut elected: Elected) -> Result<(), Fault> {
        let clock = &self.job.clock;
        elected.mark_thread();
        refresher::succeed(&mut elected, &self.job);
        loop {
            // Before the look at the state: a ring after it ends the sleep.
            let rings = self.desk.requests().rings();
            if self.stop.is_asked() {
                break;
            }
            let now = clock.boot();
            let due = self.due(elected.view());
            let left = Duration::from_nanos(due.saturating_sub(now));
            // Enough for the call that is due, or for this round and a call after it.
            let needed = now.saturating_add(as_nanos(self.job.recipe.lease()));
            let short = elected.lease_end() < needed.saturating_add(as_nanos(ROUND.min(left)));
            if !elected.holds() || (short && !elected.renew(now, self.lease())?) {
                info!(session = self.job.session, "stopped for too long; another one is elected");
                break;
            }
            if left.is_zero() {
                refresher::refresh(&elected, &self.job);
            } else {
                self.desk.requests().sleep(rings, clock.longest_sleep(left.min(ROUND)));
            }
        }
        elected.resign();
        Ok(())
    }

    /// Serves on a thread of its own, from an election that is won already.
    pub(crate) fn start(self, elected: Elected) -> Result<(), Fault> {
        Builder::new()
            .name("shmcreds-duty".into())
            .spawn(move || {
                if let Err(fault) = self.serve(elected) {
                    warn!(session = self.job.session, "refreshes no longer: {}", fault.message);
                }
            })
            .map(drop)
            .map_err(|error| Fault::system("starting the refresher's thread", error))
    }

    fn lease(&self) -> Duration {
        self.job.recipe.lease().saturating_add(ROUND)
    }

    /// When the source is to be asked next; in the past when it is time.
    fn due(&self, view: &EntryWriter) -> u64 {
        let wish = self.wish(view);
        StandingFailure::read(view.reader())
            .map_or(wish, |standing| wish.max(standing.next_attempt))
    }

    /// When its users and its age want a successor of the set. Notes a rejection that others could not.
    fn wish(&self, view: &EntryWriter) -> u64 {
        let requests = self.desk.requests();
        let mut words = Words::default();
        let Some(version) = view.reader().sets().read(&mut words) else { return 0 };
        let generation = version.generation();
        match SetRecord::decode(&words) {
            Some(_) if requests.wants(generation) => 0,
            Some(set) if version.is_stale() || requests.rejects(generation) => {
                publish::rejection(view, version, &self.job.session);
                set.fetched_boot.saturating_add(REJECTION_FLOOR).min(set.advisory_boot)
            }
            Some(set) => set.advisory_boot,
            None => 0,
        }
    }
}
