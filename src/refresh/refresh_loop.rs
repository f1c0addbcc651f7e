//! The refresh loop of a dedicated refresher: it keeps the election, and refreshes when it is time.
//!
//! It runs in the dedicated process of an eager session, in a process that calls `run_refresher`, or on a thread of a
//! worker that took over. It sleeps until a process notifies it, at most [`ROUND`]. Then it renews its lease. So a
//! refresher that hangs is replaced after one round and the time of one call.

use std::{
    panic::resume_unwind,
    sync::Arc,
    thread::{self, Builder},
    time::Duration,
};

use tokio::runtime::Handle;
use tracing::{info, warn};

use super::{
    backoff::Backoff,
    election::{self, Elected, Outcome},
    election_lock::ElectionLock,
    fetch::{self, Job},
    policy::{self, REJECTION_FLOOR},
    predecessor, publish,
    stop_handle::{Registration, StopHandle},
    wait_for_holder,
};
use crate::{
    clock::as_nanos,
    error::Fault,
    segment::{EntryWriter, Segment, record::Words, set_record::SetRecord},
};

/// The longest sleep of an idle refresher: 2.5 wake-ups a minute.
const ROUND: Duration = Duration::from_secs(24);

/// The loop of one refresher.
#[derive(Debug)]
pub(crate) struct RefreshLoop {
    pub(crate) segment: Arc<Segment>,
    pub(crate) election_lock: Arc<ElectionLock>,
    pub(crate) job: Job,
    stop: StopHandle,
    _registration: Registration,
}

impl RefreshLoop {
    /// The loop. `stop` ends it.
    pub(crate) fn new(
        segment: Arc<Segment>,
        election_lock: Arc<ElectionLock>,
        job: Job,
        stop: StopHandle,
    ) -> Self {
        let registration = stop.register(&segment, &election_lock, job.service.as_ref());
        RefreshLoop { segment, election_lock, job, stop, _registration: registration }
    }

    /// Waits until this process is elected, and refreshes until it is told to stop. After a lost election it stands
    /// again.
    ///
    /// # Errors
    /// `System` when a system call fails.
    pub(crate) fn run(&self) -> Result<(), Fault> {
        while let Some(elected) = self.wait_for_election(&mut || ())? {
            self.serve(elected)?;
        }
        Ok(())
    }

    /// The same, also in a thread of an async runtime: that thread must not block or start another runtime, so a thread of
    /// its own does the work.
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub(crate) fn run_in_any_thread(&self) -> Result<(), Fault> {
        if Handle::try_current().is_err() {
            return self.run();
        }
        let events = tracing::dispatcher::get_default(Clone::clone);
        let work = || tracing::dispatcher::with_default(&events, || self.run());
        thread::scope(|scope| {
            let thread = Builder::new().name("shmcreds-refresh".into()).spawn_scoped(scope, work);
            let thread = thread.map_err(|e| Fault::system("starting the refresher's thread", e))?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Waits until this process is elected. `None` when it is told to stop. If another process is elected, it calls
    /// `held` before it waits for the end of that election.
    pub(crate) fn wait_for_election(
        &self,
        held: &mut dyn FnMut(),
    ) -> Result<Option<Elected>, Fault> {
        loop {
            let event = self.segment.view().latest_event();
            if self.stop.is_stopped() {
                return Ok(None);
            }
            let clock = &self.job.clock;
            let Some(guard) = self.election_lock.try_lock_or_notify(&self.segment) else {
                let limit = self.segment.slice(clock.longest_sleep(ROUND));
                self.segment.view().sleep(event, limit);
                continue;
            };
            let now = clock.boot();
            match election::stand(guard, self.segment.writable()?, now, self.lease())? {
                Outcome::Won(elected) => return Ok(Some(elected)),
                Outcome::Held(guard, holder) => {
                    held();
                    let limit = clock.longest_sleep(Duration::MAX);
                    wait_for_holder::sleep(&self.segment, &guard, holder, now, event, limit)?;
                }
            }
        }
    }

    /// Makes this process, which is elected, the one that other processes ask. Only in a pool.
    pub(crate) fn open(&self) -> Result<(), Fault> {
        self.job.service.as_ref().map_or(Ok(()), |service| service.open())
    }

    /// Refreshes whenever it is time, until it is told to stop or loses the election.
    ///
    /// # Errors
    /// See [`run`](Self::run).
    pub(crate) fn serve(&self, mut elected: Elected) -> Result<(), Fault> {
        if let Some(service) = &self.job.service {
            let is_stopped = || self.stop.is_stopped();
            return service.serve(&self.segment, &self.election_lock, &is_stopped, elected);
        }
        let clock = &self.job.clock;
        elected.mark_thread();
        predecessor::complete(&mut elected, &self.job);
        loop {
            // Read this before the state: any later notification ends the sleep.
            let notifications = self.election_lock.requests().notifications();
            if self.stop.is_stopped() {
                break;
            }
            let now = clock.boot();
            let due = self.due(elected.view());
            let left = Duration::from_nanos(due.saturating_sub(now));
            // The lease must last for the call that is due, or for this round and the next call.
            let needed = now.saturating_add(as_nanos(self.job.recipe.lease()));
            let short = elected.lease_end() < needed.saturating_add(as_nanos(ROUND.min(left)));
            if !elected.holds() || (short && !elected.renew(now, self.lease())?) {
                info!(
                    session = self.job.session,
                    "stopped for too long; another process is elected"
                );
                break;
            }
            if left.is_zero() {
                fetch::refresh(&elected, &self.job);
            } else {
                self.election_lock
                    .requests()
                    .sleep(notifications, clock.longest_sleep(left.min(ROUND)));
            }
        }
        elected.resign();
        Ok(())
    }

    /// Runs [`serve`](Self::serve) on a new thread, after the election is won.
    pub(crate) fn start(self, elected: Elected) -> Result<(), Fault> {
        Builder::new()
            .name("shmcreds-refresh".into())
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

    /// When to ask the source next. A point in the past means now.
    fn due(&self, view: &EntryWriter) -> u64 {
        let wanted = self.wanted(view);
        Backoff::read(view.reader()).map_or(wanted, |backoff| wanted.max(backoff.next_attempt))
    }

    /// When a new set is wanted: by its age, or by requests of the workers. The back-off does not count here. In a sealed
    /// session workers cannot mark the set as rejected, so this does it for them.
    fn wanted(&self, view: &EntryWriter) -> u64 {
        let requests = self.election_lock.requests();
        let mut words = Words::default();
        let Some(version) = view.reader().sets().read(&mut words) else {
            return self.job.first_call;
        };
        let generation = version.generation();
        match SetRecord::decode(&words, view.reader().key()) {
            Some(_) if requests.is_refresh_requested(generation) => 0,
            Some(set) if version.is_rejected() || requests.is_rejection_reported(generation) => {
                publish::rejection(view, version, &self.job.session);
                set.fetched_boot.saturating_add(REJECTION_FLOOR).min(set.advisory_boot)
            }
            Some(set) if requests.is_longer_requested(generation) => {
                policy::may_be_replaced(set.fetched_boot, set.expires_boot).min(set.advisory_boot)
            }
            Some(set) => set.advisory_boot,
            None => 0,
        }
    }
}
