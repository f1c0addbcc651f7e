//! Memory files: objects without a name in the file system. Only processes that inherit or are given the descriptor have them.

use std::{
    fs::File,
    io::{Seek, Write},
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, SealFlag, fcntl},
    libc,
    sys::stat::{Mode, fchmod, fstat},
    unistd::ftruncate,
};
use rustix::fs::{MemfdFlags, memfd_create};

use super::{
    descriptor::{Descriptor, Inode},
    object::{Object, PRIVATE, check_limit, reserve},
};
use crate::error::{ErrorKind, Fault};

/// The permanent seal of a memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    /// Against a change of its size, which would cause a SIGBUS in processes that have it mapped.
    Size,
    /// Against a change of its size, and against writes except through existing mappings.
    AgainstWriting,
}

/// Creates an empty memory file. By the system call: the C library has a function for it only since glibc 2.27.
pub(crate) fn memory_file(name: &str, flags: MemfdFlags) -> nix::Result<OwnedFd> {
    memfd_create(name, flags).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// Creates a memory file without a name in the file system. The kernel reserves `bytes` of memory for it. `name`
/// is for people.
pub(crate) fn create_anonymous(name: &str, bytes: usize) -> Result<Object, Fault> {
    let failed = |errno| Fault::system("creating a memory file (memfd_create)", errno);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memory_file(name, flags).map_err(failed)?;
    // The kernel creates it with access for everyone. Only processes that inherit it may use it.
    fchmod(&fd, PRIVATE).map_err(failed)?;
    let object = Object::inherited(name, fd)?;
    reserve(name, object.fd.get()?, bytes)?;
    Ok(Object { bytes, ..object })
}

/// Creates a memory file with these bytes, to be read from its beginning.
pub(crate) fn create_filled(name: &str, bytes: &[u8]) -> Result<File, Fault> {
    let failed = |error| Fault::system("writing a memory file", error);
    let memory = memory_file(name, MemfdFlags::CLOEXEC)
        .map_err(|errno| Fault::system("creating a memory file", errno))?;
    let mut file = File::from(memory);
    file.write_all(bytes).map_err(failed)?;
    file.rewind().map_err(failed)?;
    Ok(file)
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
            Errno::ENOSYS | Errno::EPERM => Fault::new(
                ErrorKind::Unsupported,
                "secret_memory: this kernel or sandbox has none; it needs Linux 5.14, secretmem.enable=1 on its \
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
    let sealed = fcntl(object.fd.get()?, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL));
    sealed.map(drop).map_err(|errno| match (seal, errno) {
        (Seal::AgainstWriting, Errno::EINVAL) => Fault::new(
            ErrorKind::Unsupported,
            "this kernel cannot seal memory against writing (F_SEAL_FUTURE_WRITE), which a sealed session needs: use \
             Linux 5.1 or later, or a session that is not sealed",
        ),
        _ => Fault::system("sealing a memory file (fcntl F_ADD_SEALS)", errno),
    })
}
