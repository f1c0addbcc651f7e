//! The roles that this process has: so that a recipe which is built for each request leads to the same copy of the set each
//! time.

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

/// A role, by its inputs as they are packed. All roles of a table have the same model.
struct ByInputs(Arc<HeldRole>);

impl Borrow<[u8]> for ByInputs {
    fn borrow(&self) -> &[u8] {
        self.0.inputs()
    }
}

impl PartialEq for ByInputs {
    fn eq(&self, other: &Self) -> bool {
        self.0.inputs() == other.0.inputs()
    }
}

impl Eq for ByInputs {}

impl Hash for ByInputs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.inputs().hash(state);
    }
}

/// The roles of one table. Users of the program may choose inputs, so both sets have hashes with a random key.
#[derive(Default)]
struct Roles {
    by_key: HashSet<ByKey>,
    /// The same roles. A recipe may be another one than that with which a role was asked for first, and have the same key:
    /// the order of its tags differs, or a time-out.
    by_inputs: HashSet<ByInputs>,
}

impl Roles {
    /// Keeps a role in place of that with its key.
    fn put(&mut self, role: &Arc<HeldRole>) -> [Option<Arc<HeldRole>>; 2] {
        let before = self.by_key.replace(ByKey(Arc::clone(role)));
        let before = before.map(|before| before.0);
        if let Some(before) = &before {
            self.by_inputs.remove(before.inputs());
        }
        let same = self.by_inputs.replace(ByInputs(Arc::clone(role)));
        [before, same.map(|same| same.0)]
    }

    /// Takes the roles that no other code of the process holds.
    fn take_unused(&mut self) -> Vec<Arc<HeldRole>> {
        // Each of the two sets has one.
        let unused = self.by_key.extract_if(|role| Arc::strong_count(&role.0) == 2);
        let unused: Vec<_> = unused.map(|role| role.0).collect();
        unused.iter().for_each(|role| {
            self.by_inputs.remove(role.inputs());
        });
        unused
    }
}

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
        TABLES.lock().push((id, Roles::default()));
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
        let role = self.with(|roles| Some(Arc::clone(&roles.by_key.get(key)?.0))).flatten()?;
        Some(self.now(role))
    }

    /// The role that was asked for with these inputs. The rest is as for [`get`](Self::get).
    pub(super) fn find(&self, inputs: &[u8]) -> Option<Result<Arc<HeldRole>, Fault>> {
        let role =
            self.with(|roles| Some(Arc::clone(&roles.by_inputs.get(inputs)?.0))).flatten()?;
        Some(self.now(role))
    }

    /// A role, on the entry that it has now.
    fn now(&self, role: Arc<HeldRole>) -> Result<Arc<HeldRole>, Fault> {
        let Some(moved) = role.moved() else { return Ok(role) };
        let moved = Arc::new(moved?);
        // Dropped after the lock is free.
        drop(self.with(|roles| roles.put(&moved)));
        Ok(moved)
    }

    /// The ARN of the role with `key`, if this process has it.
    pub(super) fn arn_of(&self, key: &Fingerprint) -> Option<String> {
        let role = self.with(|roles| Some(Arc::clone(&roles.by_key.get(key)?.0))).flatten()?;
        Some(role.role().arn().to_owned())
    }

    /// All roles.
    pub(super) fn all(&self) -> Vec<Arc<HeldRole>> {
        let all = |roles: &mut Roles| roles.by_key.iter().map(|role| Arc::clone(&role.0)).collect();
        self.with(all).unwrap_or_default()
    }

    /// Keeps a role. If another thread was faster, returns what that one kept.
    pub(super) fn insert(&self, role: HeldRole) -> Arc<HeldRole> {
        let role = Arc::new(role);
        let keep = |roles: &mut Roles| {
            let is_full = roles.by_key.len() > self.capacity;
            let unused = if is_full { roles.take_unused() } else { Vec::new() };
            let kept = match roles.by_key.get(role.key()) {
                Some(kept) => Arc::clone(&kept.0),
                None => {
                    roles.put(&role);
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

impl Drop for Table {
    fn drop(&mut self) {
        let mut tables = TABLES.lock();
        let place = tables.iter().position(|(id, _)| *id == self.id);
        let roles = place.map(|place| tables.swap_remove(place));
        drop(tables);
        drop(roles);
    }
}
