//! Lists the sessions of this user, and removes those without users.

use std::{io, process};

use super::{KnownSession, absent, sessions, used_by};
use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    segment::{self, Places},
    sys::{descriptor::ReservedStreams, directory},
};

/// The names of this user's sessions.
pub(in crate::session) fn list() -> io::Result<Vec<String>> {
    let places = Places::new(None, false).map_err(|fault| io::Error::other(fault.message))?;
    let mut names = Vec::new();
    for path in places.directories() {
        let found = directory::names(path);
        let failed = |e: io::Error| {
            io::Error::new(e.kind(), format!("reading {path}: {}", crate::errno::told(&e)))
        };
        names.extend(found.map_err(failed)?);
    }
    let prefix = SessionName::segment_prefix();
    let session = |object: &String| SessionName::new(object.strip_prefix(&prefix)?).ok();
    let mut names: Vec<String> =
        names.iter().filter_map(session).map(|name| name.as_str().to_owned()).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Removes a session without users, from each directory that contains parts of it.
pub(in crate::session) fn remove(name: &str) -> Result<(), Fault> {
    let name = SessionName::new(name)?;
    let places = Places::new(None, false)?;
    let still = |pid| Fault::new(ErrorKind::InUse, format!("{}; end it first", used_by(pid)));
    let left: Vec<SessionName> = places.with_leftovers(&name).collect();
    if left.is_empty() {
        return Err(absent(&places));
    }
    let sessions = sessions();
    let is_alive = |entry: &KnownSession| entry.election_lock.strong_count() > 0;
    if sessions.iter().any(|entry| entry.name.is_same(&name) && is_alive(entry)) {
        return Err(still(Some(process::id())));
    }
    for name in left {
        let Some(locks) = segment::claim(&name, segment::CREATION_LIMIT)? else {
            return Err(still(segment::user_of(&name)));
        };
        segment::remove(&name, locks.inode());
    }
    Ok(())
}

/// Removes the sessions of this user that their last users were to remove, and could not: they were killed. It looks in
/// the directory of the session `beside`.
pub(in crate::session) fn remove_leftovers(beside: &SessionName) {
    let Some(directory) = beside.directory() else { return };
    let _reserved = ReservedStreams::new();
    let sessions = sessions();
    let prefix = SessionName::segment_prefix();
    for file in directory::names(directory).unwrap_or_default() {
        let Some(Ok(name)) = file.strip_prefix(&prefix).map(SessionName::new) else { continue };
        // To open and close the lock file of a session that this process has would free its locks.
        let is_here = |entry: &KnownSession| entry.election_lock.strong_count() > 0;
        if !sessions.iter().any(|entry| entry.name.is_same(&name) && is_here(entry)) {
            let _ = segment::remove_leftover(&name.in_directory(directory));
        }
    }
}
