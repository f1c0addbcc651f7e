//! The session of one role of a pool: a session whose segment is one entry of the pool.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;

use super::{
    SharedSession,
    asking::{Asker, QUEUE_LIMIT, RoleOf},
    inner::Inner,
    pool::Pool,
    process_session::ProcessSession,
    request::Wish,
    wait::Need,
};
use crate::{
    error::{ErrorKind, Fault},
    refresh::{
        election::Elected,
        fetch::{Job, Recipe},
    },
    segment::{Key, Published, Segment},
    source::{AssumeRole, Source},
};

/// The session of the role with `key`, and the entry that it has now. The refresher of the pool, if there is one, is waited
/// for at most `limit`.
pub(super) fn joined(
    pool: &Arc<Pool>,
    key: Key,
    role: Option<Arc<AssumeRole>>,
    recipe: Option<Recipe>,
    limit: Duration,
) -> Result<(Arc<ProcessSession>, Arc<Segment>), Fault> {
    let asker = role.as_ref().and_then(asker);
    let index = pool.entry_of(&key, asker.as_ref(), recipe.is_some(), limit)?;
    Ok(with_entry(pool, (key, role), pool.segment_of(index, &key)?, asker, recipe))
}

/// How to ask the refresher of the pool for the role. What it cannot be asked for, this process does itself.
pub(super) fn asker(role: &Arc<AssumeRole>) -> Option<Asker> {
    role.check_asking().is_ok().then(|| Asker::new(Arc::clone(role)))
}

/// The session of `role`, which has the base source of the pool, with the entry to which `published` belongs.
pub(super) fn of_entry(
    pool: &Arc<Pool>,
    key: Key,
    published: &Published,
    role: Arc<AssumeRole>,
    asker: Option<Asker>,
) -> SharedSession {
    let source = || Arc::clone(&role) as Arc<dyn Source>;
    let windows = pool.windows;
    let recipe = pool.recipe.as_ref().map(|_| Recipe { source: source(), windows, gate: None });
    let index = pool.segment.index_of(published);
    let Some(entry) = index.and_then(|index| pool.segment.entry(index, key)) else {
        unreachable!("the segment of a pool has entries")
    };
    let (shared, segment) = with_entry(pool, (key, Some(role)), Arc::new(entry), asker, recipe);
    SharedSession::new(shared, segment)
}

/// A session that can only look at the entry in `segment`.
pub(super) fn look(
    pool: &Arc<Pool>,
    key: Key,
    segment: Arc<Segment>,
) -> (Arc<ProcessSession>, Arc<Segment>) {
    with_entry(pool, (key, None), segment, None, None)
}

fn with_entry(
    pool: &Arc<Pool>,
    (key, role): (Key, Option<Arc<AssumeRole>>),
    segment: Arc<Segment>,
    asker: Option<Asker>,
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
        role: Some(RoleOf { pool: Arc::clone(pool), key, role, asker }),
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

    /// Whether the refresher of the pool makes the calls for this role.
    pub(super) fn is_served(&self) -> bool {
        let role = self.shared.role.as_ref();
        role.is_some_and(|role| role.asker.is_some() && role.pool.refresher().is_some())
    }

    /// Asks the refresher of the pool for what is needed.
    ///
    /// # Errors
    /// `DescriptorClosed`. Other failures are none of the caller, who waits and asks again.
    pub(super) fn ask(&self, need: Need, may_wait: bool) -> Result<(), Fault> {
        let published = || self.segment.view().published().generation();
        self.ask_for(
            match need {
                Need::Valid => (Wish::Set, published()),
                Need::Better(generation) | Need::Own(generation) => (Wish::Set, generation),
                Need::After(generation) => (Wish::Newer, generation),
                Need::Longer(generation) => (Wish::Longer, generation),
            },
            may_wait,
        )
    }

    pub(super) fn ask_for(&self, wish: (Wish, u64), may_wait: bool) -> Result<(), Fault> {
        let Some(role) = &self.shared.role else { return Ok(()) };
        let Some(asker) = &role.asker else { return Ok(()) };
        let limit = if may_wait { QUEUE_LIMIT } else { Duration::ZERO };
        match asker.ask(&role.pool, &role.key, wish, limit) {
            Err(fault) if fault.kind == ErrorKind::DescriptorClosed => Err(fault),
            Err(fault) => {
                let session = self.shared.name.as_str();
                tracing::warn!(session, "cannot ask the refresher: {}", fault.message);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Reserves the call of a role, as [`Pool::reserve_call`] does.
    pub(super) fn reserve(
        &self,
        elected: Elected,
        job: Job,
        limit: Duration,
    ) -> Result<Result<(Elected, Job), Fault>, Fault> {
        match self.pool() {
            Some(pool) => pool.reserve_call(elected, job, limit),
            None => Ok(Ok((elected, job))),
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
