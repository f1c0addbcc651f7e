//! The calls of the refresher: when one is started, and what comes after it.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit};
use tracing::warn;

use super::{
    queue::Planned,
    state::{Call, Serving, life_of},
};
use crate::{
    clock::as_nanos,
    error::Fault,
    refresh::{
        backoff::Backoff,
        election::{self, Outcome},
        fetch::{self, Recipe},
        predecessor,
    },
    segment::Key,
    session::pool::minute,
    source::Source,
    sys::datagram::Inbox,
};

/// How many calls may be young at a time: more would only wait for the processor. A call that hangs is not young any more, and
/// so takes the place of no other.
const MOST_YOUNG: usize = 64;
const YOUNG: Duration = Duration::from_secs(1);
/// How many calls there may be at a time. Each needs a thread and some descriptors.
const MOST: usize = 512;
const DESCRIPTORS_OF_A_CALL: u64 = 8;
/// How long a refresh is postponed that cannot be made now and has time.
const POSTPONED: Duration = Duration::from_secs(1);
/// How long to wait for a place. The end of a call ends the wait.
const PLACE_INTERVAL: Duration = Duration::from_millis(100);

/// What became of an attempt to make a call.
enum Begun {
    Started,
    /// The budget has no call now.
    Later,
    /// Another process is at it, or the back-off forbids it.
    NotNow,
    /// The role has lost its entry.
    Lost,
}

/// Tells the loop that a call has ended, also by a panic.
struct Ending {
    key: Key,
    ended: Arc<Mutex<Vec<Key>>>,
    inbox: Arc<Inbox>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
        self.inbox.wake();
    }
}

impl Serving<'_> {
    /// Starts the calls that can be made now: first those for which a process waits. Returns how long to sleep at most.
    pub(super) fn start_calls(&mut self) -> Duration {
        let mut pause = Duration::MAX;
        while self.queue.waited_for() > 0 {
            if !self.has_place() {
                return PLACE_INTERVAL;
            }
            let wait = self.pool.queue(self.terms.clock.boot());
            if !wait.is_zero() {
                // Others use the budget, too.
                return wait.max(Duration::from_millis(1));
            }
            let Some(key) = self.queue.pop_waited_for() else { break };
            if matches!(self.begin(&key), Begun::Later) {
                self.queue.push_back_first(key);
                pause = Duration::from_millis(1);
                break;
            }
        }
        let now = self.terms.clock.boot();
        while self.has_place()
            && let Some((key, planned)) = self.queue.pop_due(now)
        {
            self.refresh(key, planned, now);
        }
        let due = self.queue.next_due().map_or(Duration::MAX, |at| {
            Duration::from_nanos(at.saturating_sub(now)).max(Duration::from_millis(1))
        });
        pause.min(if self.has_place() { due } else { PLACE_INTERVAL })
    }

    fn has_place(&self) -> bool {
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let by_descriptors = usize::try_from(limit / DESCRIPTORS_OF_A_CALL).unwrap_or(MOST);
        let young = self.running.values().filter(|call| call.began.elapsed() < YOUNG);
        self.running.len() < by_descriptors.clamp(1, MOST) && young.count() < MOST_YOUNG
    }

    /// Refreshes a role that is due, if it was used since its last refresh.
    fn refresh(&mut self, key: Key, planned: Planned, now: u64) {
        let Some(known) = self.roles.get(&key) else { return };
        let (pool, index) = (self.pool, known.index);
        let Ok(segment) = pool.segment_of(index, &key) else { return };
        let has_entry = pool.segment.pool().is_some_and(|pool| pool.key_of(index) == key);
        if !has_entry {
            return;
        }
        let Some(life) = life_of(&segment) else {
            if now < self.settled {
                let at = now.saturating_add(as_nanos(POSTPONED));
                self.queue.plan(key, Planned { at, ..planned });
            }
            return;
        };
        let points = life.points;
        if now >= points.expires {
            return;
        }
        if !planned.in_any_case {
            // Another process may have replaced the set.
            if points.advisory > now && !life.version.is_rejected() {
                return self.queue.plan(key, Planned { at: points.advisory, ..planned });
            }
            // The minute of the fetch does not count: the set was fetched because it was asked for.
            if pool.last_use(index) <= minute(life.fetched) {
                return;
            }
        }
        let again = now.saturating_add(as_nanos(POSTPONED)).min(points.mandatory.max(now + 1));
        let again = Planned { at: again, in_any_case: true };
        if pool.is_scarce(now) && now < points.mandatory {
            return self.queue.plan(key, again);
        }
        match self.begin(&key) {
            Begun::Started | Begun::Lost => {}
            Begun::Later | Begun::NotNow => {
                let at = now.saturating_add(as_nanos(POSTPONED));
                let backoff = Backoff::read(segment.view()).map_or(0, |one| one.next_attempt);
                self.queue.plan(key, Planned { at: at.max(backoff), ..again });
            }
        }
    }

    fn begin(&mut self, key: &Key) -> Begun {
        self.try_begin(key).unwrap_or_else(|fault| {
            let session = self.terms.name.as_str();
            warn!(session, "cannot start a call: {}", fault.message);
            // The process that waits asks again.
            Begun::NotNow
        })
    }

    fn try_begin(&mut self, key: &Key) -> Result<Begun, Fault> {
        let pool = self.pool;
        let Some(known) = self.roles.get(key) else { return Ok(Begun::Lost) };
        let index = known.index;
        let has_entry = || pool.segment.pool().is_some_and(|pool| pool.key_of(index) == *key);
        let source: Arc<dyn Source> = Arc::clone(&known.role) as Arc<dyn Source>;
        let recipe = Recipe { source, ..self.terms.base.clone() };
        let segment = pool.segment_of(index, key)?;
        let lock = pool.lock.for_entry();
        let Some(guard) = lock.try_lock_election(&segment) else { return Ok(Begun::NotNow) };
        let now = self.terms.clock.boot();
        let outcome = election::stand(guard, segment.writable()?, now, recipe.lease())?;
        let Outcome::Won(mut elected) = outcome else { return Ok(Begun::NotNow) };
        if !has_entry() {
            elected.resign();
            self.roles.remove(key);
            return Ok(Begun::Lost);
        }
        let job = self.terms.job(recipe);
        predecessor::complete(&mut elected, &job);
        if Backoff::read(segment.view()).is_some_and(|backoff| backoff.forbids(now)) {
            elected.resign();
            return Ok(Begun::NotNow);
        }
        let Ok((elected, job)) = pool.reserve_call(elected, job, Duration::ZERO)? else {
            return Ok(Begun::Later);
        };
        let ending =
            Ending { key: *key, ended: Arc::clone(&self.ended), inbox: Arc::clone(self.inbox) };
        let thread = fetch::start_then(elected, job, move || drop(ending))?;
        self.running.insert(*key, Call { thread, began: Instant::now(), asked: Vec::new() });
        Ok(Begun::Started)
    }

    /// Plans the next refresh of each role whose call has ended.
    pub(super) fn end_calls(&mut self) {
        let ended = mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for key in ended {
            let Some(Call { thread, asked, .. }) = self.running.remove(&key) else { continue };
            thread.wait();
            let Some(known) = self.roles.get(&key) else { continue };
            let Ok(segment) = self.pool.segment_of(known.index, &key) else { continue };
            let backoff = Backoff::read(segment.view()).map_or(0, |backoff| backoff.next_attempt);
            if let Some(life) = life_of(&segment).filter(|_| self.terms.ahead) {
                let at = life.points.advisory.max(backoff);
                self.queue.plan(key, Planned { at, in_any_case: false });
            }
            for (wish, generation) in asked {
                if let Err(fault) = self.plan(&segment, key, wish, generation) {
                    let session = self.terms.name.as_str();
                    warn!(session, "cannot plan a call: {}", fault.message);
                }
            }
        }
    }
}
