//! Asking the refresher of a pool. It inserts the entry of a role and makes its calls. The process that asks waits for the
//! entry at the pool's event, and for the set at the event of the entry.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    pool::Pool,
    request::{MOST, Request, Wish},
    unreachable,
};
use crate::{
    clock::{Clock, after},
    error::{ErrorKind, Fault},
    refresh::election,
    segment::{Key, Segment, pool::Refusal},
    source::AssumeRole,
    sys::datagram::{self, Sent},
};

/// How often a process asks the same again: the refresher may have lost the request when it died.
const INTERVAL: u64 = 1_000_000_000;
/// How long a process that waits for an answer anyway waits for a place in the queue of the refresher.
pub(super) const QUEUE_LIMIT: Duration = Duration::from_millis(100);

/// The pool and the key of a role.
#[derive(Debug)]
pub(super) struct RoleOf {
    pub(super) pool: Arc<Pool>,
    pub(super) key: Key,
    /// `None` in a session that can only look.
    pub(super) role: Option<Arc<AssumeRole>>,
    /// How to ask the refresher for the role; `None` where it cannot be asked.
    pub(super) asker: Option<Asker>,
}

impl RoleOf {
    /// Whether the entry of `segment` is still that of the role.
    pub(super) fn has(&self, segment: &Segment) -> bool {
        let pool = self.pool.segment.pool();
        pool.is_some_and(|pool| pool.key_of(segment.place().index()) == self.key)
    }
}

/// A role as a process asks for it.
#[derive(Debug)]
pub(super) struct Asker {
    role: Arc<AssumeRole>,
    /// What was asked of whom, mixed, and when. A hint: two threads may ask twice.
    asked: AtomicU64,
    again_at: AtomicU64,
}

impl Asker {
    pub(super) fn new(role: Arc<AssumeRole>) -> Self {
        Asker { role, asked: AtomicU64::new(0), again_at: AtomicU64::new(0) }
    }

    /// Whether the refresher was asked.
    pub(super) fn has_asked(&self) -> bool {
        // Relaxed: see `asked`.
        self.again_at.load(Ordering::Relaxed) > 0
    }

    /// Asks the refresher, if there is one and it was not asked the same a moment ago.
    pub(super) fn ask(
        &self,
        pool: &Pool,
        key: &Key,
        (wish, generation): (Wish, u64),
        limit: Duration,
    ) -> Result<(), Fault> {
        let Some(refresher) = pool.elected()? else { return Ok(()) };
        // The tests' clocks do not move by themselves.
        let now = Clock::System.boot();
        let asked = refresher.rotate_left(17) ^ generation.rotate_left(3) ^ wish as u64;
        // Relaxed, here and below: see `asked`.
        let was_asked = asked == self.asked.load(Ordering::Relaxed)
            && now < self.again_at.load(Ordering::Relaxed);
        if was_asked || pool.unreachable.is_just_now(refresher, now) {
            return Ok(());
        }
        let invalid = |text| Fault::new(ErrorKind::InvalidInput, text);
        let inputs = self.role.asked().map_err(invalid)?;
        let bytes = Request { wish, generation, key: *key, inputs: &inputs }.bytes();
        if bytes.len() > MOST {
            let text = format!(
                "the role: a request for it has {} bytes; the limit is {MOST}",
                bytes.len()
            );
            return Err(invalid(text));
        }
        match pool.send(&bytes, limit)? {
            Sent::Yes => {
                pool.unreachable.clear();
                self.again_at.store(now + INTERVAL, Ordering::Relaxed);
                self.asked.store(asked, Ordering::Relaxed);
            }
            Sent::Full => {}
            Sent::Nobody => pool.unreachable.note(refresher, now),
        }
        Ok(())
    }
}

impl Pool {
    /// The number of the entry of the role with `key`. If it has none, it gets one; when all are used, that which was used least recently.
    /// Where a process refreshes the pool, that one is asked and waited for, at most `limit`.
    ///
    /// # Errors
    /// `Full` when all entries are being refreshed; `NoSpace` when the kernel has no memory for another entry; `NoSource`
    /// when the role has no entry, and this process cannot ask STS (`may_insert` is false).
    pub(super) fn entry_of(
        &self,
        key: &Key,
        asker: Option<&Asker>,
        may_insert: bool,
        limit: Duration,
    ) -> Result<usize, Fault> {
        let known = self.segment.pool().and_then(|pool| pool.find(key));
        let may_insert = may_insert && self.segment.is_writable();
        let asked = match asker.filter(|_| known.is_none() && self.expects_a_refresher()) {
            Some(asker) => self.asked_entry(key, asker, may_insert, limit)?,
            None => known,
        };
        let index = match asked {
            Some(index) => index,
            None if may_insert => self.insert(key)?,
            None => {
                let text = "no process has asked for this role yet, and this one has no base source; attach with a \
                            base source";
                return Err(Fault::new(ErrorKind::NoSource, text));
            }
        };
        self.note_use(index, self.clock.boot());
        Ok(index)
    }

    /// Identifies the process that refreshes the pool; `None` when no process does, or it cannot be asked. It may be this one.
    pub(super) fn refresher(&self) -> Option<u64> {
        let refresher = self.elected().ok().flatten();
        refresher.filter(|refresher| !self.unreachable.is(*refresher, Clock::System.boot()))
    }

    /// Whether there is a refresher that could be asked when it was asked last.
    fn was_reached(&self) -> bool {
        let now = Clock::System.boot();
        self.refresher().is_some_and(|one| !self.unreachable.is_just_now(one, now))
    }

    /// The process that is elected to refresh the pool, also if it cannot be asked.
    ///
    /// # Errors
    /// `DescriptorClosed` when this process cannot look at the lock any more.
    fn elected(&self) -> Result<Option<u64>, Fault> {
        let view = self.segment.view();
        if view.election() == 0 {
            return Ok(None);
        }
        let holder = election::holder(view, self.lock.locks(), self.clock.boot())?;
        let since = view.last_elected().since;
        Ok(holder.map(|holder| since ^ u64::from(holder.pid) << 32))
    }

    fn send(&self, bytes: &[u8], limit: Duration) -> Result<Sent, Fault> {
        match (self.segment.asks(), self.segment.path()) {
            (Some(socket), _) => datagram::send(socket.get()?, bytes, limit),
            // The socket of another pool may have the name by now.
            (None, Some(_)) if self.has_its_name() => {
                datagram::send_to(&self.name.asks(), bytes, limit)
            }
            (None, _) => Ok(Sent::Nobody),
        }
    }

    /// Whether a process makes the calls for all others, now or soon: one that has died is started again.
    pub(super) fn expects_a_refresher(&self) -> bool {
        self.segment.header.eager || self.segment.header.sealed || self.refresher().is_some()
    }

    /// Waits at most `limit` until the refresher has inserted the role. `None` when there is no refresher any more, and this
    /// process `may_insert` it itself.
    ///
    /// # Errors
    /// Why the refresher refused it; `NoSource` when no refresher answers in time.
    pub(super) fn asked_entry(
        &self,
        key: &Key,
        asker: &Asker,
        may_insert: bool,
        limit: Duration,
    ) -> Result<Option<usize>, Fault> {
        let found = || self.segment.pool().and_then(|pool| pool.find(key));
        let wish = (Wish::Set, 0);
        self.answer(key, asker, wish, limit, || match found() {
            Some(index) => Some(Some(index)),
            None => (may_insert && self.refresher().is_none()).then_some(None),
        })
    }

    /// Asks the refresher to take the entry from the role. False when it cannot do so now.
    pub(super) fn asked_eviction(&self, key: &Key, role: AssumeRole) -> Result<bool, Fault> {
        let is_there = || self.segment.pool().is_some_and(|pool| pool.find(key).is_some());
        if !is_there() {
            return Ok(false);
        }
        let asker = Asker::new(Arc::new(role));
        let gone = || (!is_there()).then_some(true);
        let outcome = self.answer(key, &asker, (Wish::Eviction, 0), self.wait_timeout, gone);
        match outcome {
            Err(fault) if fault.kind == ErrorKind::InUse => Ok(false),
            outcome => outcome,
        }
    }

    /// Asks, and waits for what `done` finds.
    fn answer<T>(
        &self,
        key: &Key,
        asker: &Asker,
        wish: (Wish, u64),
        limit: Duration,
        done: impl Fn() -> Option<T>,
    ) -> Result<T, Fault> {
        let view = self.segment.view();
        let refusal = || self.segment.pool().map_or(0, |pool| pool.refusal(key));
        let (before, end, mut asked) = (refusal(), after(limit), false);
        loop {
            // Before the look at the state: what happens after it ends the sleep.
            let event = view.latest_event();
            if let Some(done) = done() {
                return Ok(done);
            }
            let told = refusal();
            if told != before
                && let Some(refusal) = Refusal::of_word(told)
            {
                return Err(self.refused(refusal));
            }
            let left = end.saturating_duration_since(Instant::now());
            // A limit of zero is too short to wait, but not to ask once.
            if std::mem::replace(&mut asked, true) && left.is_zero() {
                return Err(self.silent(limit));
            }
            asker.ask(self, key, wish, QUEUE_LIMIT.min(left))?;
            // The refresher may be one that cannot be asked.
            if let Some(done) = done() {
                return Ok(done);
            }
            // One that was just elected has its socket soon.
            let longest = if self.was_reached() { INTERVAL } else { unreachable::PAUSE };
            view.sleep(event, left.min(Duration::from_nanos(longest)));
        }
    }

    fn silent(&self, limit: Duration) -> Fault {
        match self.refresher() {
            Some(_) => {
                let text = format!("the refresher of the pool has not answered within {limit:?}");
                Fault::new(ErrorKind::Timeout, text)
            }
            None => {
                let text = format!(
                    "no process refreshes the pool, and this one may not ask STS; none came within {limit:?}"
                );
                Fault::new(ErrorKind::NoSource, text)
            }
        }
    }

    fn refused(&self, refusal: Refusal) -> Fault {
        let (kind, text) = match refusal {
            Refusal::Full => return self.full(),
            Refusal::NoSpace => (
                ErrorKind::NoSpace,
                "the refresher of the pool has no memory for another entry; make its file system larger",
            ),
            Refusal::NotAllowed => {
                (ErrorKind::NotAllowed, "the refresher of the pool does not allow this role")
            }
            Refusal::Invalid => (
                ErrorKind::InvalidInput,
                "the refresher of the pool refuses the inputs of this role",
            ),
            Refusal::OtherKey => (
                ErrorKind::WrongSource,
                "the refresher of the pool reads another environment (profile, Region, addresses) than this process; \
                 give both the same, or give the role a Region and an endpoint",
            ),
            Refusal::Busy => (ErrorKind::InUse, "the role is being refreshed at the moment"),
            Refusal::Failed => (
                ErrorKind::System,
                "the refresher of the pool could not insert the role; try again",
            ),
        };
        Fault::new(kind, text)
    }
}
