//! Opens a session: one of this process, one that was passed to it, or one that has a name.

use std::sync::Arc;

use super::{Joined, KnownSession, absent, enter, sessions};
use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    refresh::election_lock::ElectionLock,
    segment::{self, Places, Segment},
    session::{
        passed,
        process_session::{ProcessSession, Settings},
    },
    sys::{descriptor::ReservedStreams, lock::LockFile},
};

/// Opens the session `name`, if no creator is at work.
///
/// # Errors
/// `Uninitialized` while one is.
pub(in crate::session) fn attach_now(
    name: &SessionName,
    places: &Places,
    settings: &Settings,
) -> Result<Joined, Fault> {
    try_attach(name, places, settings.clone())?.ok_or_else(|| {
        Fault::new(ErrorKind::Uninitialized, "its creator has not finished; try again")
    })
}

/// Opens the session `name`. The list is free while a creator at work is waited for.
pub(in crate::session) fn attach(
    name: &SessionName,
    places: &Places,
    settings: &Settings,
) -> Result<Joined, Fault> {
    segment::retry_while_creating(|| try_attach(name, places, settings.clone()))
}

/// `None` while a creator is at work, or when another session took the name meanwhile.
pub(super) fn try_attach(
    name: &SessionName,
    places: &Places,
    settings: Settings,
) -> Result<Option<Joined>, Fault> {
    let _reserved = ReservedStreams::new();
    let mut sessions = sessions();
    let known = known(&sessions, name, places);
    let Some((own, election_lock, shared)) = known else {
        if let Some((locks, segment)) = passed::take(name)? {
            let (election_lock, segment) = (ElectionLock::new(locks)?, Arc::new(segment));
            let name = name.clone();
            return Ok(Some(enter(&mut sessions, name, election_lock, segment, settings, None)));
        }
        return attach_by_name(&mut sessions, name, places, settings);
    };
    // It may have left the session before.
    let held = election_lock.locks().inode();
    let is_there = own.directory().is_none() || segment::lock_inode(&own) == Some(held);
    if is_there && !election_lock.locks().ensure_present()? {
        return Ok(None);
    }
    let segment = match &shared {
        Some(shared) => shared.segment.here()?,
        None => {
            let Some(segment) = open_beside(&own, election_lock.locks())? else { return Ok(None) };
            segment
        }
    };
    let enter =
        |settings| enter(&mut sessions, own, election_lock, segment.clone(), settings, None);
    Ok(Some(match shared {
        Some(shared) if settings.is_default() => (shared, segment),
        Some(shared) => enter(settings.or(&shared)),
        None => enter(settings),
    }))
}

/// Opens the session that has the name in the first of `places` where there is one that can be opened.
fn attach_by_name(
    sessions: &mut Vec<KnownSession>,
    name: &SessionName,
    places: &Places,
    settings: Settings,
) -> Result<Option<Joined>, Fault> {
    places.check_chosen()?;
    let mut refused = None;
    for name in places.all(name) {
        let opened = segment::join(&name).and_then(|locks| match locks {
            Some(locks) => Ok(open_beside(&name, &locks)?.map(|segment| (locks, segment))),
            None => Ok(None),
        });
        match opened {
            Ok(Some((locks, segment))) => {
                let election_lock = ElectionLock::new(locks)?;
                return Ok(Some(enter(sessions, name, election_lock, segment, settings, None)));
            }
            Ok(None) => return Ok(None),
            // Another place may have it.
            Err(fault) if fault.kind == ErrorKind::Absent => {}
            Err(fault) => refused = refused.or(Some(fault)),
        }
    }
    Err(refused.unwrap_or_else(|| absent(places)))
}

/// The session of that name that this process has, or has inherited.
fn known(
    sessions: &[KnownSession],
    name: &SessionName,
    places: &Places,
) -> Option<(SessionName, Arc<ElectionLock>, Option<Arc<ProcessSession>>)> {
    let inode = places.lock_inode(name);
    let called = || {
        let called = sessions.iter().filter(|entry| entry.name.as_str() == name.as_str());
        called.filter(|entry| places.may_hold(&entry.name))
    };
    // Those of the user whom this process is now, then those that it has inherited from when it was another.
    let (ours, inherited): (Vec<_>, Vec<_>) = called().partition(|e| e.name.same_user(name));
    ours.into_iter()
        .chain(inherited)
        .filter_map(|entry| Some((entry, entry.election_lock.upgrade()?, entry.shared())))
        .find(|(entry, election_lock, shared)| {
            let held = election_lock.locks().inode();
            match inode {
                Some(found) if found == held => true,
                // Another session has the name by now. A process that has become another user, or sees
                // another file system, finds there what was never its own. Memory files are on a device of their own.
                Some(found) if entry.name.same_user(name) && found.same_device(held) => false,
                _ => shared.is_some() && !entry.has_left(),
            }
        })
        .map(|(entry, election_lock, shared)| (entry.name.clone(), election_lock, shared))
}

/// The segment of the session whose lock file is open; `None` when the name is another's by now.
pub(super) fn open_beside(
    name: &SessionName,
    locks: &LockFile,
) -> Result<Option<Arc<Segment>>, Fault> {
    let segment = Segment::open(name);
    if segment::lock_inode(name) != Some(locks.inode()) {
        return Ok(None);
    }
    segment.map(Arc::new).map(Some)
}
