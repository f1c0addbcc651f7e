//! The roles that the process of the refresher has asked for itself, before it was elected: with sets that it fetched as a
//! reader, or that a refresher before it fetched. Nobody asks for them until they are due.

use std::{fmt, sync::Arc, time::Duration};

use super::{
    queue::Planned,
    state::{Known, Serving},
};
use crate::{clock::as_nanos, session::HeldRole};

/// How long a call may be under way that a reader began before this process was elected.
const LONGEST_CALL: Duration = Duration::from_secs(60);

/// Where a process finds the roles that it has.
#[derive(Default)]
pub(in crate::session) struct OwnRoles(Option<Box<Find>>);

type Find = dyn Fn() -> Vec<Arc<HeldRole>> + Send + Sync;

impl OwnRoles {
    pub(in crate::session) fn new(
        find: impl Fn() -> Vec<Arc<HeldRole>> + Send + Sync + 'static,
    ) -> Self {
        OwnRoles(Some(Box::new(find)))
    }

    fn find(&self) -> Vec<Arc<HeldRole>> {
        self.0.as_ref().map_or_else(Vec::new, |find| find())
    }
}

impl fmt::Debug for OwnRoles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnRoles").field(&self.0.is_some()).finish()
    }
}

impl Serving<'_> {
    /// Plans the refreshes of the roles that this process knows and that have entries.
    pub(super) fn learn(&mut self, own: &OwnRoles) {
        let now = self.terms.clock.boot();
        self.settled = now.saturating_add(as_nanos(LONGEST_CALL));
        for (key, role) in own.find().iter().filter_map(|role| role.askable()) {
            let index = self.pool.segment.pool().and_then(|pool| pool.find(&key));
            if let Some(index) = index {
                self.roles.insert(key, Known { index, role });
                // At once: then its set tells when.
                self.queue.plan(key, Planned { at: now, in_any_case: false });
            }
        }
    }
}
