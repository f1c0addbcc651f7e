//! The roles that this process has: so that a recipe which is built for each request leads to the same copy of the set each
//! time.

#![expect(clippy::mutable_key_type, reason = "what changes in a role is not its key")]

use std::{
    borrow::Borrow,
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::{
        Arc, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    error::Fault,
    session::HeldRole,
    source::Fingerprint,
    sys::fork::{ForkLock, LockOrder},
};

/// A role, by its key.
#[derive(Clone)]
struct ByKey(Arc<HeldRole>);

impl Borrow<Fingerprint> for ByKey {
    fn borrow(&self) -> &Fingerprint {
        self.0.key()
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

type Roles = HashSet<ByKey>;

/// Of all pools of the process, under a lock that is free in each forked child.
static TABLES: ForkLock<Vec<(u64, Roles)>> = ForkLock::new(LockOrder::Roles, Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The roles of one pool.
#[derive(Debug)]
pub(super) struct Table {
    id: u64,
    /// The number of roles that the pool holds. More than that have lost their entries.
    capacity: usize,
}

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        // Relaxed: the number only has to differ.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        TABLES.lock().push((id, Roles::new()));
        Table { id, capacity }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Roles) -> T) -> Option<T> {
        let mut tables: MutexGuard<'_, Vec<(u64, Roles)>> = TABLES.lock();
        let table = tables.iter_mut().find(|(id, _)| *id == self.id)?;
        Some(work(&mut table.1))
    }

    /// The role with `key`, on the entry that it has now.
    ///
    /// # Errors
    /// Those of a look at that entry.
    pub(super) fn get(&self, key: &Fingerprint) -> Option<Result<Arc<HeldRole>, Fault>> {
        let role = self.with(|roles| Some(Arc::clone(&roles.get(key)?.0))).flatten()?;
        match role.moved() {
            None => Some(Ok(role)),
            Some(Err(fault)) => Some(Err(fault)),
            Some(Ok(moved)) => {
                let moved = Arc::new(moved);
                // Dropped after the lock is free.
                drop(self.with(|roles| roles.replace(ByKey(Arc::clone(&moved)))));
                Some(Ok(moved))
            }
        }
    }

    /// The ARN of the role with `key`, if this process has it.
    pub(super) fn arn_of(&self, key: &Fingerprint) -> Option<String> {
        let role = self.with(|roles| Some(Arc::clone(&roles.get(key)?.0))).flatten()?;
        Some(role.role().arn().to_owned())
    }

    /// All roles.
    pub(super) fn all(&self) -> Vec<Arc<HeldRole>> {
        let all = |roles: &mut Roles| roles.iter().map(|role| Arc::clone(&role.0)).collect();
        self.with(all).unwrap_or_default()
    }

    /// Keeps a role. If another thread was faster, returns what that one kept.
    pub(super) fn insert(&self, role: HeldRole) -> Arc<HeldRole> {
        let role = Arc::new(role);
        let keep = |roles: &mut Roles| {
            let unused = if roles.len() > self.capacity { unused(roles) } else { Vec::new() };
            let kept = match roles.get(role.key()) {
                Some(kept) => Arc::clone(&kept.0),
                None => {
                    roles.insert(ByKey(Arc::clone(&role)));
                    Arc::clone(&role)
                }
            };
            (kept, unused)
        };
        match self.with(keep) {
            // The unused ones are dropped here, after the lock is free.
            Some((kept, _unused)) => kept,
            None => role,
        }
    }
}

/// Takes the roles that no other code of the process holds.
fn unused(roles: &mut Roles) -> Vec<ByKey> {
    roles.extract_if(|role| Arc::strong_count(&role.0) == 1).collect()
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut tables = TABLES.lock();
        let place = tables.iter().position(|(id, _)| *id == self.id);
        let roles = place.map(|place| tables.swap_remove(place));
        drop(tables);
        drop(roles);
    }
}
