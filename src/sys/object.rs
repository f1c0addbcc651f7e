//! Shared memory objects: opened without following links, checked before use, removed by name.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, SealFlag, fcntl, posix_fallocate},
    libc,
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{shm_open, shm_unlink},
        resource::{Resource, getrlimit},
        stat::{FileStat, Mode, SFlag, fchmod, fstat, lstat, stat},
    },
    unistd::{ftruncate, geteuid},
};
use shared_memory::{ShmemConf, ShmemError};

use super::descriptor::{Descriptor, Inode};
use crate::error::{ErrorKind, Fault};

/// An open object and its size.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) fd: Descriptor,
    pub(crate) bytes: usize,
}

/// Opens the object `name` for reading and writing. `shm_open` follows no symbolic link and sets close-on-exec.
pub(crate) fn open(name: &str) -> Result<Object, Fault> {
    let fd = shm_open(name, OFlag::O_RDWR, Mode::empty()).map_err(|e| open_fault(name, e))?;
    Object::checked(name, fd)
}

/// The permanent seal of a memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// Against a change of its size, which would cause a SIGBUS in processes that have it mapped.
    Size,
    /// Against a change of its size, and against writes except through existing mappings.
    AgainstWriting,
}

/// Creates a memory file without a name in the file system. The kernel reserves `bytes` of memory for it. `name`
/// is for people.
pub(crate) fn create_anonymous(name: &str, bytes: usize) -> Result<Object, Fault> {
    let failed = |errno| Fault::system("creating a memory file", errno);
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = memfd_create(name.trim_start_matches('/'), flags).map_err(failed)?;
    // The kernel creates it with access for everyone. Only processes that inherit it may use it.
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
    let object = Object::inherited(name, fd)?;
    reserve(object.fd.get()?, bytes)?;
    Ok(Object { bytes, ..object })
}

/// Lets every process that inherited the memory file open it again, even after a change of its user id.
/// The file has no name. Other processes can only find it in `/proc` of a process that has it.
pub(crate) fn open_to_inheritors(object: &Object) -> Result<(), Fault> {
    fchmod(object.fd.get()?, Mode::from_bits_truncate(0o666))
        .map_err(|errno| Fault::system("changing the mode of a memory file", errno))
}

/// Creates `bytes` of secret memory. The kernel removes it from its own address space, so that not even its debug
/// interfaces can read it. It cannot be sealed: every process with the descriptor can write it.
pub(crate) fn create_secret(bytes: usize) -> Result<Descriptor, Fault> {
    // SAFETY: the system call takes no pointers.
    let number = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let Ok(number @ 0..) = RawFd::try_from(number) else {
        let fault = Fault::system("secret_memory: memfd_secret", Errno::last());
        return Err(match Errno::last() {
            Errno::ENOSYS => Fault::new(
                ErrorKind::Unsupported,
                "secret_memory: this kernel has none; it needs Linux 5.14, secretmem.enable=1 on its \
                 command line before 6.5, and a sandbox that allows memfd_secret",
            ),
            _ => fault,
        });
    };
    // SAFETY: the kernel has just returned this number as a new descriptor, so nothing else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    check_limit(bytes)?;
    let length = i64::try_from(bytes).unwrap_or(i64::MAX);
    ftruncate(&fd, length).map_err(|e| Fault::system("sizing the secret memory", e))?;
    Descriptor::keep(fd, "the secret memory")
}

/// A duplicate of the inherited descriptor `number`, if it is open and refers to `inode`. `number` is not negative.
pub(crate) fn copy_of(number: RawFd, inode: Inode) -> Option<OwnedFd> {
    // SAFETY: `number` is not -1. The borrow lasts for one `F_DUPFD_CLOEXEC`, which changes nothing under that
    // number. For a closed number the kernel returns EBADF. If another file has the number by now, the check of
    // the duplicate below finds that out; no other code knows the number of the duplicate.
    let copy = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().ok()?;
    (Inode::of(&fstat(&copy).ok()?) == inode).then_some(copy)
}

/// Seals a memory file.
pub(crate) fn seal(object: &Object, seal: Seal) -> Result<(), Fault> {
    let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    let seals = match seal {
        Seal::Size => size,
        Seal::AgainstWriting => size | SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE),
    };
    fcntl(object.fd.get()?, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))
        .map(drop)
        .map_err(|errno| Fault::system("sealing a memory file", errno))
}

/// Opens the file of `fd` again, as a new open file description.
pub(crate) fn reopen(fd: BorrowedFd<'_>) -> Result<Object, Fault> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let again = nix::fcntl::open(path.as_str(), OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| Fault::system("opening the lock file again", errno))?;
    Object::inherited("the lock file", again)
}

/// Opens the object `name`. Creates an empty one if there is none.
pub(crate) fn open_or_create(name: &str) -> Result<Object, Fault> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let fd = shm_open(name, flags, mode).map_err(|errno| match errno {
        // With `O_CREAT` the object cannot be missing, so its file system is.
        Errno::ENOENT => open_fault(name, errno).kind(ErrorKind::NoSpace),
        _ => open_fault(name, errno),
    })?;
    Object::checked(name, fd)
}

/// Creates the object `name`. The kernel reserves `bytes` of memory for it, so that a full file system is an error
/// here and not a SIGBUS later.
pub(crate) fn create(name: &str, bytes: usize) -> Result<Object, Fault> {
    check_limit(bytes)?;
    let mut shmem =
        ShmemConf::new().os_id(name).size(bytes).create().map_err(|e| create_fault(name, e))?;
    // A forked child would inherit the owner flag of the crate, and remove the name when it drops its copy. The
    // session itself decides which process removes the name.
    shmem.set_owner(false);
    let made = open(name).and_then(|object| reserve(object.fd.get()?, bytes).map(|()| object));
    if made.is_err() {
        unlink(name);
    }
    made
}

/// Reserves `bytes` of memory for the file.
pub(crate) fn reserve(fd: BorrowedFd<'_>, bytes: usize) -> Result<(), Fault> {
    check_limit(bytes)?;
    let length = i64::try_from(bytes).unwrap_or(i64::MAX);
    loop {
        match posix_fallocate(fd, 0, length) {
            // A signal. Before Linux 6.14 any signal ends the call on a tmpfs.
            Err(Errno::EINTR) => {}
            reserved => {
                return reserved.map_err(|errno| {
                    Fault::system(&format!("reserving {bytes} bytes of shared memory"), errno)
                        .kind(ErrorKind::NoSpace)
                });
            }
        }
    }
}

/// Checks that this process may make a file of `bytes`. For a file beyond `RLIMIT_FSIZE` the kernel sends SIGXFSZ,
/// which kills the process.
fn check_limit(bytes: usize) -> Result<(), Fault> {
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

/// The names of all objects of all users.
///
/// # Errors
/// When the directory cannot be read. A missing directory has no objects and is no error.
pub(crate) fn names() -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir("/dev/shm") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

/// The path that the C library uses for the object.
fn path(name: &str) -> String {
    format!("/dev/shm{name}")
}

/// The identity of the file that has the name `name` now. Does not open it.
pub(crate) fn inode_by_name(name: &str) -> Option<Inode> {
    stat(path(name).as_str()).ok().as_ref().map(Inode::of)
}

/// Removes the name. Processes that have the memory mapped keep it.
pub(crate) fn unlink(name: &str) -> bool {
    shm_unlink(name).is_ok()
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
        Ok(Object { fd, bytes })
    }

    /// Checks that the open object is a regular file of this user that no other user can access.
    pub(crate) fn checked(name: &str, fd: OwnedFd) -> Result<Self, Fault> {
        let fd = Descriptor::keep(fd, name)?;
        let looked = fstat(fd.get()?).map_err(|e| Fault::system(&format!("fstat of {name}"), e));
        let stat = looked?;
        if let Some(fault) = misfit(name, &stat) {
            return Err(fault);
        }
        let mode = stat.st_mode & 0o7777;
        if mode & 0o077 != 0 {
            let text = format!(
                "{name} has mode {mode:04o}; group and others must have no access (chmod 600)"
            );
            return Err(Fault::new(ErrorKind::InsecureMode, text));
        }
        Ok(Object { bytes: size(&stat), fd })
    }

    pub(crate) fn inode(&self) -> Inode {
        self.fd.inode()
    }
}

fn open_fault(name: &str, errno: Errno) -> Fault {
    // `lstat` works even without permission to open the file.
    let found = lstat(path(name).as_str()).ok();
    if let Some(fault) = found.and_then(|stat| misfit(name, &stat)) {
        return fault;
    }
    let kind = match errno {
        Errno::ENOENT => ErrorKind::Absent,
        Errno::ENOSPC | Errno::ENOMEM => ErrorKind::NoSpace,
        _ => ErrorKind::System,
    };
    Fault::system(&format!("opening the shared memory object {name}"), errno).kind(kind)
}

/// Why the object cannot belong to a session: it is not a regular file, or another user owns it.
fn misfit(name: &str, stat: &FileStat) -> Option<Fault> {
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFREG {
        return Some(Fault::new(ErrorKind::NotAFile, format!("{name} is not a regular file")));
    }
    let (owner, us) = (stat.st_uid, geteuid().as_raw());
    (owner != us).then(|| {
        let text = format!("{name} belongs to uid {owner}; this process is uid {us}");
        Fault::new(ErrorKind::ForeignOwner, text)
    })
}

fn create_fault(name: &str, error: ShmemError) -> Fault {
    let errno = match error {
        ShmemError::LinkExists | ShmemError::MappingIdExists => Errno::EEXIST as i32,
        ShmemError::MapCreateFailed(errno)
        | ShmemError::MapOpenFailed(errno)
        | ShmemError::UnknownOsError(errno) => errno as i32,
        _ => Errno::EIO as i32,
    };
    let error = io::Error::from_raw_os_error(errno);
    let fault = Fault::system(&format!("creating the shared memory object {name}"), error);
    match Errno::from_raw(errno) {
        // ENOENT: there is no file system for shared memory.
        Errno::ENOENT | Errno::ENOSPC | Errno::ENOMEM => fault.kind(ErrorKind::NoSpace),
        _ => fault,
    }
}
