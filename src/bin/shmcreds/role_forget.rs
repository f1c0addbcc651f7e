//! Removes the sets of roles from the pool that the roles file names no longer.

use std::{
    collections::HashMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use shmcreds::{AssumeRole, Fingerprint, SharedRoles};

use crate::role_book::{Page, RoleBook};

/// A role that is being refreshed cannot be removed. This is longer than a call.
const LONGEST: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(200);

/// Which roles of the pool a page permits.
struct Permitted<'a> {
    roles: &'a SharedRoles,
    page: &'a Page,
    named: HashMap<Fingerprint, AssumeRole>,
}

impl<'a> Permitted<'a> {
    fn by(page: &'a Page, roles: &'a SharedRoles) -> Self {
        let named = page.named.values().map(|role| role.recipe());
        let named = named.filter_map(|recipe| Some((roles.key_of(&recipe).ok()?, recipe)));
        Permitted { roles, page, named: named.collect() }
    }

    /// The recipe of a role that is in the pool. A role without a set has no ARN there.
    fn recipe(&self, key: &Fingerprint, arn: Option<&str>) -> Option<AssumeRole> {
        let named = self.named.get(key).cloned();
        named.or_else(|| {
            let arn = arn?;
            let tables = self.page.by_arn.values().filter(|table| table.allows(arn));
            let mut recipes = tables.map(|table| table.recipe(arn));
            recipes.find(|recipe| self.roles.key_of(recipe).is_ok_and(|own| own == *key))
        })
    }
}

impl RoleBook {
    /// Removes what `before` permits and the roles file permits no longer, on a thread of its own.
    pub(crate) fn forget(self: &Arc<Self>, before: Arc<Page>) {
        let book = Arc::clone(self);
        let work = move || book.forget_all(&before);
        if let Err(error) = thread::Builder::new().name("forgetting".into()).spawn(work) {
            tracing::warn!("sets of removed roles stay in the pool until they expire: {error}");
        }
    }

    fn forget_all(&self, before: &Page) {
        let (before, end) = (Permitted::by(before, &self.roles), Instant::now() + LONGEST);
        loop {
            let gone = self.gone(&before);
            for recipe in &gone {
                if let Err(error) = self.roles.evict(recipe) {
                    tracing::warn!(
                        "sets of removed roles stay in the pool until they expire: {error}"
                    );
                    return;
                }
            }
            if gone.is_empty() || Instant::now() >= end {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    /// The roles of the pool that `before` permits, and the page of now does not.
    fn gone(&self, before: &Permitted<'_>) -> Vec<AssumeRole> {
        let Ok(status) = self.roles.status() else { return Vec::new() };
        let page = self.page();
        let now = Permitted::by(&page, &self.roles);
        let gone = status.entries().iter().filter_map(|entry| {
            let recipe = before.recipe(entry.key(), entry.arn())?;
            now.recipe(entry.key(), entry.arn()).is_none().then_some(recipe)
        });
        gone.collect()
    }
}
