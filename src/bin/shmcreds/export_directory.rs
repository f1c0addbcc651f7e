//! What the processes that export a session share: a directory in memory, and who uses it.
//!
//! | locked | by whom | meaning |
//! | --- | --- | --- |
//! | the directory | who joins, or ends the endpoint | one at a time |
//! | `users`, shared | each process that uses the endpoint; forked children inherit it | it is in use |
//! | `server` | the process that serves | it is alive |
//!
//! The kernel frees a lock when the last process that has it ends, however it ends.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{libc, unistd::geteuid};
use serde::{Deserialize, Serialize};
use shmcreds::{SharedSession, endpoint::random::random_name};

use crate::errno::told;

/// How long a server waits for a descriptor that a client gives back.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);

/// What is known of the server, in the file that it locks. A new server has the same address and the same token.
#[derive(Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) pid: i32,
    pub(crate) port: u16,
    pub(crate) token: String,
    pub(crate) token_file: PathBuf,
}

/// The directory, locked as long as this lives.
pub(crate) struct ExportDirectory {
    path: PathBuf,
    _lock: File,
}

impl ExportDirectory {
    /// Locks the directory of a session, and makes it if there is none. Removes those that killed processes have left.
    pub(crate) fn of(session: &str) -> io::Result<Self> {
        let mut outcome = Err(io::Error::other(
            "no directory in memory was found; mount a tmpfs at /dev/shm, or name one by SHMCREDS_DIR",
        ));
        for memory in SharedSession::memory_directories() {
            remove_abandoned(&memory);
            if outcome.is_err() {
                let path = memory.join(format!("{}{session}", prefix()));
                let failed = |e| io::Error::other(format!("{}: {}", path.display(), told(&e)));
                outcome = make_and_lock(&path).map_err(failed);
            }
        }
        outcome
    }

    /// Notes that this process uses the endpoint, as long as the file is open.
    pub(crate) fn join(&self) -> io::Result<File> {
        let users = open(&self.path, "users")?;
        users.lock_shared()?;
        Ok(users)
    }

    /// The file of the server, and what it says. It is locked if the server is alive.
    pub(crate) fn server(&self) -> io::Result<(File, Option<Server>)> {
        let mut file = open(&self.path, "server")?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // What comes after it is the rest of a longer state before.
        let known = serde_json::Deserializer::from_str(&text).into_iter().next();
        Ok((file, known.and_then(Result::ok)))
    }

    /// Writes a file that clients read, and gives its path. A client of root may be another user, and must still read it:
    /// then its random name protects it.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        if fs::read_to_string(&path).is_ok_and(|written| written == text) {
            return Ok(path);
        }
        let draft = self.path.join(random_name(".draft-")?);
        let written = self.write_draft(&draft, text).and_then(|()| fs::rename(&draft, &path));
        if written.is_err() {
            // For example the tmpfs is full.
            let _ = fs::remove_file(&draft);
        }
        written.map(|()| path)
    }

    fn write_draft(&self, draft: &Path, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
        file.write_all(text.as_bytes())?;
        // Whatever the mask of the process is.
        let mode = if geteuid().is_root() { 0o444 } else { 0o600 };
        file.set_permissions(Permissions::from_mode(mode))?;
        if geteuid().is_root() {
            fs::set_permissions(&self.path, Permissions::from_mode(0o711))?;
        }
        Ok(())
    }

    /// For the server of this directory.
    pub(crate) fn watch(&self) -> io::Result<Watch> {
        Ok(Watch { path: self.path.clone(), users: open(&self.path, "users")? })
    }

    /// Removes the directory, if no process uses the endpoint but this one, by `users`. What fails here is done by the next
    /// process that joins.
    pub(crate) fn remove_if_unused(&self, users: &File) {
        if users.try_lock().is_ok() {
            let _ = self.remove();
        }
    }

    /// Removes the directory, if it is new.
    pub(crate) fn remove_if_empty(&self) {
        let _ = fs::remove_dir(&self.path);
    }

    fn remove(&self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

/// Writes what is known of the server. The file is its lock. It needs no more memory than the state before, and a process
/// that is killed here leaves that of before or the new one.
pub(crate) fn note(mut file: &File, server: &Server) -> io::Result<()> {
    let text = serde_json::to_vec(server)?;
    file.rewind()?;
    file.write_all(&text)?;
    file.set_len(text.len() as u64)
}

/// What a server needs to see that no process uses it any more.
pub(crate) struct Watch {
    path: PathBuf,
    /// Opened before clients come, which also need descriptors.
    users: File,
}

impl Watch {
    /// Waits until no process uses the endpoint, and removes the directory.
    pub(crate) fn remove_when_unused(&self) -> io::Result<()> {
        loop {
            self.users.lock()?;
            self.users.unlock()?;
            // A process that joins has the lock of the directory, and may wait for that of the users.
            let directory = match make_and_lock(&self.path) {
                Err(error)
                    if [Some(libc::EMFILE), Some(libc::ENFILE)].contains(&error.raw_os_error()) =>
                {
                    thread::sleep(DESCRIPTOR_PAUSE);
                    continue;
                }
                made => made?,
            };
            match self.users.try_lock() {
                Ok(()) => return directory.remove(),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

/// The name of a file with this text, the same for each process that writes it.
pub(crate) fn name_by_content(prefix: &str, text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{prefix}{:016x}", hasher.finish())
}

fn prefix() -> String {
    format!("shmcreds-export-{}-", geteuid())
}

/// Opens a file, and makes it if there is none. The directory is locked, so no other process makes it meanwhile.
fn open(directory: &Path, name: &str) -> io::Result<File> {
    let path = directory.join(name);
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    match options.clone().create_new(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            give_owner(&path, 0o600)?;
            options.open(&path)
        }
        made => {
            let file = made?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        }
    }
}

/// Gives a file or directory of this user back what the mask of its maker (umask) has taken from the mode: the maker itself
/// may have been killed before it did so.
fn give_owner(path: &Path, mode: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let is_ours = found.uid() == geteuid().as_raw() && !found.is_symlink();
    if is_ours && found.mode() & mode != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

fn open_directory(path: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let directory = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = directory.metadata()?;
    if found.uid() != geteuid().as_raw() || found.mode() & 0o066 != 0 {
        let text = "it belongs to another user, or others can read it; remove it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(directory)
}

fn make_and_lock(path: &Path) -> io::Result<ExportDirectory> {
    loop {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let lock = match give_owner(path, 0o700).and_then(|()| open_directory(path)) {
            // Another process has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        lock.lock()?;
        let named = fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()));
        let locked = lock.metadata()?;
        if named.is_ok_and(|named| named == (locked.dev(), locked.ino())) {
            return Ok(ExportDirectory { path: path.to_owned(), _lock: lock });
        }
    }
}

/// Removes the directories that killed processes have left: nobody has a lock.
fn remove_abandoned(memory: &Path) {
    for entry in fs::read_dir(memory).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&prefix()) {
            continue;
        }
        let Ok(directory) = open_directory(&entry.path()) else { continue };
        let is_free = |name| open(&entry.path(), name).is_ok_and(|file| file.try_lock().is_ok());
        if directory.try_lock().is_ok() && is_free("users") && is_free("server") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
