//! The description of a pool, before it is made or opened.

use std::{path::Path, sync::Arc, time::Duration};

use super::{RULES, SharedRoles, allow::Allowed};
use crate::{
    error::{Error, ErrorKind, Fault},
    session::{MOST_ROLES, PoolTerms, Refresh, SharedPool, SharedSession, SharedSessionBuilder},
    source::Source,
};

/// Bytes of the patterns: they are in the header page.
const MOST_TEXT: usize = 3500;
const DEFAULT_CAPACITY: usize = 1_000;
/// A fraction of what STS allows an account by default.
const DEFAULT_RATE: u32 = 50;

/// Describes a pool; made by [`SharedRoles::builder`]. Everything is checked by [`create`](Self::create) and
/// [`attach`](Self::attach), before anything is made.
#[derive(Clone, Debug)]
#[must_use]
pub struct SharedRolesBuilder {
    name: String,
    session: SharedSessionBuilder,
    allow: Vec<String>,
    capacity: usize,
    calls_per_second: u32,
    refresh: Refresh,
    sealed: bool,
}

impl SharedRolesBuilder {
    pub(super) fn new(name: String) -> Self {
        SharedRolesBuilder {
            session: SharedSession::builder(name.as_str()),
            name,
            allow: Vec::new(),
            capacity: DEFAULT_CAPACITY,
            calls_per_second: DEFAULT_RATE,
            refresh: Refresh::default(),
            sealed: false,
        }
    }

    /// Who assumes the roles: the source of the credentials that sign the calls of STS.
    pub fn base_source(mut self, source: impl Source) -> Self {
        self.session = self.session.source(Arc::new(source) as Arc<dyn Source>);
        self
    }

    /// Adds a pattern of ARNs; at least one is needed. The pool refuses all roles that fit no pattern. `*` stands for any
    /// characters and `?` for one, within one part of the ARN between colons, as in policies of IAM. All patterns together
    /// have at most 3,500 characters.
    pub fn allow(mut self, pattern: impl Into<String>) -> Self {
        self.allow.push(pattern.into());
        self
    }

    /// How many roles the pool holds at a time: 1 to 16,000, and 1,000 by default. When one more is asked for, the role
    /// that was used least recently goes. Memory is taken as it is needed, about 3.5 KiB for each role.
    pub fn capacity(mut self, roles: usize) -> Self {
        self.capacity = roles;
        self
    }

    /// How many calls of STS all processes of the pool make per second, at most: 1 to 100,000, and 50 by default. The calls
    /// of one second may be made at once. When STS throttles, the pool makes half as many, and recovers with the calls that
    /// follow.
    pub fn calls_per_second(mut self, calls: u32) -> Self {
        self.calls_per_second = calls;
        self
    }

    /// Who refreshes: [`Deferred`](Refresh::Deferred) by default. The process that creates the pool decides.
    ///
    /// In a pool with [`Refresh::Eager`], a dedicated process makes all calls of STS. [`create`](Self::create) forks it.
    /// Other processes ask it for roles, also those that have no base source. It refreshes each role that was used since its
    /// last refresh, so that no reader waits. The others expire. If it dies, its parent starts it again. In the meantime,
    /// processes with a base source make the calls themselves. It ends with the last process that uses the pool.
    ///
    /// A role of such a pool has no proxy and no CA bundle of its own: the refresher takes those of its environment.
    pub fn refresh(mut self, refresh: Refresh) -> Self {
        self.refresh = refresh;
        self
    }

    /// Keeps the pool in memory that has no name, and that only a dedicated process can write: see
    /// [`SharedSessionBuilder::sealed`]. Workers inherit the pool by fork, and ask that process for roles. They can read the
    /// whole pool, and write nothing of it. Without [`Refresh::Eager`], roles are refreshed only when a reader asks.
    pub fn sealed(mut self) -> Self {
        self.session = self.session.sealed();
        self.sealed = true;
        self
    }

    /// As [`SharedSessionBuilder::advisory_window`], for each role.
    pub fn advisory_window(mut self, window: Duration) -> Self {
        self.session = self.session.advisory_window(window);
        self
    }

    /// As [`SharedSessionBuilder::mandatory_window`], for each role.
    pub fn mandatory_window(mut self, window: Duration) -> Self {
        self.session = self.session.mandatory_window(window);
        self
    }

    /// As [`SharedSessionBuilder::refresh_spread`], for each role: roles that came together are not refreshed together.
    pub fn refresh_spread(mut self, part: f64) -> Self {
        self.session = self.session.refresh_spread(part);
        self
    }

    /// As [`SharedSessionBuilder::directory`].
    pub fn directory(mut self, path: impl AsRef<Path>) -> Self {
        self.session = self.session.directory(path);
        self
    }

    /// As [`SharedSessionBuilder::removed_by_last_user`].
    pub fn removed_by_last_user(mut self) -> Self {
        self.session = self.session.removed_by_last_user();
        self
    }

    /// How long a caller waits when there is nothing valid. 30 s by default.
    pub fn wait_timeout(mut self, limit: Duration) -> Self {
        self.session = self.session.wait_timeout(limit);
        self
    }

    /// Replaces the kernel's clock.
    #[cfg(feature = "testing")]
    pub fn clock(mut self, clock: &crate::testing::ManualClock) -> Self {
        self.session = self.session.clock(clock);
        self
    }

    /// Makes the pool. Leaves no thread or child of this process behind, and so belongs before `fork`. Makes no call.
    ///
    /// # Errors
    /// Those of [`SharedSessionBuilder::create`]. [`InvalidInput`](ErrorKind::InvalidInput) also for wrong patterns and
    /// numbers. In a process with several threads [`Multithreaded`](ErrorKind::Multithreaded), if the pool is eager or
    /// sealed.
    pub fn create(self) -> Result<SharedRoles, Error> {
        let make = || {
            let terms = self.terms()?;
            SharedRoles::new(SharedPool::create(self.session.clone(), &terms, RULES)?)
        };
        make().map_err(|fault| fault.during("create", &self.name))
    }

    /// Opens the pool, as [`SharedRoles::attach`] does, with these settings. With a base source, this process can ask STS.
    /// Patterns, capacity and rate are those of the pool that is there.
    ///
    /// # Errors
    /// Those of [`SharedRoles::attach`], and [`WrongSource`](ErrorKind::WrongSource) when the pool has another base source.
    pub fn attach(self) -> Result<SharedRoles, Error> {
        let open = || SharedRoles::new(SharedPool::attach(self.session.clone(), RULES)?);
        open().map_err(|fault| fault.during("attach", &self.name))
    }

    /// Opens the pool, or makes it where no process uses one of that name: see
    /// [`SharedSessionBuilder::attach_or_create`].
    ///
    /// # Errors
    /// Those of [`create`](Self::create) and [`attach`](Self::attach); [`WrongSource`](ErrorKind::WrongSource) also when
    /// the pool that is there allows other roles.
    pub fn attach_or_create(self) -> Result<SharedRoles, Error> {
        let open = || {
            let terms = self.terms()?;
            let session = self.session.clone();
            let pool = SharedPool::attach_or_create(session, &terms, RULES)?;
            let roles = SharedRoles::new(pool)?;
            if roles.handle.allowed != Allowed::new(self.allow.clone()).map_err(invalid)? {
                let text = "the pool that is there allows other roles; give both processes the same patterns, or choose \
                            another name";
                return Err(Fault::new(ErrorKind::WrongSource, text));
            }
            Ok(roles)
        };
        open().map_err(|fault| fault.during("attach_or_create", &self.name))
    }

    fn terms(&self) -> Result<PoolTerms, Fault> {
        let allowed = Allowed::new(self.allow.clone()).map_err(invalid)?;
        let (capacity, calls_per_second) = (self.capacity, self.calls_per_second);
        if !(1..=MOST_ROLES).contains(&capacity) {
            return Err(invalid(format!("capacity: is {capacity}; it must be 1 to {MOST_ROLES}")));
        }
        if !(1..=100_000).contains(&calls_per_second) {
            let text = format!("calls_per_second: is {calls_per_second}; it must be 1 to 100000");
            return Err(invalid(text));
        }
        let text = allowed.text(calls_per_second);
        if text.len() > MOST_TEXT {
            let text = format!(
                "allow: the patterns have {} characters; all together may have {MOST_TEXT}",
                text.len()
            );
            return Err(invalid(text));
        }
        Ok(PoolTerms { capacity, text, eager: self.refresh == Refresh::Eager, sealed: self.sealed })
    }
}

fn invalid(text: impl Into<String>) -> Fault {
    Fault::new(ErrorKind::InvalidInput, text)
}
