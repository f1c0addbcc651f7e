//! Files for CMD: in memory, for as long as it runs.
//!
//! They lie in a directory in `/dev/shm` that is locked by guard and supervisor. One that nobody locks was
//! left by killed processes, of whatever pid namespace, and the next `exec` removes it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{libc, unistd::geteuid};

use crate::environment::random_name;

const MEMORY: &str = "/dev/shm";

pub(crate) struct Files {
    path: PathBuf,
    /// Holds the lock.
    _directory: File,
}

impl Files {
    /// Makes an empty directory of this process, and removes those that killed ones have left.
    pub(crate) fn create() -> io::Result<Self> {
        remove_left();
        loop {
            let path = Path::new(MEMORY).join(random_name(&prefix())?);
            DirBuilder::new().mode(0o700).create(&path)?;
            let directory = open(&path)?;
            // Another `exec` may have taken it for one that was left.
            if directory.try_lock().is_ok() && is_at(&directory, &path) {
                return Ok(Files { path, _directory: directory });
            }
        }
    }

    /// Writes a file with a name that begins with `name`. As root CMD may become another user, who has to be
    /// able to read it: then the name, which nobody can list, is what protects it.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path.join(random_name(name)?);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        if geteuid().is_root() {
            file.set_permissions(Permissions::from_mode(0o444))?;
            fs::set_permissions(&self.path, Permissions::from_mode(0o711))?;
        }
        Ok(path)
    }

    /// Removes all. The other of guard and supervisor may have done so.
    pub(crate) fn remove(&self) {
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

/// Whether `directory` is what the path leads to.
fn is_at(directory: &File, path: &Path) -> bool {
    let inode = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|found| found.ino());
    inode(directory.metadata()) == inode(fs::symlink_metadata(path))
}

fn remove_left() {
    for entry in fs::read_dir(MEMORY).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(&prefix())
            && entry.metadata().is_ok_and(|found| found.uid() == geteuid().as_raw());
        let directory = is_ours.then(|| open(&entry.path()).ok()).flatten();
        // A live one is locked. The lock is kept until all is gone.
        if directory.is_some_and(|directory| {
            directory.try_lock().is_ok() && fs::remove_dir_all(entry.path()).is_ok()
        }) {
            tracing::info!(directory = %entry.path().display(), "removed what killed processes had left");
        }
    }
}
