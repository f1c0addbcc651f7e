//! Pools that were ended, and those that have their names now: after a restart of the process that made a pool, the
//! workers that hold the old one go on with the new one.
//!
//! A role that the process has goes on when its set is due; a role that it asks for anew, at once.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{
    asking::RoleOf,
    creator::Creator,
    pool::{Pool, Successor},
    pool_rules::Rules,
    process_session::{ProcessSession, Settings},
    registry,
    unreachable::Unreachable,
};
use crate::{
    error::{ErrorKind, Fault},
    refresh::policy::Windows,
    segment::{Segment, pool::Budget},
    source::AssumeRole,
};

impl Pool {
    /// The pool that this process has opened as `shared`. Its roles have this `model`.
    pub(super) fn new(
        shared: &ProcessSession,
        segment: Arc<Segment>,
        rules: Rules,
        model: Arc<ArcSwapOption<AssumeRole>>,
    ) -> Result<Arc<Self>, Fault> {
        let Some(calls_per_second) = (rules.rate)(&segment.header.description) else {
            let text =
                "the header of the pool has no rate of calls; another program has written it";
            return Err(Fault::new(ErrorKind::BadChecksum, text));
        };
        let windows = shared.recipe.as_ref().map_or(Windows::default(), |recipe| recipe.windows);
        Ok(Arc::new(Pool {
            name: shared.name.clone(),
            lock: Arc::clone(&shared.election_lock),
            budget: Budget { calls_per_second },
            windows,
            clock: shared.clock.clone(),
            wait_timeout: shared.wait_timeout,
            creator: shared.creator,
            unreachable: Unreachable::default(),
            rules,
            recipe: shared.recipe.clone(),
            model,
            successor: ArcSwapOption::empty(),
            segment,
        }))
    }

    /// What its creator wrote into the header.
    pub(super) fn text(&self) -> &str {
        &self.segment.header.description
    }

    /// The pool that took this one's place, if one has; else this one.
    pub(super) fn latest(self: &Arc<Self>) -> Arc<Self> {
        let Some(mut latest) = self.successor.load_full() else { return Arc::clone(self) };
        while let Some(next) = latest.pool.successor.load_full() {
            // Those in between are not kept.
            self.successor.store(Some(Arc::clone(&next)));
            latest = next;
        }
        Arc::clone(&latest.pool)
    }

    /// The same, after a look for another pool of the name if this one was ended.
    ///
    /// # Errors
    /// `WrongSource` when the name is that of a pool with another base source, and this process has none itself.
    pub(super) fn current(self: &Arc<Self>) -> Result<Arc<Self>, Fault> {
        let latest = self.latest();
        if !latest.segment.is_ended() || latest.creator.is_some_and(Creator::is_this) {
            return Ok(latest);
        }
        let settings = Settings {
            recipe: latest.recipe.clone(),
            windows: Windows::default(),
            clock: Some(latest.clock.clone()),
            wait_timeout: Some(latest.wait_timeout),
        };
        let inode = latest.lock.locks().inode();
        match registry::follow(&latest.name, inode, settings, &latest.segment, |_| true) {
            Ok(Some((share, segment))) => {
                let model = Arc::clone(&latest.model);
                let pool = Pool::new(&share, segment, latest.rules, model)?;
                let next = Some(Arc::new(Successor { pool, _share: share }));
                // Another thread may have been faster. All go on with the first one.
                latest.successor.compare_and_swap(&None::<Arc<Successor>>, next);
                tracing::info!(pool = %self.name, "goes on with a new pool of the name");
                Ok(self.latest())
            }
            Err(fault) if fault.kind == ErrorKind::WrongSource && latest.recipe.is_none() => {
                Err(fault)
            }
            // It is being made, or this process cannot open it: later.
            Ok(None) | Err(_) => Ok(latest),
        }
    }
}

impl RoleOf {
    /// The pool in which the role needs an entry, if its pool was ended and another one has the name.
    ///
    /// # Errors
    /// `NotAllowed` when the new pool does not allow the role; `WrongSource` as for [`Pool::current`].
    pub(super) fn next_pool(&self) -> Result<Option<Arc<Pool>>, Fault> {
        let current = self.pool.current()?;
        if Arc::ptr_eq(&current, &self.pool) {
            return Ok(None);
        }
        if let Some(role) = &self.role {
            (current.rules.check)(current.text(), role.arn())?;
        }
        Ok(Some(current))
    }
}
