//! Files in memory for the clients of an endpoint: its token, and a config file.
//!
//! They are in a directory in `/dev/shm`, or in another directory for sessions. The processes that need it lock it. A
//! directory without a lock was left by killed processes, of any pid namespace. The next one to make such a directory
//! removes it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{libc, unistd::geteuid};

use super::random::random_name;
use crate::{errno::told, session::SharedSession};

/// Locking a new directory takes less time.
const DRAFT_LIFE: Duration = Duration::from_secs(60);

pub struct MemoryFiles {
    path: PathBuf,
    /// Holds the lock.
    _directory: File,
}

impl MemoryFiles {
    /// Makes an empty directory in memory, and removes directories that killed processes have left.
    pub fn create() -> io::Result<Self> {
        let mut outcome = Err(io::Error::other("no directory in memory was found"));
        for memory in SharedSession::memory_directories() {
            remove_abandoned(&memory);
            if outcome.is_err() {
                let failed = |e| io::Error::other(format!("{}: {}", memory.display(), told(&e)));
                outcome = MemoryFiles::create_in(&memory).map_err(failed);
            }
        }
        outcome
    }

    /// The directory gets its name after it is locked. Otherwise another process would remove it.
    fn create_in(memory: &Path) -> io::Result<Self> {
        let name = random_name(&prefix())?;
        let (draft, path) = (memory.join(format!(".{name}")), memory.join(&name));
        DirBuilder::new().mode(0o700).create(&draft)?;
        // The mask of the process (umask) may have taken bits from it.
        let given = fs::set_permissions(&draft, Permissions::from_mode(0o700));
        let named = given.and_then(|()| open(&draft)).and_then(|directory| {
            directory.try_lock().map_err(io::Error::from)?;
            fs::rename(&draft, &path)?;
            Ok(directory)
        });
        let directory = named.inspect_err(|_| drop(fs::remove_dir(&draft)))?;
        Ok(MemoryFiles { path, _directory: directory })
    }

    /// Writes a file with a name that begins with `name`. If this process is root, a client may become another user,
    /// and must still read the file. Then its random name protects the file: nobody else can list the
    /// directory.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path.join(random_name(name)?);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        // Whatever the mask of the process is.
        let mode = if geteuid().is_root() { 0o444 } else { 0o600 };
        file.set_permissions(Permissions::from_mode(mode))?;
        if geteuid().is_root() {
            fs::set_permissions(&self.path, Permissions::from_mode(0o711))?;
        }
        Ok(path)
    }

    /// Removes all files. It can be called more than once.
    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn prefix() -> String {
    format!("shmcreds-files-{}-", geteuid())
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Removes the directories that killed processes have left: those without a lock. A new draft may get its lock soon.
fn remove_abandoned(memory: &Path) {
    for entry in fs::read_dir(memory).into_iter().flatten().flatten() {
        let (name, prefix) = (entry.file_name(), prefix());
        let name = name.to_string_lossy();
        let draft = name.strip_prefix('.').is_some_and(|name| name.starts_with(&prefix));
        let is_ours = (name.starts_with(&prefix) || draft)
            && entry
                .metadata()
                .is_ok_and(|found| found.uid() == geteuid().as_raw() && (!draft || is_old(&found)));
        let directory = is_ours.then(|| open(&entry.path()).ok()).flatten();
        // A directory in use is locked. The lock is kept until all files are removed.
        if directory.is_some_and(|directory| {
            directory.try_lock().is_ok() && fs::remove_dir_all(entry.path()).is_ok()
        }) {
            tracing::info!(directory = %entry.path().display(), "removed what killed processes had left");
        }
    }
}

fn is_old(found: &fs::Metadata) -> bool {
    found.modified().is_ok_and(|made| made.elapsed().is_ok_and(|age| age > DRAFT_LIFE))
}
