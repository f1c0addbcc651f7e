//! Where sessions with a name are: in which directories, and in which order.
//!
//! The creator takes the first directory that can hold secrets. The others look at all of them. So they agree without
//! talking.

use std::{path::Path, sync::Arc};

#[cfg(feature = "cli-core")]
use nix::unistd::{AccessFlags, access};
use nix::{errno::Errno, sys::stat::FileStat, unistd::geteuid};

use crate::{
    error::{ErrorKind, Fault},
    name::SessionName,
    sys::{
        descriptor::Inode,
        directory::{self, Directory, SHARED_MEMORY},
        object,
    },
};

/// Names the directory of all sessions.
pub(crate) const VARIABLE: &str = "SHMCREDS_DIR";
/// Allows a directory on a disk. The value must be [`DISK_VALUE`].
pub(crate) const DISK_VARIABLE: &str = "SHMCREDS_DANGEROUS_SECRETS_ON_DISK";
const DISK_VALUE: &str = "yes";

const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// What `doctor` tells of a directory.
#[cfg(feature = "cli-core")]
#[derive(Debug)]
pub(crate) struct Facts {
    /// Its file system.
    pub(crate) kind: String,
    /// The same, when it is not memory.
    pub(crate) disk: Option<String>,
    pub(crate) mode: u32,
    pub(crate) free: u64,
    pub(crate) size: u64,
    pub(crate) writable: bool,
}

/// The directories in which a session of this user may be.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    directories: Vec<Arc<str>>,
    /// What chose the only directory; `None` for the default order.
    chosen_by: Option<&'static str>,
    /// Whether the program allows secrets on a disk.
    disk: bool,
}

impl Places {
    /// `directory` if it is given, else that of the environment, else the default order. `disk` allows secrets on a disk.
    ///
    /// # Errors
    /// `InvalidInput` when the path is not absolute. The directory itself is checked by [`check`](Self::check).
    pub(crate) fn new(directory: Option<&Path>, disk: bool) -> Result<Self, Fault> {
        let variable = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let (path, by) = match (directory, &variable) {
            (Some(directory), _) => (directory, "directory"),
            (None, Some(variable)) => (Path::new(variable), VARIABLE),
            (None, None) => return Ok(Places { disk, ..Places::by_default() }),
        };
        let path = normal(path).map_err(|problem| {
            let text = format!("{by}: {problem}; it must be an absolute path without `.` and `..`");
            Fault::new(ErrorKind::InvalidInput, text)
        })?;
        Ok(Places { directories: vec![path.into()], chosen_by: Some(by), disk })
    }

    /// The default order: `/dev/shm`, then the runtime directories of this user.
    fn by_default() -> Self {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR");
        let runtime = runtime.as_deref().and_then(|path| normal(Path::new(path)).ok());
        let mut directories = vec![Arc::from(SHARED_MEMORY)];
        for path in runtime.into_iter().chain([format!("/run/user/{}", geteuid())]) {
            if !directories.iter().any(|known: &Arc<str>| **known == *path) {
                directories.push(path.into());
            }
        }
        Places { directories, chosen_by: None, disk: false }
    }

    /// The places in which a successor of `session` may be: its own directory first.
    pub(crate) fn of_successor(session: &SessionName) -> Result<Self, Fault> {
        let mut places = Places::new(None, false)?;
        if let Some(own) = session.directory() {
            places.directories.retain(|directory| directory != own);
            places.directories.insert(0, Arc::clone(own));
        }
        Ok(places)
    }

    /// Whether the program or its environment chose the directory.
    pub(crate) fn is_chosen(&self) -> bool {
        self.chosen_by.is_some()
    }

    /// The directories, in their order.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &str> {
        self.directories.iter().map(|directory| &**directory)
    }

    /// The directories, for messages.
    pub(crate) fn listed(&self) -> String {
        self.directories.join(", ")
    }

    /// Whether a session with the files of `name` may be the one that is looked for.
    pub(crate) fn may_hold(&self, name: &SessionName) -> bool {
        let listed = |own| self.directories.contains(own);
        !self.is_chosen() || name.directory().is_none_or(listed)
    }

    /// `name` in each directory that has a lock file of it.
    pub(crate) fn found(&self, name: &SessionName) -> impl Iterator<Item = SessionName> {
        self.all(name).filter(|name| object::exists(&name.lock()))
    }

    /// `name` in each directory that has a file of it.
    pub(crate) fn with_leftovers(&self, name: &SessionName) -> impl Iterator<Item = SessionName> {
        self.all(name)
            .filter(|name| object::exists(&name.lock()) || object::exists(&name.segment()))
    }

    /// The identity of the lock file that the name leads to.
    pub(crate) fn lock_inode(&self, name: &SessionName) -> Option<Inode> {
        self.all(name).find_map(|name| super::lock_inode(&name))
    }

    /// `name` in each directory, in the order in which to create it: first where a session of that name is or was.
    pub(crate) fn for_creation(&self, name: &SessionName) -> Vec<SessionName> {
        let is_there = |name: &SessionName| object::exists(&name.lock());
        // Where only the first directory may have the name, the order is as it is: that needs no look there.
        if !self.all(name).skip(1).any(|name| is_there(&name)) {
            return self.all(name).collect();
        }
        let (mut order, others): (Vec<_>, Vec<_>) = self.all(name).partition(is_there);
        order.extend(others);
        order
    }

    /// `name` in each directory.
    pub(crate) fn all(&self, name: &SessionName) -> impl Iterator<Item = SessionName> {
        let name = name.clone();
        self.directories.iter().map(move |directory| name.in_directory(directory))
    }

    /// Checks a chosen directory, before a session in it is opened.
    pub(crate) fn check_chosen(&self) -> Result<(), Fault> {
        match (&self.directories[..], self.is_chosen()) {
            ([directory], true) => self.open(directory).map(drop),
            _ => Ok(()),
        }
    }

    /// The owner of a chosen directory, if it is another user than this one.
    pub(crate) fn foreign_owner(&self) -> Option<u32> {
        let directory = self.directories.first().filter(|_| self.is_chosen())?;
        let owner = Directory::open(directory).ok()?.stat().ok()?.st_uid;
        (owner != geteuid().as_raw()).then_some(owner)
    }

    /// Checks a chosen directory, before the session of the user `owner` in it is opened for reading.
    pub(crate) fn check_chosen_of(&self, owner: u32) -> Result<(), Fault> {
        match (&self.directories[..], self.chosen_by) {
            ([directory], Some(by)) => open_chosen(by, directory, owner).map(drop),
            _ => Ok(()),
        }
    }

    /// Checks that `directory` can hold secrets: its owner and mode, and that its file system is memory.
    ///
    /// # Errors
    /// `NoSpace` when a directory of the default order is missing or of another kind, `Misconfigured` when it is on a disk.
    /// For a chosen directory `Misconfigured`, `ForeignOwner` or `InsecureMode`.
    pub(crate) fn check(&self, directory: &str) -> Result<(), Fault> {
        let found = match self.chosen_by {
            None if directory == SHARED_MEMORY => {
                directory::file_system_of(directory).map_err(|errno| unusable(directory, errno))?
            }
            _ => self
                .open(directory)?
                .file_system()
                .map_err(|errno| Fault::system(&format!("statfs of {directory}"), errno))?,
        };
        let allowed = || std::env::var_os(DISK_VARIABLE).is_some_and(|value| value == DISK_VALUE);
        if found.is_memory() || self.disk || allowed() {
            return Ok(());
        }
        let text = format!(
            "{directory} is on {}, which may keep secrets on a disk; a segment must be in memory: give another directory, \
             on a tmpfs (SHMCREDS_DIR, or `directory` of the builder), or make the session sealed, which needs no directory",
            found.describe(directory)
        );
        Err(Fault::new(ErrorKind::Misconfigured, text))
    }

    /// What `doctor` tells of a directory.
    #[cfg(feature = "cli-core")]
    pub(crate) fn facts(&self, directory: &str) -> Result<Facts, Fault> {
        let failed = |errno| Fault::system(&format!("looking at {directory}"), errno);
        let opened = self.open(directory)?;
        let (stat, found) = (opened.stat().map_err(failed)?, opened.file_system().map_err(failed)?);
        Ok(Facts {
            kind: found.describe(directory),
            disk: (!found.is_memory()).then(|| found.describe(directory)),
            mode: stat.st_mode & 0o7777,
            free: found.free,
            size: found.size,
            writable: access(directory, AccessFlags::W_OK | AccessFlags::X_OK).is_ok(),
        })
    }

    fn open(&self, directory: &str) -> Result<Directory, Fault> {
        match self.chosen_by {
            Some(by) => open_chosen(by, directory, geteuid().as_raw()),
            None => open_default(directory),
        }
    }
}

/// A directory that the program or its environment chose, for a session of the user `owner`.
fn open_chosen(by: &str, directory: &str, owner: u32) -> Result<Directory, Fault> {
    let misconfigured = |problem: &str| {
        let text = format!(
            "{by}: {directory} {problem}; give a directory of this user, of mode 0700, on a tmpfs"
        );
        Fault::new(ErrorKind::Misconfigured, text)
    };
    let opened = Directory::open(directory).map_err(|errno| match errno {
        Errno::ENOENT => misconfigured("does not exist"),
        Errno::ELOOP | Errno::ENOTDIR => {
            misconfigured("is not a directory, or a part of the path is a symbolic link")
        }
        errno => {
            Fault::system(&format!("opening {directory}, the directory of the session"), errno)
        }
    })?;
    let stat =
        opened.stat().map_err(|errno| Fault::system(&format!("fstat of {directory}"), errno))?;
    check_owner(by, directory, &stat, owner)?;
    Ok(opened)
}

/// A directory of the default order. What is in `/dev/shm` is up to root. A runtime directory must be this user's alone.
fn open_default(directory: &str) -> Result<Directory, Fault> {
    let missing = |errno| unusable(directory, errno);
    if directory == SHARED_MEMORY {
        return Directory::open_through_links(directory).map_err(missing);
    }
    let opened = Directory::open(directory).map_err(missing)?;
    let stat = opened.stat().map_err(missing)?;
    if stat.st_uid != geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
        return Err(absent(directory, "is not a directory of this user alone (mode 0700)"));
    }
    match opened.file_system().map_err(missing)?.is_memory() {
        true => Ok(opened),
        false => Err(absent(directory, "is not in memory")),
    }
}

fn absent(directory: &str, problem: &str) -> Fault {
    Fault::new(ErrorKind::NoSpace, format!("{directory} {problem}"))
}

fn unusable(directory: &str, errno: Errno) -> Fault {
    match errno {
        Errno::ENOENT => absent(directory, "does not exist"),
        Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES => {
            absent(directory, &format!("cannot be opened as a directory ({})", errno.desc()))
        }
        errno => Fault::system(&format!("opening {directory}"), errno),
    }
}

/// Others must not be able to replace the files: the directory belongs to this user, to the owner of the session or to
/// root, and who else may write it may not remove the files of others.
fn check_owner(by: &str, directory: &str, stat: &FileStat, session: u32) -> Result<(), Fault> {
    let (owner, us) = (stat.st_uid, geteuid().as_raw());
    if ![us, session, 0].contains(&owner) {
        let text = match session == us {
            true => format!(
                "{by}: {directory} belongs to uid {owner}, and this process is uid {us}; give a directory of this user \
                 or of root"
            ),
            false => format!(
                "{by}: {directory} belongs to uid {owner}, and the session to uid {session}; give a directory of the \
                 session's owner or of root"
            ),
        };
        return Err(Fault::new(ErrorKind::ForeignOwner, text));
    }
    let mode = stat.st_mode & 0o7777;
    if mode & GROUP_AND_OTHERS_WRITE != 0 && mode & STICKY == 0 {
        let text = format!(
            "{by}: {directory} has mode {mode:04o}: others could replace its files; take the permission to write from \
             group and others (chmod 700), or set the sticky bit"
        );
        return Err(Fault::new(ErrorKind::InsecureMode, text));
    }
    Ok(())
}

/// The path without doubled and trailing slashes.
fn normal(path: &Path) -> Result<String, String> {
    let text = path.to_str().ok_or("is not UTF-8")?;
    if !text.starts_with('/') {
        return Err(format!("{text:?} is not absolute"));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err("is the root directory".to_owned());
    }
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err(format!("{text:?} is not normal"));
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_normal() {
        for (path, expected) in [("/a", "/a"), ("//a//b/", "/a/b"), ("/dev/shm/", "/dev/shm")] {
            assert_eq!(normal(Path::new(path)).as_deref(), Ok(expected));
        }
        for path in ["", "a", "./a", "/", "//", "/a/../b", "/a/."] {
            assert!(normal(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn the_default_order_begins_with_shared_memory() {
        let places = Places::by_default();
        let order: Vec<&str> = places.directories().collect();
        assert_eq!(order[0], SHARED_MEMORY);
        let runtime = format!("/run/user/{}", geteuid());
        assert!(order.contains(&&*runtime), "{order:?}");
    }

    /// A session that is found again elsewhere would be another one, although its successor is where it was.
    #[test]
    fn a_successor_is_looked_for_where_the_session_was() {
        let default = Places::new(None, false).unwrap();
        let order = |places: &Places| places.directories().map(str::to_owned).collect::<Vec<_>>();
        let name = SessionName::new("places-successor").unwrap();
        assert_eq!(order(&Places::of_successor(&name).unwrap()), order(&default));
        // The second one of the default order, the first one, and one that the program chose.
        let runtime = format!("/run/user/{}", geteuid());
        for own in [&*runtime, SHARED_MEMORY, "/a/directory/of/its/own"] {
            let session = name.in_directory(&own.into());
            let others = order(&default).into_iter().filter(|directory| directory != own);
            let expected: Vec<String> = [own.to_owned()].into_iter().chain(others).collect();
            assert_eq!(order(&Places::of_successor(&session).unwrap()), expected, "{own}");
        }
    }
}
