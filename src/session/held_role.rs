//! A role that a process has: the few bytes that tell its entry and its inputs, and copies of its newest set.
//!
//! A process may have thousands of roles, and nearly all of them have a fresh set. Such a set is read here. Whatever else a
//! role needs, its session does: to wait, to fetch, to tell the state. The session is made for that, and dropped when
//! the set is fresh again. While there is a session, the copies of the set are those of the session.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use aws_credential_types::{
    Credentials,
    provider::{self, ProvideCredentials, future},
};

use super::{
    SharedSession,
    asking::Asker,
    pool::Pool,
    role,
    snapshot::{Current, Phase, Snapshot},
};
use crate::{
    error::{Error, Fault},
    segment::{Key, Published},
    source::{AssumeRole, Fingerprint, PackedRole},
    sys::copies::{self, Copies},
};

/// A role of a pool, in this process.
pub(crate) struct HeldRole {
    pool: Arc<Pool>,
    key: Key,
    /// The version of the newest set of the entry. Its address tells the number of the entry.
    published: Published,
    inputs: PackedRole,
    /// None while there is a session.
    copies: Copies<Snapshot>,
    session: ArcSwapOption<Session>,
}

/// The session of the role, while something needs it.
struct Session {
    session: SharedSession,
    /// It stays for as long as the role: the program has got a part of it.
    is_given: AtomicBool,
}

impl HeldRole {
    /// The role with `key`, which has the entry at `index`.
    pub(super) fn new(
        pool: &Arc<Pool>,
        key: Key,
        index: usize,
        role: &AssumeRole,
    ) -> Result<Self, Fault> {
        let inputs = PackedRole::new(&role.packed(&pool.model(role)));
        Ok(HeldRole {
            published: pool.published_of(index)?,
            pool: Arc::clone(pool),
            key,
            inputs,
            copies: Copies::new(),
            session: ArcSwapOption::empty(),
        })
    }

    /// The same, for which `asker` has just asked the refresher: the session knows that, and does not ask again.
    pub(super) fn asked(self, role: Arc<AssumeRole>, asker: Asker) -> Self {
        self.session.store(Some(self.made_session(role, Some(asker))));
        self
    }

    pub(crate) fn key(&self) -> &Fingerprint {
        bytemuck::cast_ref(&self.key)
    }

    /// The inputs of the role, packed.
    pub(crate) fn inputs(&self) -> &[u8] {
        self.inputs.bytes()
    }

    /// The inputs of the role, without its base source.
    pub(crate) fn role(&self) -> AssumeRole {
        match &*self.pool.model.load() {
            Some(model) => self.inputs.role(model),
            None => unreachable!("the pool has a model as soon as it has a role"),
        }
    }

    /// The role, with the base source of its pool if this process has that.
    fn role_with_base(&self) -> Arc<AssumeRole> {
        Arc::new(match &self.pool.recipe {
            Some(base) => self.role().of_pool(Arc::clone(&base.source)),
            None => self.role(),
        })
    }

    /// The key and the role, if the refresher of its pool can be asked for it.
    pub(super) fn askable(&self) -> Option<(Key, Arc<AssumeRole>)> {
        let role = self.role_with_base();
        role.check_asking().is_ok().then_some((self.key, role))
    }

    /// As [`SharedSession::credentials`].
    #[inline(always)]
    pub(crate) fn credentials(&self) -> Result<Credentials, Error> {
        match self.quick() {
            Some(current) => current.credentials(),
            None => self.looked_up(SharedSession::credentials),
        }
    }

    /// As [`SharedSession::credentials_within`].
    pub(crate) fn credentials_within(&self, limit: Duration) -> Result<Credentials, Error> {
        match self.quick() {
            Some(current) => current.credentials(),
            None => self.looked_up(|session| session.credentials_within(limit)),
        }
    }

    /// The credentials as `read` gives them, where a look at the clock or the entry is due.
    #[cold]
    fn looked_up(
        &self,
        read: impl FnOnce(&SharedSession) -> Result<Credentials, Error>,
    ) -> Result<Credentials, Error> {
        match self.fresh() {
            Some(snapshot) => Ok(snapshot.credentials.clone()),
            None => self.with_session(read),
        }
    }

    /// For the SDK. As that of a session.
    #[inline(always)]
    pub(crate) fn provide(&self) -> future::ProvideCredentials<'_> {
        match self.quick() {
            Some(current) => future::ProvideCredentials::ready(current.credentials()),
            None => future::ProvideCredentials::new(self.provide_looked_up()),
        }
    }

    #[cold]
    fn provide_looked_up(&self) -> Pin<Box<dyn Future<Output = provider::Result> + Send + '_>> {
        Box::pin(async move {
            if let Some(snapshot) = self.fresh() {
                return Ok(snapshot.credentials.clone());
            }
            let session = self.session();
            let provided = session.session.provide_credentials().await;
            self.settle(&session);
            provided
        })
    }

    /// As `Inner::quick`.
    #[inline(always)]
    fn quick(&self) -> Option<Current<'_>> {
        let record = copies::known()?;
        let tick = self.pool.clock.tick();
        let snapshot = self.copies.lend(record)?;
        let current = self.is_current(&snapshot) && snapshot.is_verified(tick);
        current.then_some(Current(snapshot))
    }

    /// As `Inner::is_current`.
    #[inline(always)]
    fn is_current(&self, snapshot: &Snapshot) -> bool {
        self.published.version() == snapshot.life.version
    }

    /// The newest set, if it is fresh, and the entry is still that of the role. `None` also where the session must look.
    fn fresh(&self) -> Option<Arc<Snapshot>> {
        if self.session.load().is_some() {
            return None;
        }
        let (tick, now) = (self.pool.clock.tick(), self.pool.clock.boot());
        let index = self.pool.segment.index_of(&self.published)?;
        self.pool.note_use(index, now);
        if self.pool.segment.pool()?.key_of(index) != self.key {
            return None;
        }
        let snapshot = self.newest(index, now)?;
        snapshot.verify(tick);
        Some(snapshot)
    }

    /// The newest set, decoded once for each place of `copies`, if it is fresh.
    fn newest(&self, index: usize, now: u64) -> Option<Arc<Snapshot>> {
        let is_fresh = |snapshot: &Snapshot| snapshot.life.phase(now) == Phase::Fresh;
        // A thread that ends has no place.
        let record = copies::claimed()?;
        let known = self.copies.get(record).filter(|snapshot| self.is_current(snapshot));
        if known.is_some() {
            return known.filter(|snapshot| is_fresh(snapshot));
        }
        let place = self.pool.segment.place_of(index, self.key)?;
        let read = Snapshot::read(self.pool.segment.view_at(&place)).ok()??;
        let snapshot = Some(Arc::new(read)).filter(|snapshot| is_fresh(snapshot))?;
        self.keep(&snapshot);
        Some(snapshot)
    }

    /// Keeps a copy for this thread.
    fn keep(&self, snapshot: &Arc<Snapshot>) {
        let Some(record) = copies::claimed() else { return };
        let version = snapshot.life.version.word();
        // The session that another thread has made meanwhile takes the copies away, or the look for it sees it: as that for a
        // newer version, see `Copies::renew`.
        let is_newest = || self.is_current(snapshot) && self.session.load().is_none();
        self.copies.renew(record, version, Arc::clone(snapshot), is_newest);
    }

    /// Does what a session does.
    pub(crate) fn with_session<T>(&self, work: impl FnOnce(&SharedSession) -> T) -> T {
        let session = self.session();
        let outcome = work(&session.session);
        self.settle(&session);
        outcome
    }

    /// The same, for work that goes on after this returns.
    pub(crate) async fn with_session_async<T, F>(&self, work: impl FnOnce(SharedSession) -> F) -> T
    where
        F: Future<Output = T>,
    {
        let session = self.session();
        let outcome = work(session.session.clone()).await;
        self.settle(&session);
        outcome
    }

    /// The session, for a program that keeps a part of it. It is the same each time.
    pub(crate) fn given(&self) -> SharedSession {
        loop {
            let session = self.session();
            // SeqCst, with the load in `settle`: this thread sees that the session was taken away, or that one sees the mark.
            session.is_given.store(true, Ordering::SeqCst);
            if self.has(&session) {
                return session.session.clone();
            }
        }
    }

    fn has(&self, session: &Arc<Session>) -> bool {
        self.session.load_full().is_some_and(|own| Arc::ptr_eq(&own, session))
    }

    fn session(&self) -> Arc<Session> {
        if let Some(session) = self.session.load_full() {
            return session;
        }
        let role = self.role_with_base();
        let asker = role::asker(&role);
        let made = self.made_session(role, asker);
        // Another thread may be faster. All use the first one: it has the election lock.
        let none = None::<Arc<Session>>;
        let first = self.session.compare_and_swap(&none, Some(Arc::clone(&made)));
        let session = Option::clone(&first).unwrap_or(made);
        self.copies.clear();
        session
    }

    fn made_session(&self, role: Arc<AssumeRole>, asker: Option<Asker>) -> Arc<Session> {
        let session = role::of_entry(&self.pool, self.key, &self.published, role, asker);
        Arc::new(Session { session, is_given: AtomicBool::new(false) })
    }

    /// Drops the session if nothing needs it any more, and keeps its copy of the set.
    fn settle(&self, session: &Arc<Session>) {
        // Other threads that use it have it, too.
        let is_used = || session.is_given.load(Ordering::SeqCst) || Arc::strong_count(session) > 2;
        if is_used() {
            return;
        }
        let Some(snapshot) = session.session.inner.fresh_here() else { return };
        self.session.compare_and_swap(session, None);
        if session.is_given.load(Ordering::SeqCst) {
            self.session.compare_and_swap(&None::<Arc<Session>>, Some(Arc::clone(session)));
            return;
        }
        self.keep(&snapshot);
    }

    /// The same role on the entry that it has now, if it has another one than before.
    pub(crate) fn moved(&self) -> Option<Result<HeldRole, Fault>> {
        let session = self.session.load_full()?;
        let latest = session.session.inner.moved_to()?;
        let pool = latest.pool()?;
        let index = latest.segment.place().index();
        Some(HeldRole::new(pool, self.key, index, &self.role()))
    }
}
