//! Directories for objects with names: opened without following a symbolic link, and the file systems that they are on.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat, openat2},
    sys::{
        stat::{FileStat, Mode, fstat},
        statfs::{Statfs, fstatfs, statfs},
    },
};

/// The directory of the C library's shared memory objects.
pub(crate) const SHARED_MEMORY: &str = "/dev/shm";

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileSystem {
    magic: i64,
    /// In bytes, for this user.
    pub(crate) free: u64,
    pub(crate) size: u64,
}

impl FileSystem {
    fn of(found: Statfs) -> Self {
        let block = u64::try_from(found.block_size()).unwrap_or(0);
        FileSystem {
            magic: found.filesystem_type().0,
            free: found.blocks_available().saturating_mul(block),
            size: found.blocks().saturating_mul(block),
        }
    }

    /// Whether it keeps its files in memory. Memory files are on a tmpfs of the kernel's own.
    pub(crate) fn is_memory(&self) -> bool {
        matches!(self.magic, TMPFS | RAMFS)
    }

    /// Its type, and where it is mounted, if `/proc` tells. `path` is a file or directory on it.
    pub(crate) fn describe(&self, path: &str) -> String {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        match mount_of(path, &mounts) {
            Some((kind, mount)) => format!("{kind} (mounted at {mount})"),
            None => format!("a file system of type {:#x}", self.magic),
        }
    }
}

/// The file system of an open file or directory.
pub(crate) fn file_system(fd: impl AsFd) -> nix::Result<FileSystem> {
    fstatfs(fd).map(FileSystem::of)
}

/// The file system of the directory `path`, which symbolic links may lead to. One system call, in place of three.
pub(crate) fn file_system_of(path: &str) -> nix::Result<FileSystem> {
    // With a slash at the end, the kernel refuses what is no directory.
    statfs(&*format!("{path}/")).map(FileSystem::of)
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// Opens it. No part of the path may be a symbolic link.
    pub(crate) fn open(path: &str) -> nix::Result<Self> {
        open_without_links(path, DIRECTORY, Mode::empty()).map(Directory)
    }

    /// Opens it, through symbolic links as well.
    pub(crate) fn open_through_links(path: &str) -> nix::Result<Self> {
        open(path, DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map(Directory)
    }

    pub(crate) fn stat(&self) -> nix::Result<FileStat> {
        fstat(&self.0)
    }

    pub(crate) fn file_system(&self) -> nix::Result<FileSystem> {
        file_system(&self.0)
    }
}

/// Opens the absolute path. When a part of it is a symbolic link, the error is `ELOOP` or `ENOTDIR`.
pub(crate) fn open_without_links(path: &str, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(mode)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(AT_FDCWD, path, how) {
        // Before Linux 5.6, or below a filter that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => walk(path, flags, mode),
        opened => opened,
    }
}

/// Opens the absolute path part by part.
fn walk(path: &str, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let last = parts.pop().unwrap_or(".");
    let mut at = open("/", DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let links = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    for part in parts {
        at = openat(&at, part, DIRECTORY | links, Mode::empty())?;
    }
    openat(&at, last, flags | links, mode)
}

/// The names of all files in a directory.
///
/// # Errors
/// When the directory cannot be read. A missing directory has no files and is no error.
pub(crate) fn names(path: &str) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

/// The type and the mount point of the file system of `path`, from the lines of `/proc/self/mountinfo`.
fn mount_of(path: &str, mounts: &str) -> Option<(String, String)> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        // Spaces in it are written as \040.
        let point = before.split(' ').nth(4)?.replace("\\040", " ");
        Some((after.split(' ').next()?.to_owned(), point))
    };
    let is_above = |(_, point): &(String, String)| {
        let rest = path.strip_prefix(point.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // Of several mounts at one point, the last one covers the others.
    mounts.lines().filter_map(mount).filter(is_above).max_by_key(|(_, point)| point.len())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_symbolic_link_on_the_way_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real");
        std::fs::create_dir(&real).unwrap();
        symlink(&real, folder.path().join("link")).unwrap();
        std::fs::create_dir(real.join("inner")).unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for open in [open_without_links, walk] {
            let open = |name| open(&path(name), DIRECTORY, Mode::empty()).map(drop);
            assert_eq!(open("real/inner"), Ok(()));
            for link in ["link", "link/inner"] {
                let error = open(link).unwrap_err();
                assert!(matches!(error, Errno::ELOOP | Errno::ENOTDIR), "{link}: {error}");
            }
            assert_eq!(open("missing"), Err(Errno::ENOENT));
        }
    }

    #[test]
    fn the_mount_of_a_path_is_the_last_of_the_longest() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/vda rw\n\
                      2 1 0:5 / /dev rw - devtmpfs dev rw\n\
                      3 2 0:6 / /dev/shm rw - tmpfs tmpfs rw\n\
                      4 2 0:7 / /dev/shm rw - xfs /dev/vdb rw\n\
                      5 1 0:8 / /with\\040space rw shared:1 - ramfs none rw\n";
        for (path, kind, point) in [
            ("/dev/shm/a", "xfs", "/dev/shm"),
            ("/dev/shm", "xfs", "/dev/shm"),
            ("/dev/shmoo", "devtmpfs", "/dev"),
            ("/tmp", "ext4", "/"),
            ("/with space/b", "ramfs", "/with space"),
        ] {
            assert_eq!(mount_of(path, mounts), Some((kind.to_owned(), point.to_owned())), "{path}");
        }
        assert_eq!(mount_of("/tmp", ""), None);
    }
}
