//! The session of one role of a pool: a session whose segment is one entry of the pool.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;

use super::{
    inner::Inner,
    pool::{Pool, RoleOf},
    process_session::ProcessSession,
};
use crate::{
    clock::as_nanos,
    error::Fault,
    refresh::{
        election::Elected,
        fetch::{Job, Recipe},
    },
    segment::{Key, Segment},
};

/// The session of the role with `key`, and the entry that it has now.
pub(super) fn joined(
    pool: &Arc<Pool>,
    key: Key,
    recipe: Option<Recipe>,
) -> Result<(Arc<ProcessSession>, Arc<Segment>), Fault> {
    let segment = pool.entry_of(&key, recipe.is_some())?;
    Ok(with_entry(pool, key, segment, recipe))
}

/// A session that can only look at the entry in `segment`.
pub(super) fn look(
    pool: &Arc<Pool>,
    key: Key,
    segment: Arc<Segment>,
) -> (Arc<ProcessSession>, Arc<Segment>) {
    with_entry(pool, key, segment, None)
}

fn with_entry(
    pool: &Arc<Pool>,
    key: Key,
    segment: Arc<Segment>,
    recipe: Option<Recipe>,
) -> (Arc<ProcessSession>, Arc<Segment>) {
    let shared = Arc::new(ProcessSession {
        name: pool.name.clone(),
        election_lock: pool.lock.for_entry(),
        recipe,
        clock: pool.clock.clone(),
        wait_timeout: pool.wait_timeout,
        segment: Arc::clone(&segment),
        creator: pool.creator,
        background_refresher: ArcSwapOption::empty(),
        role: Some(RoleOf { pool: Arc::clone(pool), key }),
    });
    (shared, segment)
}

impl Inner {
    /// The pool, for the session of a role.
    pub(super) fn pool(&self) -> Option<&Arc<Pool>> {
        self.shared.role.as_ref().map(|role| &role.pool)
    }

    /// Notes the use of a role, for the choice of the next entry that goes.
    pub(super) fn note_use(&self, now: u64) {
        if let Some(pool) = self.pool() {
            pool.note_use(self.segment.place().index(), now);
        }
    }

    /// Reserves the call of a role within `limit`, and extends the lease by the time until then. Without a call in time it
    /// resigns: that is the inner error.
    pub(super) fn reserve(
        &self,
        mut elected: Elected,
        job: Job,
        limit: Duration,
    ) -> Result<Result<(Elected, Job), Fault>, Fault> {
        let (Some(pool), Some(memory)) = (self.pool(), elected.view().pool()) else {
            return Ok(Ok((elected, job)));
        };
        let now = self.shared.clock.boot();
        match pool.reserve(memory.budget(), limit) {
            Ok(Duration::ZERO) => Ok(Ok((elected, job))),
            Ok(wait) => {
                let lease = job.recipe.lease().saturating_add(wait);
                // After a stop that was longer than the lease, `ask` finds that the election was lost.
                elected.renew(now, lease)?;
                let not_before = now.saturating_add(as_nanos(wait));
                Ok(Ok((elected, Job { not_before, ..job })))
            }
            Err(fault) => {
                elected.resign();
                Ok(Err(fault))
            }
        }
    }

    /// The error of a wait that ended while its call waited for the budget of the pool (`budgeted`), or while the budget was
    /// used up; `None` otherwise.
    pub(super) fn budget_fault(&self, budgeted: bool) -> Option<Fault> {
        let pool = self.pool()?;
        let queue = pool.queue(self.shared.clock.boot());
        (budgeted || !queue.is_zero()).then(|| pool.throttled(queue))
    }
}
