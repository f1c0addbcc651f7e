//! The sessions of roles that this process has: so that a recipe which is built for each request leads to the same
//! snapshot of the set each time.

use std::{
    collections::HashMap,
    sync::{
        MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    session::SharedSession,
    source::Fingerprint,
    sys::fork::{ForkLock, LockOrder},
};

type Sessions = HashMap<Fingerprint, SharedSession>;

/// Of all pools of the process, under a lock that is free in each forked child.
static TABLES: ForkLock<Vec<(u64, Sessions)>> = ForkLock::new(LockOrder::Roles, Vec::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The sessions of one pool.
#[derive(Debug)]
pub(super) struct Table {
    id: u64,
    /// The number of roles that the pool holds. More sessions than that are of roles that lost their entries.
    capacity: usize,
}

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        // Relaxed: the number only has to differ.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        TABLES.lock().push((id, Sessions::new()));
        Table { id, capacity }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Sessions) -> T) -> Option<T> {
        let mut tables: MutexGuard<'_, Vec<(u64, Sessions)>> = TABLES.lock();
        let table = tables.iter_mut().find(|(id, _)| *id == self.id)?;
        Some(work(&mut table.1))
    }

    /// The session of the role with `key`, on the entry that it has now.
    pub(super) fn get(&self, key: &Fingerprint) -> Option<SharedSession> {
        let session = self.with(|sessions| sessions.get(key).cloned()).flatten()?;
        match session.moved() {
            None => Some(session),
            Some(moved) => {
                let replace = |sessions: &mut Sessions| sessions.insert(*key, moved.clone());
                // Dropped after the lock is free.
                drop(self.with(replace));
                Some(moved)
            }
        }
    }

    /// The ARN of the role with `key`, if this process has its session.
    pub(super) fn arn_of(&self, key: &Fingerprint) -> Option<String> {
        let arn = |sessions: &mut Sessions| Some(sessions.get(key)?.role_arn()?.to_owned());
        self.with(arn).flatten()
    }

    /// All sessions.
    pub(super) fn all(&self) -> Vec<SharedSession> {
        self.with(|sessions| sessions.values().cloned().collect()).unwrap_or_default()
    }

    /// Keeps a session. If another thread was faster, returns the session of that.
    pub(super) fn insert(&self, key: Fingerprint, session: SharedSession) -> SharedSession {
        let keep = |sessions: &mut Sessions| {
            let unused = if sessions.len() > self.capacity { unused(sessions) } else { Vec::new() };
            let kept = sessions.entry(key).or_insert_with(|| session.clone()).clone();
            (kept, unused)
        };
        match self.with(keep) {
            // The unused ones are dropped here, after the lock is free.
            Some((kept, _unused)) => kept,
            None => session,
        }
    }
}

/// Takes the sessions that no other code of the process holds.
fn unused(sessions: &mut Sessions) -> Vec<SharedSession> {
    sessions.extract_if(|_, session| !session.is_held()).map(|(_, session)| session).collect()
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut tables = TABLES.lock();
        let place = tables.iter().position(|(id, _)| *id == self.id);
        let sessions = place.map(|place| tables.swap_remove(place));
        drop(tables);
        drop(sessions);
    }
}
