//! Taking the entry of a pool from a role: from the one that was used least recently, or from one that is named.

use std::{sync::atomic::Ordering, time::Duration};

use super::pool::{Freed, Pool};
use crate::{
    error::Fault,
    refresh::{
        election::{self, Outcome},
        publish,
    },
    segment::Key,
    sys::random,
};

/// The lease of a process that takes an entry from a role.
const EVICTION_LEASE: Duration = Duration::from_secs(5);
/// How many of the entries that were used least recently are tried, until one is free.
const CANDIDATES: usize = 64;

impl Pool {
    /// Frees the entry that was used least recently and is not being refreshed.
    pub(super) fn evict_least_recent(&self) -> Result<Freed, Fault> {
        let Some(pool) = self.segment.pool() else { return Ok(Freed::None) };
        // A random number decides between entries of one minute. Otherwise all processes would try the same.
        let salt = random::number()?;
        let uses = self.lock.requests().last_uses().iter().take(pool.made()).enumerate();
        let mut entries: Vec<(u64, u64, usize)> = uses
            .map(|(index, minute)| {
                let mixed = (index as u64 ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (minute.load(Ordering::Relaxed), mixed, index)
            })
            .collect();
        if entries.len() > CANDIDATES {
            entries.select_nth_unstable(CANDIDATES);
            entries.truncate(CANDIDATES);
        }
        entries.sort_unstable();
        for (_, _, index) in entries {
            let key = pool.key_of(index);
            if key == Key::default() {
                return Ok(Freed::Before);
            }
            if self.evict(index, &key)? {
                return Ok(Freed::Now);
            }
        }
        Ok(Freed::None)
    }

    /// Takes the entry from the role with `key`. False when the role has no entry, or it is being refreshed.
    pub(super) fn evict_role(&self, key: &Key) -> Result<bool, Fault> {
        match self.segment.pool().and_then(|pool| pool.find(key)) {
            Some(index) => self.evict(index, key),
            None => Ok(false),
        }
    }

    fn evict(&self, index: usize, key: &Key) -> Result<bool, Fault> {
        let segment = self.segment_of(index, key)?;
        let lock = self.lock.for_entry();
        let Some(guard) = lock.try_lock_election(&segment) else { return Ok(false) };
        // A thread of this process that is elected for the entry has its mark there, so it counts as elected.
        let now = self.clock.boot();
        let outcome = election::stand(guard, segment.writable()?, now, EVICTION_LEASE)?;
        let Outcome::Won(elected) = outcome else { return Ok(false) };
        let is_its = self.segment.pool().is_some_and(|pool| pool.key_of(index) == *key);
        let evicted = is_its && publish::eviction(&elected)?;
        elected.resign();
        Ok(evicted)
    }
}
