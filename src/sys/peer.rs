//! The peer of a Unix socket.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use nix::libc;

/// The most groups that a process can be in.
const MOST: usize = 65_536;

/// The supplementary groups that the peer of a Unix socket was in when it connected.
///
/// # Errors
/// What the kernel says; before Linux 4.13 `ENOPROTOOPT`.
pub fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0u32; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(&groups[..])).unwrap_or(0);
        let (fd, room) = (socket.as_raw_fd(), groups.as_mut_ptr().cast());
        // SAFETY: the descriptor is open as long as `socket` is borrowed. The kernel writes at most `bytes` to `room`,
        // which has so many, and any bytes are valid numbers.
        let outcome = unsafe {
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERGROUPS, room, &raw mut bytes)
        };
        let error = io::Error::last_os_error();
        let number = bytes as usize / size_of::<u32>();
        if outcome == 0 {
            groups.truncate(number);
            return Ok(groups);
        }
        // The kernel tells how many there are.
        if error.raw_os_error() != Some(libc::ERANGE) || number <= groups.len() || number > MOST {
            return Err(error);
        }
        groups.resize(number, 0);
    }
}
