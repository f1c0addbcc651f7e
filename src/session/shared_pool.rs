//! A pool as programs hold it: made, opened, and asked for the sessions of roles.

use std::{
    process::{self, Command},
    sync::Arc,
    time::Duration,
};

use super::{
    Inner, SharedSession, SharedSessionBuilder,
    asking::Asker,
    builder::{self, ForPool},
    held_role::HeldRole,
    passed,
    pool::Pool,
    pool_rules::Rules,
    process_session::{ProcessSession, Settings},
    refresher_start::Start,
    registry, role,
    status::{LeaseHolder, Status},
};
use crate::{
    error::{Error, ErrorKind, Fault},
    name::SessionName,
    segment::{
        self, EntryWriter, Header, Key, Places, Segment,
        pool::{
            POOL_COUNTERS,
            layout::{self, PoolLayout},
        },
    },
    source::{AssumeRole, Fingerprint, Packing, Source},
    sys::random,
};

/// What a pool is made with, besides what a session has, too.
#[derive(Clone, Debug)]
pub(crate) struct PoolTerms {
    pub(crate) capacity: usize,
    /// For the header.
    pub(crate) text: String,
    /// Whether a dedicated process refreshes the roles that are used.
    pub(crate) eager: bool,
    /// Whether only the dedicated process can write.
    pub(crate) sealed: bool,
}

/// A pool. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct SharedPool {
    pub(super) shared: Arc<ProcessSession>,
    pub(super) pool: Arc<Pool>,
    pub(super) rules: Rules,
}

type Joined = (Arc<ProcessSession>, Arc<Segment>);

/// The most roles of a pool.
pub(crate) const MOST_ROLES: usize = layout::MOST_ENTRIES;

impl SharedPool {
    /// Makes a pool. The builder has its name, its base source and its places.
    pub(crate) fn create(
        builder: SharedSessionBuilder,
        terms: &PoolTerms,
        rules: Rules,
    ) -> Result<Self, Fault> {
        SharedPool::made(builder, terms, rules, segment::CREATION_LIMIT, true)
    }

    pub(crate) fn attach(builder: SharedSessionBuilder, rules: Rules) -> Result<Self, Fault> {
        open(builder, registry::attach).and_then(|joined| SharedPool::new(joined, rules))
    }

    pub(crate) fn attach_or_create(
        builder: SharedSessionBuilder,
        terms: &PoolTerms,
        rules: Rules,
    ) -> Result<Self, Fault> {
        let make = || SharedPool::made(builder.clone(), terms, rules, Duration::ZERO, false);
        let open = || SharedPool::new(open(builder.clone(), registry::attach_now)?, rules);
        builder::made_or_opened(make, open)
    }

    fn made(
        builder: SharedSessionBuilder,
        terms: &PoolTerms,
        rules: Rules,
        patience: Duration,
        may_be_nameless: bool,
    ) -> Result<Self, Fault> {
        let is_dedicated = terms.eager || terms.sealed;
        if is_dedicated {
            Start::check_fork("a pool that is eager or sealed")?;
        }
        let (joined, writer) = make(builder, terms, patience, may_be_nameless)?;
        let pool = SharedPool::new(joined, rules)?;
        if is_dedicated {
            pool.start_dedicated(writer)?;
        }
        Ok(pool)
    }

    fn new((shared, segment): Joined, rules: Rules) -> Result<Self, Fault> {
        Ok(SharedPool { pool: Pool::new(&shared, segment, rules, Arc::default())?, shared, rules })
    }

    /// The pool that has the name now, if this one was ended and another one has taken its place; else this one.
    ///
    /// # Errors
    /// `WrongSource` when the name is that of a pool with another base source, and this process has none itself.
    pub(crate) fn current(&self) -> Result<SharedPool, Fault> {
        Ok(SharedPool { pool: self.pool.current()?, ..self.clone() })
    }

    /// The pool that took this one's place, without a look for it; else this one.
    pub(crate) fn latest(&self) -> SharedPool {
        SharedPool { pool: self.pool.latest(), ..self.clone() }
    }

    pub(crate) fn name(&self) -> &str {
        self.pool.name.as_str()
    }

    /// What its creator wrote into the header.
    pub(crate) fn text(&self) -> &str {
        self.pool.text()
    }

    /// The fingerprint of the base source.
    pub(crate) fn base_fingerprint(&self) -> &Fingerprint {
        &self.pool.segment.header.fingerprint
    }

    /// The base source; `None` in a process that can only read.
    pub(crate) fn base(&self) -> Option<&Arc<dyn Source>> {
        self.pool.recipe.as_ref().map(|recipe| &recipe.source)
    }

    /// The role with that key, and the entry that it has now.
    pub(crate) fn role(&self, key: &Fingerprint, role: AssumeRole) -> Result<HeldRole, Fault> {
        let (pool, key, role) = (&self.pool, words(key), Arc::new(role));
        let (asker, may_insert) = (role::asker(&role), self.base().is_some());
        let index = pool.entry_of(&key, asker.as_ref(), may_insert, pool.wait_timeout)?;
        let held = HeldRole::new(pool, key, index, &role)?;
        Ok(match asker.filter(Asker::has_asked) {
            Some(asker) => held.asked(role, asker),
            None => held,
        })
    }

    /// The inputs of `role`, as those of the roles that this process has are packed. `None` before it has one.
    pub(crate) fn packed(&self, role: &AssumeRole) -> Option<Packing> {
        self.pool.model.load().as_ref().map(|model| role.packed(model))
    }

    /// Whether the roles of the pool must be such that its refresher can be asked for them.
    pub(crate) fn is_asked(&self) -> bool {
        let header = &self.pool.segment.header;
        header.eager || header.sealed
    }

    /// Takes its entry from the role with `key`.
    pub(crate) fn evict(&self, key: &Fingerprint, role: &AssumeRole) -> Result<bool, Fault> {
        let key = words(key);
        match self.pool.refresher().is_some() || !self.pool.segment.is_writable() {
            true => self.pool.asked_eviction(&key, role.clone()),
            false => self.pool.evict_role(&key),
        }
    }

    /// Keys of the entries that are in use, with their segments.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Fingerprint, SharedSession)> {
        let pool = &self.pool;
        let made = pool.segment.pool().map_or(0, |pool| pool.made());
        (0..made).filter_map(move |index| {
            let key = pool.segment.pool()?.key_of(index);
            let entry = pool.segment.entry(index, key)?;
            let (shared, segment) = role::look(pool, key, Arc::new(entry));
            (key != Key::default())
                .then(|| (bytemuck::cast(key), SharedSession::new(shared, segment)))
        })
    }

    /// The minute of the last use of each entry, since boot.
    pub(crate) fn last_use(&self, session: &SharedSession) -> u64 {
        self.pool.last_use(session.inner.segment.place().index())
    }

    pub(crate) fn capacity(&self) -> usize {
        self.pool.segment.pool().map_or(0, |pool| pool.capacity())
    }

    pub(crate) fn calls_per_second(&self) -> u32 {
        self.pool.budget.calls_per_second
    }

    pub(crate) fn counters(&self) -> [u64; POOL_COUNTERS] {
        self.pool.segment.pool().map_or([0; POOL_COUNTERS], |pool| pool.counters())
    }

    /// The process that refreshes the pool, dead or alive.
    pub(crate) fn refresher(&self) -> Option<LeaseHolder> {
        let (pool, key) = (&self.pool, Key::default());
        let (shared, segment) = role::look(pool, key, Arc::clone(&pool.segment));
        Status::of(&Inner::new(shared, segment)).ok()?.lease_holder().copied()
    }

    /// How long a call that is reserved now would wait for the budget.
    pub(crate) fn queue(&self) -> Duration {
        self.pool.queue(self.pool.clock.boot())
    }

    /// The part of the budget that is used.
    pub(crate) fn budget_used(&self) -> f64 {
        self.pool.budget_used(self.pool.clock.boot())
    }

    /// The current minute of the clock of [`last_use`](Self::last_use).
    pub(crate) fn minute(&self) -> u64 {
        self.pool.minute()
    }

    /// Lets the program that `command` starts attach to the pool, if that has no name.
    pub(crate) fn pass_to(&self, command: &mut Command) -> Result<(), Fault> {
        let (shared, segment) = (&self.shared, &self.pool.segment);
        if segment.path().is_some() {
            return Ok(());
        }
        passed::pass(&shared.name, segment, &shared.election_lock, command)
    }

    /// Removes the name of the pool, in the process that made it.
    pub(crate) fn unlink(&self) {
        self.shared.unlink();
    }

    /// This process uses the pool no longer.
    pub(crate) fn leave(&self) {
        self.shared.leave();
    }

    pub(crate) fn error(&self, operation: &'static str, fault: Fault) -> Error {
        fault.during(operation, self.name())
    }
}

fn words(key: &Fingerprint) -> Key {
    bytemuck::cast(*key)
}

fn make(
    builder: SharedSessionBuilder,
    terms: &PoolTerms,
    patience: Duration,
    may_be_nameless: bool,
) -> Result<(Joined, Option<EntryWriter>), Fault> {
    let ForPool { name, places, settings, last_user_removes, optional } = builder.for_pool()?;
    if terms.sealed && last_user_removes {
        let text = "removed_by_last_user: a sealed pool has no names; leave it out";
        return Err(Fault::new(ErrorKind::InvalidInput, text));
    }
    let Some(recipe) = &settings.recipe else {
        let text = "base_source: none is given; a pool needs one that assumes the roles";
        return Err(Fault::new(ErrorKind::InvalidInput, text));
    };
    if recipe.source.is_manual() {
        let text = "base_source: it is manual; the library must be able to ask it";
        return Err(Fault::new(ErrorKind::InvalidInput, text));
    }
    let fingerprint = recipe.source.fingerprint();
    let header = || {
        Ok(Header {
            instance: random::number()?,
            creator: process::id(),
            time_namespace: segment::time_namespace(),
            fingerprint,
            description: terms.text.clone(),
            eager: terms.eager,
            sealed: terms.sealed,
            secret: false,
            last_user_removes,
            readers: None,
            consumers_keep: 0,
            pool: Some(PoolLayout::new(terms.capacity)),
        })
    };
    if terms.sealed {
        let (shared, segment, writer) = registry::create_sealed(name, header, settings)?;
        return Ok(((shared, segment), Some(writer)));
    }
    match registry::create(&name, &places, header, settings, patience) {
        Ok(joined) => {
            if last_user_removes {
                registry::remove_leftovers(&joined.0.name);
            }
            Ok((joined, None))
        }
        Err(unplaced) if may_be_nameless => {
            Ok((builder::in_memory_files(name, header, *unplaced, optional)?, None))
        }
        Err(unplaced) => Err(unplaced.fault()),
    }
}

fn open(
    builder: SharedSessionBuilder,
    attach: fn(&SessionName, &Places, &Settings) -> Result<Joined, Fault>,
) -> Result<Joined, Fault> {
    let ForPool { name, places, settings, .. } = builder.for_pool()?;
    let joined = attach(&name, &places, &settings)?;
    let header = &joined.1.header;
    if header.pool.is_none() {
        let text = "name: it is the name of a session; use SharedSession::attach, or another name";
        return Err(Fault::new(ErrorKind::InvalidInput, text));
    }
    settings.check_source(header)?;
    Ok(joined)
}
