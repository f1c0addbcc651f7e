//! How a set is read: at once, where nothing has changed; else by a look at the segment; and by waiting, where nothing
//! valid is there.

use std::sync::{Arc, atomic::Ordering};

use aws_credential_types::Credentials;

use super::{
    inner::Inner,
    snapshot::{Current, Phase, SecretRoom, Snapshot},
    timing::{Limit, MANDATORY_WAIT},
    wait::{Aim, End, Need},
};
use crate::{
    error::{Error, ErrorKind, Fault},
    fault_point::{FaultPoint, hit},
    seqlock::Version,
    sys::copies,
};

/// What a look at the segment finds.
enum Found {
    /// A set to use now.
    Usable(Arc<Snapshot>),
    /// A valid set. A better one is worth a wait.
    Valid(Arc<Snapshot>),
    /// No valid set.
    Nothing,
}

impl Inner {
    /// The set, if that takes no looking around: the way of nearly all reads.
    // Else the result goes through memory, which takes as long as the rest.
    #[inline(always)]
    pub(crate) fn quick(&self) -> Option<Current<'_>> {
        // First, while nothing else has to outlast the call.
        let tick = self.clock.tick();
        let record = copies::known()?;
        let snapshot = self.copies.lend(record)?;
        let current = self.is_current(&snapshot) && snapshot.is_verified(tick);
        current.then_some(Current(snapshot))
    }

    /// The generation of the set that this process gave last from here; that of the newest before the first.
    pub(super) fn generation_given(&self) -> u64 {
        match Version::of_word(self.copies.seen()).generation() {
            0 => self.published.version().generation(),
            given => given,
        }
    }

    /// Whether a caller has waited for a better set than `snapshot`, and none came.
    // Relaxed, here and below: the version orders nothing.
    pub(super) fn was_waited_for(&self, snapshot: &Snapshot) -> bool {
        self.waited_for.load(Ordering::Relaxed) == snapshot.life.version.word()
    }

    fn set_waited_for(&self, snapshot: &Snapshot) {
        self.waited_for.store(snapshot.life.version.word(), Ordering::Relaxed);
    }

    /// Relaxed: a later version may be missed by the time that stores take to arrive.
    #[inline]
    pub(super) fn is_current(&self, snapshot: &Snapshot) -> bool {
        self.published.version() == snapshot.life.version
    }

    /// The credentials, after a look at the segment and a wait if necessary.
    #[cold]
    pub(crate) fn credentials(self: &Arc<Self>) -> Result<Credentials, Error> {
        self.credentials_by(self.limit())
    }

    /// The same, within a limit.
    #[cold]
    pub(super) fn credentials_by(self: &Arc<Self>, limit: Limit) -> Result<Credentials, Error> {
        if self.has_successor()
            && let Some(current) = self.latest().quick()
        {
            return current.credentials();
        }
        self.obtain(limit)
            .map(|snapshot| snapshot.credentials.clone())
            .map_err(|fault| self.fault("credentials", fault))
    }

    /// The limit of each wait, as the session's settings say.
    pub(super) fn limit(&self) -> Limit {
        Limit::of_each_wait(self.shared.wait_timeout)
    }

    /// The set to use now; waits if it has to.
    pub(super) fn obtain(self: &Arc<Self>, limit: Limit) -> Result<Arc<Snapshot>, Fault> {
        self.on_latest(|inner| inner.obtain_here(limit))
    }

    pub(super) fn obtain_here(&self, limit: Limit) -> Result<Arc<Snapshot>, Fault> {
        match self.without_waiting()? {
            Found::Usable(snapshot) => Ok(snapshot),
            Found::Valid(snapshot) => {
                self.wait_for_newer(snapshot, Aim::Fetch, limit).map(End::set)
            }
            Found::Nothing => self.wait(Need::Valid, limit),
        }
    }

    /// The credentials if no waiting is needed, although something may have to be started.
    #[cold]
    pub(crate) fn at_once(self: &Arc<Self>) -> Option<Credentials> {
        match self.current().ok()?.without_waiting().ok()? {
            Found::Usable(snapshot) => Some(snapshot.credentials.clone()),
            Found::Valid(_) | Found::Nothing => None,
        }
    }

    /// The newest set, and whether a wait would give a better one. May start a refresh in the background.
    fn without_waiting(&self) -> Result<Found, Fault> {
        let tick = self.shared.clock.tick();
        let now = self.shared.clock.boot();
        self.note_use(now);
        let Some(snapshot) = self.newest()? else { return Ok(Found::Nothing) };
        match snapshot.life.phase(now) {
            Phase::Fresh => {}
            Phase::Mandatory if snapshot.life.is_rejected_too_soon(now) => {}
            // A process fetches the next set there: see `follow_role`.
            Phase::Advisory | Phase::Mandatory if self.is_replaced() => {}
            Phase::Mandatory if !self.was_waited_for(&snapshot) => {
                return Ok(Found::Valid(snapshot));
            }
            Phase::Advisory | Phase::Mandatory if self.refresh_in_background(now) => {
                return Ok(Found::Valid(snapshot));
            }
            Phase::Advisory | Phase::Mandatory => {}
            Phase::Expired => return Ok(Found::Nothing),
        }
        snapshot.verify(tick);
        Ok(Found::Usable(snapshot))
    }

    /// The newest set of a role, if it is fresh and this session goes on.
    pub(super) fn fresh_here(&self) -> Option<Arc<Snapshot>> {
        if self.has_successor() || self.was_taken() {
            return None;
        }
        let now = self.shared.clock.boot();
        self.newest().ok()?.filter(|snapshot| snapshot.life.phase(now) == Phase::Fresh)
    }

    /// Waits a while for a better set than `snapshot`, once, and then takes that: no error while it
    /// is valid. Where it expires meanwhile, the wait is for a valid one, as if there had been none.
    pub(super) fn wait_for_newer(
        &self,
        snapshot: Arc<Snapshot>,
        aim: Aim,
        limit: Limit,
    ) -> Result<End, Fault> {
        let life = snapshot.life;
        let generation = life.version.generation();
        let mandatory = life.phase(self.shared.clock.boot()) != Phase::Advisory;
        let (need, wait) = match mandatory && !self.was_waited_for(&snapshot) {
            true if life.version.is_rejected() => (Need::Better(generation), limit),
            true => (Need::Better(generation), limit.at_most(MANDATORY_WAIT)),
            false => (Need::Own(generation), limit),
        };
        self.wait_for(need, aim, wait).or_else(|fault| {
            // A caller that had less time than others would have has not waited in their place.
            if !limit.is_over() {
                self.set_waited_for(&snapshot);
            }
            if snapshot.life.phase(self.shared.clock.boot()) != Phase::Expired {
                return Ok(End::Set(snapshot));
            }
            match fault.kind {
                ErrorKind::Timeout | ErrorKind::NoSource => self.wait_for(Need::Valid, aim, limit),
                _ => Err(fault),
            }
        })
    }

    /// The credentials that are there, if they are valid: where no better ones can be waited for.
    pub(crate) fn unexpired(self: &Arc<Self>) -> Option<Credentials> {
        let latest = self.latest();
        let snapshot = latest.newest().ok()??;
        let valid = snapshot.life.phase(self.shared.clock.boot()) != Phase::Expired;
        valid.then(|| {
            latest.set_waited_for(&snapshot);
            snapshot.credentials.clone()
        })
    }

    /// The newest set, decoded once for each place of `copies`. A damaged set counts as absent if another one can be
    /// fetched. Then this also requests a refresh.
    pub(super) fn newest(&self) -> Result<Option<Arc<Snapshot>>, Fault> {
        self.newest_in(&mut None)
    }

    /// The same. If the set has to be decoded, its secrets are in `room`.
    pub(super) fn newest_in(
        &self,
        room: &mut Option<SecretRoom>,
    ) -> Result<Option<Arc<Snapshot>>, Fault> {
        let record = copies::claimed();
        let known = record.and_then(|record| self.copies.get(record));
        if let Some(snapshot) = known.filter(|snapshot| self.is_current(snapshot)) {
            return Ok(Some(snapshot));
        }
        let read = match Snapshot::read_in(self.segment.view(), room) {
            // The set of the role that has the entry now.
            Err(fault) if fault.kind == ErrorKind::BadChecksum && self.was_taken() => None,
            Err(fault) if fault.kind == ErrorKind::BadChecksum && self.may_write() => {
                self.shared.election_lock.requests().notify();
                None
            }
            read => read?.map(Arc::new),
        };
        hit(FaultPoint::Decoded);
        match (&read, record) {
            (Some(snapshot), Some(record)) => {
                let version = snapshot.life.version.word();
                let is_newest = || self.is_current(snapshot) && !self.has_successor();
                self.copies.renew(record, version, Arc::clone(snapshot), is_newest);
            }
            // The thread ends, and its copy is for this read only. Those of other threads may be old ones.
            (Some(snapshot), None) if self.copies.seen() < snapshot.life.version.word() => {
                self.copies.clear();
            }
            (Some(_), None) => {}
            (None, _) => self.copies.clear(),
        }
        Ok(read)
    }

    /// Room for the secrets of the next set, for a thread that is about to sleep until it comes. Made after the sleep, it
    /// would delay the caller by a system call. `None` before the first set: nobody knows how much it takes.
    pub(super) fn room_for_next(&self) -> Option<SecretRoom> {
        let known = self.copies.lend(copies::known()?)?;
        // A process may have thousands of roles: their copies take no byte that they do not need.
        let slack = if self.shared.role.is_some() { usize::MAX } else { 32 };
        Some(known.room_for_next(slack))
    }

    /// See [`testing::decode_newest`](crate::testing::decode_newest).
    #[cfg(feature = "testing")]
    pub(crate) fn decode_newest(&self) -> Result<Option<usize>, Error> {
        super::snapshot::newest(self.segment.view(), |_, record| record.session_token.len())
            .map_err(|fault| self.fault("decode_newest", fault))
    }
}
