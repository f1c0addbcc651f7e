//! Sessions that were ended on purpose, and those that have their names now: after a restart of the process that
//! keeps a session for others, who holds the old one goes on with the new one.
//!
//! The same for the entry of a pool that was taken from its role: the role gets another entry.
//!
//! Looked for only where the old session was marked as ended and its set is due: the old set stays good until then.

use std::{sync::Arc, time::Duration};

use super::{
    Inner,
    asking::RoleOf,
    group,
    process_session::{ProcessSession, Settings},
    registry, role,
    snapshot::{Phase, Snapshot},
    timing::ANSWER_LIMIT,
};
use crate::{
    error::{ErrorKind, Fault},
    segment::Segment,
};

impl Inner {
    /// The session that took this one's place, if one has; else this one.
    pub(crate) fn latest(self: &Arc<Self>) -> Arc<Self> {
        let Some(mut latest) = self.successor.load_full() else { return Arc::clone(self) };
        while let Some(next) = latest.successor.load_full() {
            // Those in between are not kept.
            self.successor.store(Some(Arc::clone(&next)));
            latest = next;
        }
        latest
    }

    /// The session to read from: the latest, after a look for another one where that is due.
    pub(super) fn current(self: &Arc<Self>) -> Result<Arc<Self>, Fault> {
        let latest = self.latest();
        if !latest.is_superseded() {
            return Ok(latest);
        }
        let life = latest.newest()?.map(|set: Arc<Snapshot>| set.life);
        let phase = life.map_or(Phase::Expired, |life| life.phase(latest.shared.clock.boot()));
        // A pool of many roles is not asked for all of them at once when it was created anew.
        if phase == Phase::Fresh && latest.shared.role.is_some() {
            return Ok(latest);
        }
        // While what is there is valid, another session has to have a set. A role whose set AWS rejected has nothing to lose.
        let is_rejected = life.is_some_and(|life| life.version.is_rejected());
        let is_good = phase != Phase::Expired && !(is_rejected && latest.shared.role.is_some());
        match latest.follow(is_good) {
            // The next read goes on there.
            _ if phase == Phase::Fresh => Ok(latest),
            Ok(true) => Ok(self.latest()),
            // No error as long as the set is valid.
            Err(fault) if phase == Phase::Expired => Err(fault),
            Ok(false) | Err(_) => Ok(latest),
        }
    }

    /// Works with the latest session, and again with another one that has taken its place meanwhile.
    pub(super) fn on_latest<T>(
        self: &Arc<Self>,
        work: impl Fn(&Arc<Self>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        loop {
            let inner = self.current()?;
            let outcome = work(&inner);
            if outcome.is_ok() || !inner.has_successor() {
                return outcome;
            }
        }
    }

    /// Whether the session was ended, or the entry was taken from the role.
    pub(super) fn is_superseded(&self) -> bool {
        match &self.shared.role {
            Some(_) => self.was_taken() || self.segment.is_ended(),
            None => self.has_ended(),
        }
    }

    /// Whether the entry was taken from the role: a set in it would be that of another role. The users of a session that
    /// was ended, however, go on with it until another one has its name.
    pub(super) fn was_taken(&self) -> bool {
        self.shared.role.as_ref().is_some_and(|role| !role.has(&self.segment))
    }

    fn succeed(&self, shared: Arc<ProcessSession>, segment: Arc<Segment>) {
        self.successor.store(Some(Arc::new(Inner::new(shared, segment))));
        // From now on no copy of the old set is kept: a read in the same tick of the clock would go back to it.
        self.copies.clear();
    }

    /// The session that took this one's place, if one has.
    pub(super) fn moved_to(self: &Arc<Self>) -> Option<Arc<Self>> {
        self.has_successor().then(|| self.latest())
    }

    pub(super) fn has_successor(&self) -> bool {
        self.successor.load().is_some()
    }

    /// The same for a role: its entry in the pool that has the name now, or another entry in its own. With `needs_set` this
    /// waits for nothing: if the role has no set there, one is fetched in the background.
    fn follow_role(&self, role: &RoleOf, needs_set: bool) -> Result<bool, Fault> {
        let next = role.next_pool()?;
        if next.is_none() && !self.was_taken() {
            return Ok(false);
        }
        let (pool, recipe) = (next.as_ref().unwrap_or(&role.pool), self.shared.recipe.clone());
        let now = self.shared.clock.boot();
        if needs_set && !pool.has_set(&role.key) && !self.is_probe_due(now) {
            return Ok(false);
        }
        let limit = if needs_set { Duration::ZERO } else { ANSWER_LIMIT };
        match role::joined(pool, role.key, role.role.clone(), recipe, limit) {
            Ok((shared, segment)) if needs_set && segment.view().published().is_empty() => {
                // True would be a reason to wait.
                let _ = Inner::new(shared, segment).refresh_in_background(now);
                Ok(false)
            }
            Ok((shared, segment)) => {
                self.succeed(shared, segment);
                Ok(true)
            }
            // The caller looks again, as long as it has time.
            Err(fault) if fault.kind == ErrorKind::Timeout && role.asker.is_some() => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Whether the role has its next set from a pool that took the place of its own.
    pub(super) fn is_replaced(&self) -> bool {
        self.shared.role.as_ref().is_some_and(|role| role.pool.successor.load().is_some())
    }

    /// Looks, where this session was ended, for another one of its name, user and source: true if it has taken this
    /// one's place. With `needs_set` one that has no set yet does not count.
    ///
    /// # Errors
    /// `WrongSource` when the name is that of a session with another source, and this process has none itself.
    pub(super) fn follow(&self, needs_set: bool) -> Result<bool, Fault> {
        if !self.is_superseded() {
            return Ok(false);
        }
        if self.has_successor() {
            return Ok(true);
        }
        if let Some(role) = &self.shared.role {
            return self.follow_role(role, needs_set);
        }
        if self.shared.is_creator() {
            return Ok(false);
        }
        let will_do = |next: &Segment| !needs_set || next.view().published().generation() != 0;
        let found = match self.segment.is_foreign() {
            true => group::follow(&self.shared, &self.segment, will_do),
            false => {
                let (name, lock) = (&self.shared.name, self.shared.election_lock.locks().inode());
                registry::follow(name, lock, Settings::of(&self.shared), &self.segment, will_do)
            }
        };
        match found {
            Ok(Some((shared, segment))) => {
                self.succeed(shared, segment);
                tracing::info!(session = %self.shared.name, "goes on with a new session of the name");
                Ok(true)
            }
            Err(fault) if fault.kind == ErrorKind::WrongSource && !self.may_write() => Err(fault),
            // It is being made, or this process cannot open it: later.
            Ok(None) | Err(_) => Ok(false),
        }
    }
}
