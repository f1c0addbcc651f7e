//! The namespaces of this process.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use nix::{libc, sys::stat::fstat};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

/// The inode of the time namespace. `None` when it is not known: before Linux 5.6 there are none, and without `/proc` the
/// kernel tells it since Linux 6.11.
pub(crate) fn time() -> Option<u64> {
    match std::fs::metadata("/proc/self/ns/time") {
        Ok(found) => Some(found.ino()),
        Err(_) => by_descriptor().ok(),
    }
}

/// Asks for the namespace by a pidfd.
fn by_descriptor() -> io::Result<u64> {
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let (fd, request) = (process.as_fd().as_raw_fd(), libc::PIDFD_GET_TIME_NAMESPACE);
    // SAFETY: the descriptor is open as long as `process` lives. This request has no argument, and the kernel writes
    // nothing to memory.
    let number = unsafe { libc::ioctl(fd, request, 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this number as a new descriptor, so nothing else owns it.
    let namespace = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(fstat(&namespace)?.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_lead_to_the_same_namespace() {
        // An older kernel, or a sandbox, knows the first way only.
        if let Ok(inode) = by_descriptor() {
            assert_eq!(time(), Some(inode));
        }
    }
}
