//! The sessions of this process. A forked child finds its parent's sessions here.
//!
//! With this list, a process opens each lock file only once. If it opened a file twice and closed one descriptor, it
//! would lose the locks of the other one.
//!
//! This file makes sessions, takes them over, and follows them to their successors. `attach.rs` finds the session that a
//! name leads to; `removal.rs` removes those without users.

mod attach;
mod removal;

use std::{
    process,
    sync::{Arc, MutexGuard, Weak},
    time::Duration,
};

pub(super) use attach::{attach, attach_now};
pub(super) use removal::{list, remove, remove_leftovers};

use super::{
    creator::Creator,
    process_session::{ProcessSession, Settings},
    unplaced::{self, Unplaced},
};
use crate::{
    error::{ErrorKind, Fault},
    fault_point::{FaultPoint, hit},
    name::SessionName,
    refresh::{election, election_lock::ElectionLock},
    segment::{self, EntryWriter, Header, Places, Segment},
    source::Fingerprint,
    sys::{
        descriptor::{Inode, ReservedStreams},
        fork::{ForkLock, LockOrder},
        task::Presence,
    },
};

/// A session of this process, and its mapping.
pub(super) type Joined = (Arc<ProcessSession>, Arc<Segment>);

/// A lock file that this process has open, and the sessions that share it.
#[derive(Debug)]
struct KnownSession {
    name: SessionName,
    /// Outlives the handles while a refresh runs.
    election_lock: Weak<ElectionLock>,
    /// One for each set of settings. The first is the one that others inherit from.
    sessions: Vec<Weak<ProcessSession>>,
}

impl KnownSession {
    fn shared(&self) -> Option<Arc<ProcessSession>> {
        self.sessions.iter().find_map(Weak::upgrade)
    }

    /// Whether this process has left the session, which may have no name any more.
    fn has_left(&self) -> bool {
        let shared = self.shared();
        shared.is_some_and(|shared| {
            shared.segment.header.last_user_removes && shared.election_lock.locks().has_left()
        })
    }
}

static SESSIONS: ForkLock<Vec<KnownSession>> = ForkLock::new(LockOrder::Sessions, Vec::new());

fn sessions() -> MutexGuard<'static, Vec<KnownSession>> {
    let mut sessions = SESSIONS.lock();
    sessions.retain_mut(|entry| {
        entry.sessions.retain(|shared| shared.strong_count() > 0);
        entry.election_lock.strong_count() > 0
    });
    sessions
}

/// Forgets all sessions: for a process that was forked without their descriptors.
pub(super) fn forget() {
    SESSIONS.lock().clear();
}

/// Makes the session `name`, alive in no process, in the first of `places` that can hold it. Processes that look at what
/// killed ones have left are waited for as long as `patience`.
pub(super) fn create(
    name: &SessionName,
    places: &Places,
    header: impl Fn() -> Result<Header, Fault>,
    settings: Settings,
    patience: Duration,
) -> Result<Joined, Box<Unplaced>> {
    let _reserved = ReservedStreams::new();
    let mut sessions = sessions();
    let here = sessions.iter().filter(|entry| entry.name.is_same(name) && !entry.has_left());
    if let Some(shared) = here.filter_map(KnownSession::shared).next() {
        let user = shared.creator.map_or_else(process::id, |creator| creator.pid);
        return Err(in_use(Some(user)).into());
    }
    let mut refused = Vec::new();
    for name in places.for_creation(name) {
        let made = name
            .directory()
            .map_or(Ok(()), |directory| places.check(directory))
            .and_then(|()| make(&sessions, &name, &header, patience));
        match made {
            Ok((election_lock, segment)) => {
                let creator = Creator::this();
                return Ok(enter(&mut sessions, name, election_lock, segment, settings, creator));
            }
            Err(fault) if places.is_chosen() || !unplaced::is_of_the_place(&fault) => {
                return Err(fault.into());
            }
            Err(fault) => refused.push(fault),
        }
    }
    Err(Box::new(Unplaced { settings: Some(settings), refused }))
}

/// Makes the files of the session `name` in its directory.
fn make(
    sessions: &[KnownSession],
    name: &SessionName,
    header: impl Fn() -> Result<Header, Fault>,
    patience: Duration,
) -> Result<(Arc<ElectionLock>, Arc<Segment>), Fault> {
    // A refresh outlives the handles: to open and close its lock file would free its locks.
    let inode = segment::lock_inode(name);
    let refreshes = |election_lock: Arc<ElectionLock>| Some(election_lock.locks().inode()) == inode;
    if sessions.iter().filter_map(|entry| entry.election_lock.upgrade()).any(refreshes) {
        return Err(in_use(Some(process::id())));
    }
    let locks = segment::claim(name, patience)?.ok_or_else(|| in_use(segment::user_of(name)))?;
    let inode = locks.inode();
    let made = header().and_then(|header| {
        let election_lock = ElectionLock::new(segment::with_requests(locks, &header)?)?;
        // Before the segment: if it fails, only the lock file is there to remove.
        election_lock.locks().try_lock(segment::OWNER)?;
        let segment = Segment::create(name, header)?;
        // From alone to together with others: the segment is finished. Without that it has no user, and must not stay.
        let together = election_lock.locks().try_present();
        together.inspect_err(|_| segment::remove(name, inode))?;
        Ok((election_lock, Arc::new(segment)))
    });
    made.inspect_err(|_| segment::remove_lock(name, inode))
}

/// Makes the session `name` in memory files: only processes that inherit it can use it.
pub(super) fn create_nameless(
    name: SessionName,
    header: impl Fn() -> Result<Header, Fault>,
    settings: Settings,
) -> Result<Joined, Fault> {
    let _reserved = ReservedStreams::new();
    let mut sessions = sessions();
    let header = header()?;
    let election_lock = ElectionLock::new(segment::anonymous_locks(&name, &header)?)?;
    let segment = Arc::new(Segment::create_nameless(&name, header)?);
    Ok(enter(&mut sessions, name, election_lock, segment, settings, Creator::this()))
}

/// Takes over the live session `name`, if its owner has died and no process is elected. `None` if it does not exist,
/// is in this process already, or is taken over by another process.
///
/// # Errors
/// `InUse` with the pid of the owner or the elected process that lives; `WrongSource` when the session's is not
/// that of `fingerprint`.
pub(super) fn take_over(
    name: &SessionName,
    places: &Places,
    fingerprint: &Fingerprint,
    settings: Settings,
) -> Result<Option<Joined>, Fault> {
    let _reserved = ReservedStreams::new();
    let mut sessions = sessions();
    if sessions
        .iter()
        .any(|entry| entry.name.is_same(name) && entry.election_lock.strong_count() > 0)
    {
        return Ok(None);
    }
    let Some(name) = places.found(name).next() else { return Ok(None) };
    let locks = match segment::join(&name) {
        Ok(Some(locks)) => locks,
        Err(fault) if fault.kind != ErrorKind::Absent => return Err(fault),
        _ => return Ok(None),
    };
    let Some(segment) = attach::open_beside(&name, &locks)? else { return Ok(None) };
    let (owner, instance) = (segment.owner(), segment.header.instance);
    match owner.mark.presence(instance) {
        Presence::Alive => return Err(in_use(Some(owner.pid))),
        // In another pid namespace only its lock tells whether it lives.
        Presence::Unseen if locks.holder(segment::OWNER)?.is_some() => return Err(in_use(None)),
        Presence::Unseen | Presence::Gone => {}
    }
    let now = settings.clock.clone().unwrap_or_default().boot();
    if let Some(holder) = election::holder(segment.view(), &locks, now)? {
        return Err(in_use(Some(holder.pid).filter(|pid| *pid != 0)));
    }
    segment.header.check_source(fingerprint)?;
    hit(FaultPoint::OwnerDead);
    if segment.is_ended() || !segment.writable()?.own(owner.mark, instance) {
        return Ok(None);
    }
    locks.try_lock(segment::OWNER)?;
    let election_lock = ElectionLock::new(locks)?;
    Ok(Some(enter(&mut sessions, name, election_lock, segment, settings, Creator::this())))
}

/// The session that has the `name` of an ended one now, with the settings of that; `None` when there is none that `will_do`.
/// `lock` is the lock file of the ended one.
///
/// # Errors
/// `WrongSource` when it has another one.
pub(super) fn follow(
    name: &SessionName,
    lock: Inode,
    settings: Settings,
    ended: &Segment,
    will_do: impl FnOnce(&Segment) -> bool,
) -> Result<Option<Joined>, Fault> {
    let places = Places::of_successor(name)?;
    let is_another = places.lock_inode(name).is_some_and(|inode| inode != lock);
    // A process that has changed its user does not continue with a session of another user.
    if !is_another || !name.same_user(&SessionName::new(name.as_str())?) {
        return Ok(None);
    }
    let joined = attach::try_attach(name, &places, settings)?;
    // A pool does not take the place of a session, nor a session that of a pool.
    let fits =
        |header: &Header| !header.sealed && header.pool.is_some() == ended.header.pool.is_some();
    let Some((next, segment)) = joined.filter(|(_, segment)| fits(&segment.header)) else {
        return Ok(None);
    };
    segment.header.check_source(&ended.header.fingerprint)?;
    let is_another = segment.header.instance != ended.header.instance;
    Ok((is_another && will_do(&segment)).then_some((next, segment)))
}

/// Makes the session `name` without a name that others could find. The mapping is the one that can
/// write.
pub(super) fn create_sealed(
    name: SessionName,
    header: impl FnOnce() -> Result<Header, Fault>,
    settings: Settings,
) -> Result<(Arc<ProcessSession>, Arc<Segment>, EntryWriter), Fault> {
    let _reserved = ReservedStreams::new();
    let mut sessions = sessions();
    if sessions.iter().any(|entry| entry.name.is_same(&name) && entry.shared().is_some()) {
        return Err(in_use(Some(process::id())));
    }
    let header = header()?;
    let election_lock = ElectionLock::new(segment::anonymous_locks(&name, &header)?)?;
    let (segment, writer) = Segment::create_sealed(&name, header)?;
    let (shared, segment) =
        enter(&mut sessions, name, election_lock, Arc::new(segment), settings, Creator::this());
    Ok((shared, segment, writer))
}

fn enter(
    sessions: &mut Vec<KnownSession>,
    name: SessionName,
    election_lock: Arc<ElectionLock>,
    segment: Arc<Segment>,
    settings: Settings,
    creator: Option<Creator>,
) -> Joined {
    election_lock.enter();
    let lock = Arc::downgrade(&election_lock);
    let own = Arc::clone(&segment);
    let shared = ProcessSession::new(name.clone(), election_lock, own, settings, creator);
    let shared = Arc::new(shared);
    match sessions.iter_mut().find(|entry| Weak::ptr_eq(&entry.election_lock, &lock)) {
        Some(entry) => entry.sessions.push(Arc::downgrade(&shared)),
        None => sessions.push(KnownSession {
            name,
            election_lock: lock,
            sessions: vec![Arc::downgrade(&shared)],
        }),
    }
    (shared, segment)
}

fn absent(places: &Places) -> Fault {
    let text = format!("there is no session of that name in {}", places.listed());
    Fault::new(ErrorKind::Absent, text)
}

fn in_use(pid: Option<u32>) -> Fault {
    let text = format!("{}; end it, or choose another name", used_by(pid));
    Fault::new(ErrorKind::InUse, text)
}

fn used_by(pid: Option<u32>) -> String {
    let user = match pid {
        Some(pid) => format!("process {pid}"),
        None => "a process that this one cannot see".to_owned(),
    };
    format!("{user} uses a session of that name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_does_not_catch_the_list() {
        crate::sys::fork::tests::a_child_can_take(|| Box::new(sessions()));
    }
}
