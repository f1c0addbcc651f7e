//! The names of a session in its directory: how they are created, checked and removed.

use std::{
    os::unix::fs::MetadataExt,
    time::{Duration, Instant},
};

use super::{Header, layout, pool::layout::PoolLayout};
use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    sys::{
        descriptor::Inode,
        lock::LockFile,
        mapping::ReadMapping,
        memory_file::{self, Seal},
        object,
    },
};

/// How long `attach` waits for a creator to finish, and `create` for processes that only inspect the files.
pub(crate) const CREATION_LIMIT: Duration = Duration::from_millis(500);
/// How often it checks: a half-made segment has no futex word to sleep on.
const CREATION_LOOK: Duration = Duration::from_millis(1);
/// How long a creator keeps others from the presence lock, before it gives them a chance.
const REQUEST: Duration = Duration::from_millis(50);
/// How long others wait for creators, before they go on: longer than one request, so that they do not starve a creator.
const REQUEST_WAIT: Duration = Duration::from_millis(100);

/// Retries `attach` while a creator is at work, at most [`CREATION_LIMIT`].
pub(crate) fn retry_while_creating<T>(
    mut attach: impl FnMut() -> Result<Option<T>, Fault>,
) -> Result<T, Fault> {
    let end = Instant::now() + CREATION_LIMIT;
    loop {
        if let Some(attached) = attach()? {
            return Ok(attached);
        }
        if Instant::now() >= end {
            let text = format!("its creator has not finished within {CREATION_LIMIT:?}");
            return Err(Fault::new(ErrorKind::Uninitialized, text));
        }
        std::thread::sleep(CREATION_LOOK);
    }
}

/// Opens the lock file of `name` and takes a share of the presence lock. `None` while a creator is at work.
pub(crate) fn join(name: &SessionName) -> Result<Option<LockFile>, Fault> {
    loop {
        let locks = LockFile::named(object::open(&name.lock())?, &name.lock());
        make_way(&locks);
        if !locks.try_present()? {
            return Ok(None);
        }
        // Between the open and the lock, the name may have been removed and created again.
        if object::inode_by_name(&name.lock())? == Some(locks.inode()) {
            // The creator has set the size by now.
            return locks.measured().map(Some);
        }
    }
}

/// Lets a creator have the presence lock first. Processes that look at the name one after the other would keep it without a
/// gap.
fn make_way(locks: &LockFile) {
    let end = Instant::now() + REQUEST_WAIT;
    while locks.is_requested() && Instant::now() < end {
        std::thread::sleep(CREATION_LOOK);
    }
}

/// Creates an empty lock file for `name`, and takes the presence lock exclusively. `None` when the session is in use.
///
/// A file that killed processes left is not reused: their refresher may still wait for its presence lock, and would take
/// the processes of the new session for its own. Waits at most `limit` for a refresher that cleans up, and for processes
/// that inspect such a file.
pub(crate) fn claim(name: &SessionName, limit: Duration) -> Result<Option<LockFile>, Fault> {
    let end = Instant::now() + limit;
    let mut request = None;
    loop {
        let (object, created) = object::open_or_create(&name.lock())?;
        let looked = look_at(name, LockFile::named(object, &name.lock()));
        // The file that this call created must not stay when the kernel refuses a lock, for example.
        match looked.inspect_err(|_| drop(created.then(|| object::remove(&name.lock()))))? {
            Found::Claimed(locks) => return Ok(Some(locks)),
            // The lock is held meanwhile: without it, this could remove the next file of that name.
            Found::Left(_locks) => object::remove(&name.lock())?,
            Found::Replaced => {}
            Found::InUse(_) if Instant::now() >= end => return Ok(None),
            Found::InUse(locks) => {
                request = match request.take() {
                    Some(Request { end, .. }) if Instant::now() >= end => None,
                    None => Request::of(locks)?,
                    current => current,
                };
                std::thread::sleep(CREATION_LOOK);
            }
        }
    }
}

/// The request of a creator for the presence lock.
struct Request {
    locks: LockFile,
    end: Instant,
}

impl Request {
    /// `None` when another creator has one.
    fn of(locks: LockFile) -> Result<Option<Self>, Fault> {
        let is_first = locks.request_alone()?;
        Ok(is_first.then(|| Request { locks, end: Instant::now() + REQUEST }))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.locks.end_request();
    }
}

/// A lock file that has the name of a session.
enum Found {
    /// It is new, and the presence lock is taken exclusively.
    Claimed(LockFile),
    /// Killed processes left it. The presence lock is taken exclusively.
    Left(LockFile),
    /// Another file has the name by now.
    Replaced,
    InUse(LockFile),
}

fn look_at(name: &SessionName, locks: LockFile) -> Result<Found, Fault> {
    if !locks.try_alone()? {
        return Ok(Found::InUse(locks));
    }
    if object::inode_by_name(&name.lock())? != Some(locks.inode()) {
        return Ok(Found::Replaced);
    }
    let locks = locks.measured()?;
    Ok(if locks.bytes() == 0 { Found::Claimed(locks) } else { Found::Left(locks) })
}

/// Adds the request page to the lock file of a new session or pool.
pub(crate) fn with_requests(locks: LockFile, header: &Header) -> Result<LockFile, Fault> {
    locks.reserved(header.pool.map_or(layout::REQUESTS_BYTES, PoolLayout::requests_bytes))
}

/// Creates a lock file without a name, for a segment without one.
pub(crate) fn anonymous_locks(name: &SessionName, header: &Header) -> Result<LockFile, Fault> {
    let bytes = header.pool.map_or(layout::REQUESTS_BYTES, PoolLayout::requests_bytes);
    let object = memory_file::create_anonymous(&name.lock(), bytes)?;
    memory_file::seal(&object, Seal::Size)?;
    memory_file::open_to_inheritors(&object)?;
    let locks = LockFile::new(object);
    locks.try_present()?;
    Ok(locks)
}

/// Removes the names, if they still belong to the session with that lock file.
pub(crate) fn remove(name: &SessionName, lock: Inode) {
    if lock_inode(name) == Some(lock) {
        // What cannot be removed stays, as after a kill.
        let _ = object::remove(&name.segment());
        let _ = object::remove(&name.lock());
        // Last: a refresher that makes its socket after this looks whether the lock file has its name.
        let _ = object::remove(&name.asks());
    }
}

/// Removes both names of a session that its last user was to remove, if no process uses it.
pub(crate) fn remove_leftover(name: &SessionName) -> Result<(), Fault> {
    let locks = LockFile::named(object::open(&name.lock())?, &name.lock());
    if !locks.try_alone()? || lock_inode(name) != Some(locks.inode()) {
        return Ok(());
    }
    if header_of(name).is_some_and(|header| header.last_user_removes) {
        remove(name, locks.inode());
    }
    Ok(())
}

/// The header of a finished segment.
fn header_of(name: &SessionName) -> Option<Header> {
    let object = object::open_shared(&name.segment()).ok()?;
    if object.bytes < layout::HEADER_BYTES {
        return None;
    }
    let page = ReadMapping::new(object.fd.get().ok()?, layout::HEADER_BYTES).ok()?;
    Header::read(&page, object.bytes).ok()
}

/// Removes the name of the lock file only, when no segment was created.
pub(crate) fn remove_lock(name: &SessionName, lock: Inode) {
    if lock_inode(name) == Some(lock) {
        let _ = object::remove(&name.lock());
    }
}

/// The identity of the file that has the name of the lock file now. `None` for a session in memory files.
pub(crate) fn lock_inode(name: &SessionName) -> Option<Inode> {
    name.directory()?;
    object::inode_by_name(&name.lock()).ok().flatten()
}

/// A live process that has the lock file of session `name` open: the creator if possible, else any.
pub(crate) fn user_of(name: &SessionName) -> Option<u32> {
    let inode = lock_inode(name)?;
    let creator = header_of(name).map(|header| header.creator);
    let pids = creator.into_iter().chain(processes());
    pids.into_iter().find(|pid| has_open(*pid, inode))
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn has_open(pid: u32, inode: Inode) -> bool {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .any(|meta| inode.parts() == (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_stays_locked_until_it_is_removed() {
        let name = SessionName::new(&format!("left-{}", std::process::id())).unwrap();
        let name = name.in_directory(&"/dev/shm".into());
        let open = || LockFile::named(object::open(&name.lock()).unwrap(), &name.lock());
        let (object, created) = object::open_or_create(&name.lock()).unwrap();
        assert!(created);
        drop(LockFile::named(object, &name.lock()).reserved(1).unwrap());
        let found = look_at(&name, open()).unwrap();
        assert!(matches!(found, Found::Left(_)));
        let other = open();
        assert!(!other.try_alone().unwrap(), "another process could remove the next file");
        drop(found);
        assert!(other.try_alone().unwrap());
        object::remove(&name.lock()).unwrap();
    }
}
