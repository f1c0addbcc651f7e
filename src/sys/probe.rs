//! Tries system calls, without any effect that stays.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, FcntlArg, OFlag, OpenHow, fcntl, openat2, posix_fallocate},
    libc,
    sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap},
    unistd::getpid,
};
use rustix::fs::MemfdFlags;

use super::{memory_file::memory_file, object::check_limit};

const PAGE: usize = 4096;

/// The version of the kernel.
pub(crate) fn release() -> String {
    let found = nix::sys::utsname::uname();
    found.map_or_else(|_| "?".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

/// The name of each call, and whether it works.
pub(crate) fn calls() -> Vec<(&'static str, Result<(), Errno>)> {
    let file = || {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        memory_file("shmcreds-doctor", flags).or_else(|_| null())
    };
    let mut calls = vec![
        ("fcntl F_OFD_SETLK", file().and_then(lock)),
        ("memfd_create", memory_file("shmcreds-doctor", MemfdFlags::CLOEXEC).map(drop)),
        ("madvise MADV_WIPEONFORK", wipe_on_fork()),
        ("fcntl F_SEAL_FUTURE_WRITE", file().and_then(seal)),
        ("pidfd_open", opened(libc::SYS_pidfd_open, getpid().as_raw().into())),
        ("openat2", open_root()),
        ("memfd_secret", opened(libc::SYS_memfd_secret, libc::O_CLOEXEC.into())),
        ("getrandom", random()),
    ];
    // Beyond the limit, the kernel kills the process for it.
    if check_limit(PAGE).is_ok() {
        calls.push(("fallocate", file().and_then(|file| posix_fallocate(file, 0, PAGE as i64))));
    }
    calls
}

fn null() -> nix::Result<OwnedFd> {
    nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty())
}

fn lock(file: OwnedFd) -> nix::Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&super::lock::range(libc::F_WRLCK, 0))).map(drop)
}

fn seal(file: OwnedFd) -> nix::Result<()> {
    let seal = nix::fcntl::SealFlag::from_bits_retain(libc::F_SEAL_FUTURE_WRITE);
    fcntl(file, FcntlArg::F_ADD_SEALS(seal)).map(drop)
}

fn open_root() -> nix::Result<()> {
    openat2(AT_FDCWD, "/", OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC)).map(drop)
}

fn random() -> nix::Result<()> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    filled.map(drop).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// A call with a number that gives a descriptor.
fn opened(call: libc::c_long, argument: libc::c_long) -> nix::Result<()> {
    // SAFETY: the callers name calls whose arguments are numbers.
    let number = unsafe { libc::syscall(call, argument, 0) };
    let number = RawFd::try_from(Errno::result(number)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just returned this number as a new descriptor, so nothing else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(number) });
    Ok(())
}

fn wipe_on_fork() -> nix::Result<()> {
    let bytes = std::num::NonZeroUsize::MIN;
    // SAFETY: the kernel chooses a free address, so the new mapping overlaps no other memory.
    let page = unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE) }?;
    // SAFETY: the range is the mapping made above, and nothing else uses it.
    let advised = unsafe { madvise(page, bytes.get(), MmapAdvise::MADV_WIPEONFORK) };
    // SAFETY: the range is the mapping made above, and nothing refers to it.
    unsafe { munmap(page, bytes.get()) }?;
    advised
}
