//! Shared memory objects: opened without following links, checked before use, removed by name. Those without a name:
//! `memory_file.rs`.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, posix_fallocate},
    sys::{
        resource::{Resource, getrlimit},
        stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, lstat, stat},
        uio::pwrite,
    },
    unistd::{Gid, fchown, ftruncate, geteuid, unlink},
};
use shared_memory::{ShmemConf, ShmemError};

use super::{
    descriptor::{Descriptor, Inode},
    directory::{self, SHARED_MEMORY},
};
use crate::error::{ErrorKind, Fault};

/// The mode of objects: only their user may read and write them.
pub(super) const PRIVATE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// The mode of an object that a group may read.
const SHARED: Mode = PRIVATE.union(Mode::S_IRGRP);

/// An open object and its size.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) fd: Descriptor,
    pub(crate) bytes: usize,
    /// Whether its mode lets its group read it.
    pub(crate) group_reads: bool,
}

/// Opens the object of the path `name` for reading and writing. Follows no symbolic link.
pub(crate) fn open(name: &str) -> Result<Object, Fault> {
    let object = open_shared(name)?;
    if object.group_reads { Err(insecure(name, SHARED.bits())) } else { Ok(object) }
}

/// As [`open`], for an object that a group may be allowed to read. The caller checks whether it may.
pub(crate) fn open_shared(name: &str) -> Result<Object, Fault> {
    let us = geteuid().as_raw();
    let fd = open_file(name, OFlag::O_RDWR, Mode::empty()).map_err(|e| open_fault(name, us, e))?;
    Object::checked(name, fd, us)
}

/// Opens the object `name` of the user `owner` for reading only. The kernel allows it to a member of the object's group.
/// It also refuses each later attempt to write through the descriptor, by whatever way.
pub(crate) fn open_to_read(name: &str, owner: u32) -> Result<Object, Fault> {
    // Without a wait: another user may have put a pipe there, whose open waits for a writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let fd = open_file(name, flags, Mode::empty()).map_err(|errno| match (errno, lstat(name)) {
        (Errno::EACCES, Ok(stat)) if misfit(name, &stat, owner).is_none() => {
            unreadable(name, &stat)
        }
        (_, Err(Errno::EACCES)) => {
            let text = format!(
                "{name} cannot be reached by uid {}; let the group enter its directory (chmod 750)",
                geteuid()
            );
            Fault::new(ErrorKind::Misconfigured, text)
        }
        _ => open_fault(name, owner, errno),
    })?;
    Object::checked(name, fd, owner)
}

/// Why the object cannot be read, which belongs to another user.
fn unreadable(name: &str, stat: &FileStat) -> Fault {
    let (owner, group) = (stat.st_uid, stat.st_gid);
    if stat.st_mode & Mode::S_IRGRP.bits() == 0 {
        let text = format!(
            "{name} can be read by uid {owner} alone: that user shares the session with no group, or still creates it"
        );
        return Fault::new(ErrorKind::Uninitialized, text);
    }
    let text = format!(
        "{name} belongs to uid {owner}, and the group {group} may read it; this process is uid {} and not in that group",
        geteuid()
    );
    Fault::new(ErrorKind::ForeignOwner, text)
}

/// Lets the group `gid` read the object, and nobody else. The object belongs to the group before its mode changes, so no
/// other group can read it in between.
pub(crate) fn share_with_group(object: &Object, name: &str, gid: u32) -> Result<(), Fault> {
    let fd = object.fd.get()?;
    fchown(fd, None, Some(Gid::from_raw(gid))).map_err(|errno| {
        let fault = Fault::system(&format!("group: giving {name} to the group {gid}"), errno);
        match errno {
            Errno::EPERM | Errno::EINVAL => fault.with_advice(
                "give a group that this process is a member of, in this user namespace",
            ),
            _ => fault,
        }
    })?;
    fchmod(fd, SHARED)
        .map_err(|errno| Fault::system(&format!("group: changing the mode of {name}"), errno))
}

/// Opens a file without following a symbolic link. On some systems `/dev/shm` itself is a link that root made.
fn open_file(name: &str, flags: OFlag, mode: Mode) -> nix::Result<OwnedFd> {
    if name.rsplit_once('/').is_some_and(|(directory, _)| directory == SHARED_MEMORY) {
        return nix::fcntl::open(name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, mode);
    }
    directory::open_without_links(name, flags, mode)
}

/// Opens the file of `fd` again, as a new open file description.
pub(crate) fn reopen(fd: BorrowedFd<'_>) -> Result<Object, Fault> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let again = nix::fcntl::open(path.as_str(), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| {
            let fault = Fault::system(&format!("opening the lock file again, by {path}"), errno);
            match errno {
                Errno::ENOENT => fault.with_advice(
                    "mount /proc, or use a session that is not sealed and has a directory",
                ),
                _ => fault,
            }
        })?;
    Object::inherited("the lock file", again)
}

/// Opens the object `name`. Creates an empty one if there is none: then the flag is true.
pub(crate) fn open_or_create(name: &str) -> Result<(Object, bool), Fault> {
    loop {
        match open_file(name, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL, PRIVATE) {
            Ok(fd) => {
                let made = Object::made(name, fd).inspect_err(|_| drop(remove(name)));
                return made.map(|object| (object, true));
            }
            Err(Errno::EEXIST) => match open(name) {
                // It was removed meanwhile.
                Err(fault) if fault.kind == ErrorKind::Absent => {}
                // Another process has just made it, and gives it its mode now; or it was killed before that.
                Err(fault) if fault.kind == ErrorKind::Uninitialized => {
                    set_mode(name, PRIVATE).map_err(|_| fault)?;
                }
                opened => return opened.map(|object| (object, false)),
            },
            Err(errno) => return Err(creation_fault(name, errno)),
        }
    }
}

/// Creates the object `name`. The kernel reserves `bytes` of memory for it, so that a full file system is an error
/// here and not a SIGBUS later.
pub(crate) fn create(name: &str, bytes: usize) -> Result<Object, Fault> {
    check_limit(bytes)?;
    match name.strip_prefix(SHARED_MEMORY) {
        Some(object) if object.rfind('/') == Some(0) => {
            create_shared(object, bytes).map_err(|errno| creation_fault(name, errno))?
        }
        _ => {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL;
            let file = open_file(name, flags, PRIVATE);
            drop(file.map_err(|errno| creation_fault(name, errno))?);
        }
    }
    let made =
        open_made(name).and_then(|object| reserve(name, object.fd.get()?, bytes).map(|()| object));
    if made.is_err() {
        let _ = remove(name);
    }
    Ok(Object { bytes, ..made? })
}

/// Opens the object `name`, which this process has just created, and gives it its mode.
fn open_made(name: &str) -> Result<Object, Fault> {
    let open = || open_file(name, OFlag::O_RDWR, Mode::empty());
    let opened = match open() {
        // The mask of the process has taken the owner's bits from the mode, too.
        Err(Errno::EACCES) => set_mode(name, PRIVATE).and_then(|()| open()),
        opened => opened,
    };
    Object::made(name, opened.map_err(|errno| open_fault(name, geteuid().as_raw(), errno))?)
}

/// Gives a new file exactly `mode`, whatever the mask of the process is. For a file in a directory in which others cannot
/// replace it.
pub(super) fn set_mode(name: &str, mode: Mode) -> nix::Result<()> {
    fchmodat(AT_FDCWD, name, mode, FchmodatFlags::FollowSymlink)
}

/// Creates the object `name` in `/dev/shm`.
fn create_shared(name: &str, bytes: usize) -> nix::Result<()> {
    let created = ShmemConf::new().os_id(name).size(bytes).create();
    let mut shmem = created.map_err(|error| match error {
        ShmemError::LinkExists | ShmemError::MappingIdExists => Errno::EEXIST,
        ShmemError::MapCreateFailed(errno)
        | ShmemError::MapOpenFailed(errno)
        | ShmemError::UnknownOsError(errno) => Errno::from_raw(errno as i32),
        _ => Errno::EIO,
    })?;
    // A forked child would inherit the owner flag of the crate, and remove the name when it drops its copy. The
    // session itself decides which process removes the name.
    shmem.set_owner(false);
    Ok(())
}

/// Reserves `bytes` of memory for the file of `name`.
pub(crate) fn reserve(name: &str, fd: BorrowedFd<'_>, bytes: usize) -> Result<(), Fault> {
    reserve_range(name, fd, 0, bytes)
}

/// Sets the size of the file. Takes no memory.
pub(crate) fn resize(fd: BorrowedFd<'_>, bytes: usize) -> Result<(), Fault> {
    check_limit(bytes)?;
    let length = i64::try_from(bytes).unwrap_or(i64::MAX);
    ftruncate(fd, length).map_err(|e| Fault::system("sizing the shared memory object", e))
}

/// Reserves `bytes` of memory from `offset` on. The contents that are there stay.
pub(crate) fn reserve_range(
    name: &str,
    fd: BorrowedFd<'_>,
    offset: usize,
    bytes: usize,
) -> Result<(), Fault> {
    check_limit(offset + bytes)?;
    let start = i64::try_from(offset).unwrap_or(i64::MAX);
    let length = i64::try_from(bytes).unwrap_or(i64::MAX);
    let reserved = loop {
        match posix_fallocate(fd, start, length) {
            // A signal. Before Linux 6.14 any signal ends the call on a tmpfs.
            Err(Errno::EINTR) => {}
            // Not there (a ramfs), or not allowed by a sandbox.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EOPNOTSUPP) => {
                break write_zeros(fd, offset, bytes);
            }
            reserved => break reserved,
        }
    };
    reserved.map_err(|errno| {
        Fault::system(&format!("reserving {bytes} bytes for {name}"), errno)
            .kind(ErrorKind::NoSpace)
    })
}

/// Reserves memory by writing to it.
fn write_zeros(fd: BorrowedFd<'_>, start: usize, bytes: usize) -> nix::Result<()> {
    let mut done = 0;
    while done < bytes {
        let offset = i64::try_from(start + done).unwrap_or(i64::MAX);
        match pwrite(fd, &vec![0; bytes - done], offset) {
            Ok(0) => return Err(Errno::ENOSPC),
            Ok(written) => done += written,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Checks that this process may make a file of `bytes`. For a file beyond `RLIMIT_FSIZE` the kernel sends SIGXFSZ,
/// which kills the process.
pub(super) fn check_limit(bytes: usize) -> Result<(), Fault> {
    match getrlimit(Resource::RLIMIT_FSIZE) {
        // A limit that the kernel does not tell may be none.
        Ok((limit, _)) if limit < bytes as u64 => {
            let text = format!(
                "{bytes} bytes of shared memory are needed, but RLIMIT_FSIZE allows {limit}; raise the limit"
            );
            Err(Fault::new(ErrorKind::NoSpace, text))
        }
        _ => Ok(()),
    }
}

/// The identity of the file that has the path `name` now. Does not open it. `None` when there is no such file.
///
/// # Errors
/// `System` when the kernel does not tell.
pub(crate) fn inode_by_name(name: &str) -> Result<Option<Inode>, Fault> {
    match stat(name) {
        Ok(stat) => Ok(Some(Inode::of(&stat))),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES) => Ok(None),
        Err(errno) => Err(Fault::system(&format!("stat of {name}"), errno)),
    }
}

/// Whether anything has the path `name`: also what is no object of a session.
pub(crate) fn exists(name: &str) -> bool {
    lstat(name).is_ok()
}

/// Removes the name. Processes that have the memory mapped keep it.
///
/// # Errors
/// `NoSpace` in a read-only file system, else `System`. A missing name is no error.
pub(crate) fn remove(name: &str) -> Result<(), Fault> {
    match unlink(name) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => {
            Err(Fault::system(&format!("removing {name}"), errno).kind(place_kind(errno)))
        }
    }
}

/// The size of an open object.
pub(crate) fn bytes(fd: BorrowedFd<'_>) -> Result<usize, Fault> {
    let stat = fstat(fd).map_err(|e| Fault::system("fstat of a shared memory object", e))?;
    Ok(size(&stat))
}

fn size(stat: &FileStat) -> usize {
    usize::try_from(stat.st_size).unwrap_or(0)
}

impl Object {
    /// An object that this process inherited. It may have changed its user id since, so the owner is not checked.
    pub(crate) fn inherited(name: &str, fd: OwnedFd) -> Result<Self, Fault> {
        let fd = Descriptor::keep(fd, name)?;
        let bytes = bytes(fd.get()?)?;
        Ok(Object { fd, bytes, group_reads: false })
    }

    /// A new object of this process. It gets exactly the mode [`PRIVATE`]: the mask of the process (umask) may have taken bits
    /// from it that other processes of this user need.
    fn made(name: &str, fd: OwnedFd) -> Result<Self, Fault> {
        let object = Object::checked(name, fd, geteuid().as_raw())?;
        let failed = |errno| Fault::system(&format!("setting the mode of {name}"), errno);
        let fd = object.fd.get()?;
        if fstat(fd).map_err(failed)?.st_mode & 0o7777 != PRIVATE.bits() {
            fchmod(fd, PRIVATE).map_err(failed)?;
        }
        Ok(object)
    }

    /// Checks that the open object is a regular file of the user `owner` that no other user can access, or that only a
    /// group can read.
    fn checked(name: &str, fd: OwnedFd, owner: u32) -> Result<Self, Fault> {
        let fd = Descriptor::keep(fd, name)?;
        let looked = fstat(fd.get()?).map_err(|e| Fault::system(&format!("fstat of {name}"), e));
        let stat = looked?;
        if let Some(fault) = misfit(name, &stat, owner) {
            return Err(fault);
        }
        let mode = stat.st_mode & 0o7777;
        let beyond_owner = mode & 0o077;
        if beyond_owner != 0 && beyond_owner != Mode::S_IRGRP.bits() {
            return Err(insecure(name, mode));
        }
        Ok(Object { bytes: size(&stat), fd, group_reads: beyond_owner != 0 })
    }

    pub(crate) fn inode(&self) -> Inode {
        self.fd.inode()
    }
}

/// The error for an object that more users can access than should.
pub(crate) fn insecure(name: &str, mode: u32) -> Fault {
    let text =
        format!("{name} has mode {mode:04o}; group and others must have no access (chmod 600)");
    Fault::new(ErrorKind::InsecureMode, text)
}

fn open_fault(name: &str, owner: u32, errno: Errno) -> Fault {
    // `lstat` works even without permission to open the file.
    let found = lstat(name).ok();
    if let Some(fault) = found.and_then(|stat| misfit(name, &stat, owner)) {
        return fault;
    }
    let mode = found.map_or(PRIVATE, |stat| Mode::from_bits_truncate(stat.st_mode & 0o7777));
    if errno == Errno::EACCES && owner == geteuid().as_raw() && !mode.contains(PRIVATE) {
        let text = format!(
            "{name} has mode {:04o}, with which its own user cannot open it: its creator was killed, or somebody changed it; \
             remove it",
            mode.bits()
        );
        return Fault::new(ErrorKind::Uninitialized, text);
    }
    let kind = match errno {
        Errno::ENOENT => ErrorKind::Absent,
        Errno::ENOSPC | Errno::ENOMEM => ErrorKind::NoSpace,
        _ => ErrorKind::System,
    };
    Fault::system(&format!("opening the shared memory object {name}"), errno).kind(kind)
}

/// Why the object cannot be created. With `O_CREAT` the object cannot be missing, so ENOENT means its directory.
fn creation_fault(name: &str, errno: Errno) -> Fault {
    let found = lstat(name).ok().and_then(|stat| misfit(name, &stat, geteuid().as_raw()));
    found.unwrap_or_else(|| {
        let doing = format!("creating the shared memory object {name}");
        Fault::system(&doing, errno).kind(place_kind(errno))
    })
}

/// The kind of a failure to change a directory: whether another directory would help.
fn place_kind(errno: Errno) -> ErrorKind {
    match errno {
        Errno::ENOENT
        | Errno::ENOTDIR
        | Errno::ENOSPC
        | Errno::EDQUOT
        | Errno::ENOMEM
        | Errno::EROFS
        | Errno::EACCES => ErrorKind::NoSpace,
        _ => ErrorKind::System,
    }
}

/// Why the object cannot belong to a session of the user `expected`: it is not a regular file, or another user owns it.
fn misfit(name: &str, stat: &FileStat, expected: u32) -> Option<Fault> {
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFREG {
        return Some(Fault::new(ErrorKind::NotAFile, format!("{name} is not a regular file")));
    }
    let (owner, us) = (stat.st_uid, geteuid().as_raw());
    (owner != expected).then(|| {
        let text = match expected == us {
            true => format!("{name} belongs to uid {owner}; this process is uid {us}"),
            false => {
                format!("{name} belongs to uid {owner}; the session's owner is uid {expected}")
            }
        };
        Fault::new(ErrorKind::ForeignOwner, text)
    })
}
