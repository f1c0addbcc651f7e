//! How a process of the session refreshes: in the background of a read, for good, or by a dedicated process.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    SharedSession, handover,
    inner::Inner,
    look::SetSnapshot,
    process_session::ProcessSession,
    refresher_start::Start,
    registry,
    timing::{FIRST_SET_INTERVAL, Limit, PROBE_INTERVAL},
    wait::Need,
};
use crate::{
    clock::as_nanos,
    error::{Error, ErrorKind, Fault},
    refresh::{
        backoff::Backoff,
        dedicated,
        election::{self, Elected, Outcome},
        fetch::{self, FetchHandle, Job, Recipe},
        predecessor,
        refresh_loop::RefreshLoop,
        stop_handle::StopHandle,
    },
    segment::EntryWriter,
};

impl SharedSession {
    /// As [`refresh`](Self::refresh), for a set that is newer than `generation`, and waits at most `limit`: for a program
    /// that waits in short slices, to look at signals in between. The call of the source goes on in the background.
    ///
    /// # Errors
    /// As [`refresh`](Self::refresh). [`Timeout`](ErrorKind::Timeout) names `limit`.
    pub fn refresh_after(&self, generation: u64, limit: Duration) -> Result<SetSnapshot, Error> {
        let refresh = |inner: &Arc<Inner>| {
            inner.requests()?.request_refresh(generation);
            let set = inner.wait(Need::After(generation), Limit::of_call(limit))?;
            Ok(inner.seen_now(set))
        };
        self.inner.on_latest(refresh).map_err(|fault| self.inner.fault("refresh", fault))
    }
}

impl Inner {
    /// Makes sure that a process refreshes, without waiting for it. A failure here is not a failure of the caller: it
    /// has a valid set, and the next caller tries again.
    ///
    /// True if the caller must wait for its own refresh: a process has died in its call, and this one may also end
    /// soon.
    pub(super) fn refresh_in_background(&self, now: u64) -> bool {
        if !self.is_probe_due(now) {
            return false;
        }
        let wait = self.start_in_background(now).unwrap_or_else(|fault| {
            tracing::warn!(session = %self.shared.name, "cannot refresh: {}", fault.message);
            false
        });
        if wait {
            // The thread that waits in an async caller's place looks again.
            self.next_probe.store(0, Ordering::Relaxed);
        }
        wait
    }

    /// Whether it is time to check again that a process refreshes. After true it is false for some time.
    pub(super) fn is_probe_due(&self, now: u64) -> bool {
        if now < self.next_probe.load(Ordering::Relaxed) {
            return false;
        }
        // Relaxed: two threads that both pass here are kept apart by the election lock.
        self.next_probe.store(now.saturating_add(PROBE_INTERVAL), Ordering::Relaxed);
        true
    }

    pub(super) fn start_in_background(&self, now: u64) -> Result<bool, Fault> {
        let Some(recipe) = self.recipe() else {
            self.ask(Need::Valid, false)?;
            return Ok(false);
        };
        let view = self.segment.view();
        let generation = view.published().generation();
        let election_lock = &self.shared.election_lock;
        let backoff = Backoff::read(view);
        if backoff.as_ref().is_some_and(|backoff| backoff.forbids(now))
            || election::holder(view, election_lock.locks(), now)?.is_some()
        {
            return Ok(false);
        }
        if backoff.is_some_and(|backoff| backoff.died) {
            return Ok(true);
        }
        // A refresh that has time leaves the rest of the budget to roles that have no set.
        if self.pool().is_some_and(|pool| pool.is_scarce(now)) {
            return Ok(false);
        }
        let Some(guard) = election_lock.try_lock_election(&self.segment) else { return Ok(false) };
        let writable = self.segment.writable()?;
        if let Outcome::Won(mut elected) = election::stand(guard, writable, now, recipe.lease())? {
            if view.published().generation() != generation || self.was_taken() {
                elected.resign();
                return Ok(false);
            }
            let job = self.job(recipe);
            predecessor::complete(&mut elected, &job);
            match Backoff::read(view) {
                Some(backoff) if backoff.forbids(now) => elected.resign(),
                Some(backoff) if backoff.died => {
                    elected.resign();
                    return Ok(true);
                }
                _ => match self.reserve(elected, job, Duration::ZERO)? {
                    Ok((elected, job)) => drop(self.start(elected, recipe, job)?),
                    Err(_) => return Ok(false),
                },
            }
        }
        Ok(false)
    }

    /// The same for a caller that waits for a set, at most `left`. It makes the call itself where it may.
    pub(super) fn start_waited_for(
        &self,
        elected: Elected,
        recipe: &Recipe,
        job: Job,
        left: Duration,
    ) -> Result<Option<FetchHandle>, Fault> {
        if self.fetches_once() && fetch::may_be_here(&job, left) {
            return fetch::here(elected, &job).map(|()| None);
        }
        self.start(elected, recipe, job)
    }

    /// Whether the elected process fetches one set, and does not refresh for good.
    fn fetches_once(&self) -> bool {
        // The refresher of a pool refreshes all its roles. It comes back when it has died.
        let is_role = self.shared.role.is_some();
        !self.segment.header.eager || self.shared.is_creator() || is_role
    }

    /// Starts the work of the elected. In an eager session it goes on for good: what the dedicated
    /// process did, this one does from now on, on a thread. Not where the user may want to fork.
    pub(super) fn start(
        &self,
        elected: Elected,
        recipe: &Recipe,
        job: Job,
    ) -> Result<Option<FetchHandle>, Fault> {
        if self.fetches_once() {
            return fetch::start(elected, job).map(Some);
        }
        let stop = StopHandle::new();
        self.refresh_loop(recipe, &stop).start(elected)?;
        self.shared.keep_refresher(stop);
        Ok(None)
    }

    pub(super) fn refresh_loop(&self, recipe: &Recipe, stop: &StopHandle) -> RefreshLoop {
        let (segment, lock) = (Arc::clone(&self.segment), Arc::clone(&self.shared.election_lock));
        RefreshLoop::new(segment, lock, self.job(recipe), stop.clone())
    }

    pub(super) fn run_refresher(&self, stop: &StopHandle) -> Result<(), Fault> {
        let Some(recipe) = self.recipe() else {
            let text = match self.may_write() {
                true => "the program asks this session's source itself: call elect()",
                false => "this process has no source to ask, or may not write; attach with one",
            };
            return Err(Fault::new(ErrorKind::NoSource, text));
        };
        self.refresh_loop(recipe, stop).run_in_any_thread()
    }

    /// Starts the dedicated refresher and waits for its first set. `writer` is what alone can write a
    /// sealed segment: this process has it no longer afterwards. The refresher waits for `first_call` before it calls the
    /// source.
    pub(super) fn start_dedicated(
        &self,
        start: &Start,
        writer: Option<EntryWriter>,
        first_call: Duration,
    ) -> Result<(), Fault> {
        let Some(recipe) = &self.shared.recipe else { return Ok(()) };
        let ProcessSession { name, election_lock, wait_timeout, clock, .. } = &*self.shared;
        let (locks, forget) = (election_lock.locks(), registry::forget);
        let first = clock.boot().saturating_add(as_nanos(first_call));
        let job = Job { first_call: first, ..self.job(recipe) };
        election_lock.requests().without(|| match start {
            Start::Program(program) => {
                let Some(handover) = handover::of(&self.shared, &job) else {
                    unreachable!("the source was handed over when the start was chosen")
                };
                let (segment, limit) = (&*self.segment, *wait_timeout);
                dedicated::start_program(program, name, segment, locks, &handover?, limit)
            }
            Start::Fork => {
                dedicated::spawn(name, &self.segment, locks, writer, job, forget, *wait_timeout)
            }
        })?;
        self.wait_for_first_set(wait_timeout.saturating_add(first_call))
    }

    /// Waits for the set that a dedicated refresher fetches. That tries again after a failure that may pass,
    /// by its back-off: such a failure ends the wait only at the wait timeout.
    pub(super) fn wait_for_first_set(&self, deadline: Duration) -> Result<(), Fault> {
        use ErrorKind::{SourceThrottled, SourceTransient, Timeout};
        let (began, mut failed) = (Instant::now(), None);
        loop {
            let left = deadline.saturating_sub(began.elapsed());
            match self.wait(Need::Valid, Limit::of_each_wait(deadline).at_most(left)) {
                Err(fault) if matches!(fault.kind, SourceThrottled | SourceTransient) => {
                    if left.is_zero() {
                        return Err(fault);
                    }
                    failed = Some(fault);
                    thread::sleep(FIRST_SET_INTERVAL.min(left));
                }
                Err(fault) if fault.kind == Timeout => return Err(failed.unwrap_or(fault)),
                outcome => return outcome.map(drop),
            }
        }
    }
}
