//! A pool in this process: which entry a role has, and when STS may be called. Which role loses its entry: `eviction.rs`.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;

use super::{creator::Creator, pool_rules::Rules, unreachable::Unreachable};
use crate::{
    clock::{Clock, as_nanos},
    error::{ErrorKind, Fault},
    name::SessionName,
    refresh::{
        election::Elected,
        election_lock::ElectionLock,
        fetch::{Job, Recipe},
        policy::Windows,
    },
    segment::{
        Key, Published, Segment, lock_inode,
        pool::{Budget, PoolCounter, Reserved},
    },
    source::AssumeRole,
};

/// How often a new role looks for an entry: other processes may take each one that becomes free.
const ATTEMPTS: usize = 64;
/// Nanoseconds of a minute.
const MINUTE: u64 = 60_000_000_000;

/// A search for an entry that can be freed.
pub(super) enum Freed {
    /// An entry is free by now.
    Now,
    /// An entry was free already.
    Before,
    /// All entries are being refreshed.
    None,
}

/// What all roles of a pool share in a process.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: SessionName,
    /// The whole pool; see [`Segment::entry`].
    pub(super) segment: Arc<Segment>,
    pub(super) lock: Arc<ElectionLock>,
    pub(super) budget: Budget,
    pub(super) windows: Windows,
    pub(super) clock: Clock,
    pub(super) wait_timeout: Duration,
    pub(super) creator: Option<Creator>,
    pub(super) unreachable: Unreachable,
    pub(super) rules: Rules,
    /// The base source; `None` in a process that can only read.
    pub(super) recipe: Option<Recipe>,
    /// The role from which the roles that this process has differ in few inputs: the first one. See `source/assume_role/packed.rs`.
    /// The pool that takes this one's place has the same model. So equal bytes always stand for equal inputs.
    pub(super) model: Arc<ArcSwapOption<AssumeRole>>,
    /// The pool that took this one's place when this one had been ended.
    pub(super) successor: ArcSwapOption<Successor>,
}

/// A pool that took the place of another one.
#[derive(Debug)]
pub(super) struct Successor {
    pub(super) pool: Arc<Pool>,
    /// This process counts as a user of the pool as long as it has this.
    pub(super) _share: Arc<dyn Any + Send + Sync>,
}

impl Pool {
    /// Whether the name still leads to this pool.
    pub(super) fn has_its_name(&self) -> bool {
        lock_inode(&self.name) == Some(self.lock.locks().inode())
    }

    /// The segment, as that of one entry.
    pub(super) fn segment_of(&self, index: usize, key: &Key) -> Result<Arc<Segment>, Fault> {
        self.segment.entry(index, *key).map(Arc::new).ok_or_else(no_pool)
    }

    /// The version of the newest set of an entry.
    pub(super) fn published_of(&self, index: usize) -> Result<Published, Fault> {
        self.segment.published_of(index).ok_or_else(no_pool)
    }

    /// The model of the roles that this process has: `role`, if there is none yet.
    pub(super) fn model(&self, role: &AssumeRole) -> Arc<AssumeRole> {
        if let Some(model) = self.model.load_full() {
            return model;
        }
        let own = Arc::new(role.clone());
        // Another thread may be faster. The first model stays.
        let first = self.model.compare_and_swap(&None::<Arc<AssumeRole>>, Some(Arc::clone(&own)));
        Option::clone(&first).unwrap_or(own)
    }

    /// Gives the role with `key` an entry; when all are used, that which was used least recently.
    ///
    /// # Errors
    /// `Full` when all entries are being refreshed; `NoSpace` when the kernel has no memory for another entry.
    pub(super) fn insert(&self, key: &Key) -> Result<usize, Fault> {
        let writable = self.segment.writable()?;
        let Some(pool) = writable.pool() else { unreachable!("the segment is that of a pool") };
        let mut is_damaged = false;
        for _ in 0..ATTEMPTS {
            let guard = pool.lock(self.lock.locks())?;
            if is_damaged {
                guard.rebuild();
            }
            let found = match guard.find(key) {
                Some(index) => Some(index),
                None => guard.insert(key)?,
            };
            // Before another process can find it unused.
            found.inspect(|index| self.note_use(*index, self.clock.boot()));
            drop(guard);
            if let Some(index) = found {
                return Ok(index);
            }
            match self.evict_least_recent()? {
                Freed::Now => is_damaged = false,
                // Another process has freed it since, or the list of free entries is damaged.
                Freed::Before => is_damaged = true,
                Freed::None => break,
            }
        }
        pool.count(PoolCounter::Refusals);
        Err(self.full())
    }

    pub(super) fn full(&self) -> Fault {
        let capacity = self.segment.pool().map_or(0, |pool| pool.capacity());
        let text = format!(
            "all {capacity} entries of the pool are in use; make it with a larger capacity, or try again"
        );
        Fault::new(ErrorKind::Full, text)
    }

    /// Notes that a role is used, for the choice of the next entry that goes.
    pub(super) fn note_use(&self, index: usize, now: u64) {
        self.lock.requests().note_use(index, minute(now));
    }

    /// The minute of the last use of an entry.
    pub(super) fn last_use(&self, index: usize) -> u64 {
        let uses = self.lock.requests().last_uses();
        uses.get(index).map_or(0, |minute| minute.load(Ordering::Relaxed))
    }

    /// The current minute of the boot clock, as [`note_use`](Self::note_use) writes it.
    pub(super) fn minute(&self) -> u64 {
        minute(self.clock.boot())
    }

    /// Whether the role with `key` has an entry with a set.
    pub(super) fn has_set(&self, key: &Key) -> bool {
        let index = self.segment.pool().and_then(|pool| pool.find(key));
        let published = index.and_then(|index| self.segment.published_of(index));
        published.is_some_and(|published| !published.version().is_empty())
    }

    /// Reserves a call within `limit`, and extends the lease by the time until then. Without a call in time it resigns: that
    /// is the inner error.
    pub(super) fn reserve_call(
        &self,
        mut elected: Elected,
        job: Job,
        limit: Duration,
    ) -> Result<Result<(Elected, Job), Fault>, Fault> {
        let Some(memory) = elected.view().pool() else { return Ok(Ok((elected, job))) };
        let now = self.clock.boot();
        match self.reserve(memory.budget(), limit) {
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

    /// Whether only roles without a set may use the budget at the moment.
    pub(super) fn is_scarce(&self, now: u64) -> bool {
        self.segment.pool().is_some_and(|pool| self.budget.is_scarce(pool.budget(), now))
    }

    /// How long a call that is reserved now would wait.
    pub(super) fn queue(&self, now: u64) -> Duration {
        let budget = self.segment.pool().map_or(0, |pool| pool.budget());
        self.budget.queue(budget, now)
    }

    /// The part of the budget that is used.
    pub(super) fn budget_used(&self, now: u64) -> f64 {
        let budget = self.segment.pool().map_or(0, |pool| pool.budget());
        self.budget.used(budget, now)
    }

    /// Reserves a call of STS within `limit`.
    ///
    /// # Errors
    /// `SourceThrottled` when the budget does not allow it in time.
    fn reserve(&self, budget: &AtomicU64, limit: Duration) -> Result<Duration, Fault> {
        match self.budget.reserve(budget, self.clock.boot(), limit) {
            Reserved::After(wait) => Ok(wait),
            Reserved::Refused(after) => Err(self.throttled(after)),
        }
    }

    /// The error of a caller for which the budget had no call in time.
    pub(super) fn throttled(&self, after: Duration) -> Fault {
        let rate = self.budget.calls_per_second;
        let text = format!(
            "throttled by the budget of this pool: its processes make {rate} calls of STS per second at most, fewer \
             after STS has throttled; raise calls_per_second, or wait longer"
        );
        Fault::new(ErrorKind::SourceThrottled, text).retry_after(after)
    }
}

fn no_pool() -> Fault {
    Fault::new(ErrorKind::WrongMagic, "it is not a pool")
}

/// The minute of a time since boot. Never 0: that is a free entry.
pub(super) fn minute(now: u64) -> u64 {
    now / MINUTE + 1
}
