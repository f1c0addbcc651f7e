//! The async runtime of one call. Other code of the process may close its descriptors.
//!
//! Tokio makes a socket pair with the first runtime of a process, and every later runtime uses it. Nothing else of
//! a runtime stays after its end. Code that closes all descriptors closes the pair, too. Then tokio could make no
//! further runtime, or a runtime would read from another file that got the number.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    panic::catch_unwind,
};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, getsockname, socketpair,
    },
};
use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    descriptor::Inode,
    fork::{ForkLock, LockOrder},
};

/// The sockets that tokio keeps, if they are known.
enum Kept {
    /// This library has made no runtime yet.
    Unknown,
    /// They cannot be identified: the program made a runtime earlier, or there is no `/proc`.
    NotOurs,
    Pair([(RawFd, Inode); 2]),
}

static KEPT: ForkLock<Kept> = ForkLock::new(LockOrder::Runtime, Kept::Unknown);

/// Notes that this process itself replaced the pair.
pub(super) fn forget() {
    *KEPT.lock() = Kept::NotOurs;
}

/// Whether the calling thread is inside a runtime: then no other one can run on it.
pub(crate) fn is_inside() -> bool {
    Handle::try_current().is_ok()
}

/// Makes a runtime for the current thread.
///
/// # Errors
/// When the kernel refuses a resource, or when a descriptor of the runtime refers to another file now; the message
/// names its number.
pub(crate) fn build() -> io::Result<Runtime> {
    let mut kept = KEPT.lock();
    if matches!(*kept, Kept::Unknown) {
        *kept = first()?;
    }
    if let Kept::Pair(pair) = &mut *kept {
        repair(pair)?;
    }
    new()
}

fn new() -> io::Result<Runtime> {
    let build = || Builder::new_current_thread().enable_all().build();
    // Tokio panics when it gets no descriptors: another thread may have taken them meanwhile.
    catch_unwind(build).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map_or("it panicked", String::as_str);
        Err(io::Error::other(text.to_owned()))
    })
}

/// The descriptors that the first runtime of a process takes: two for epoll, one to wake it, the pair, and a copy of one of
/// the pair.
const FIRST: usize = 6;

/// Checks that there are enough free descriptors for the first runtime. Tokio panics when it gets no pair, and the panic hook
/// of the program would see that.
pub(crate) fn room() -> io::Result<()> {
    let pair = || socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC);
    (0..FIRST / 2).map(|_| pair()).collect::<Result<Vec<_>, _>>()?;
    Ok(())
}

/// Makes a first runtime and finds the sockets that stay after it.
fn first() -> io::Result<Kept> {
    room()?;
    let before = unix_sockets();
    // The caller may be inside another runtime. There a blocking drop would panic.
    new()?.shutdown_background();
    let new: Vec<RawFd> = unix_sockets().difference(&before).copied().collect();
    let known = |number: RawFd| Some((number, inode_of(number)?));
    Ok(match new[..] {
        [one, other] => match (known(one), known(other)) {
            (Some(one), Some(other)) => Kept::Pair([one, other]),
            _ => Kept::NotOurs,
        },
        _ => Kept::NotOurs,
    })
}

/// Replaces a closed pair by a new one.
fn repair(pair: &mut [(RawFd, Inode); 2]) -> io::Result<()> {
    if pair.iter().all(|(number, inode)| inode_of(*number) == Some(*inode)) {
        return Ok(());
    }
    for (number, inode) in &*pair {
        if inode_of(*number).is_some_and(|found| found != *inode) {
            let text = format!(
                "file descriptor {number} of the async runtime was closed by other code of this process, and \
                 refers to another file now; close only descriptors that your code has opened"
            );
            return Err(io::Error::other(text));
        }
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let new = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    for ((number, inode), new) in pair.iter_mut().zip([new.0, new.1]) {
        if new.as_raw_fd() == *number {
            // Tokio keeps it until the process exits.
            std::mem::forget(new);
        } else {
            // SAFETY: `dup3` touches no memory. The number is free, or it is still the old socket of the pair,
            // which tokio knows by its number only.
            let placed = unsafe { libc::dup3(new.as_raw_fd(), *number, libc::O_CLOEXEC) };
            if placed < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        *inode = inode_of(*number).ok_or(io::ErrorKind::NotFound)?;
    }
    Ok(())
}

fn unix_sockets() -> BTreeSet<RawFd> {
    let list = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    list.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|number| {
            getsockname::<SockaddrStorage>(*number)
                .is_ok_and(|address| address.family() == Some(AddressFamily::Unix))
        })
        .collect()
}

/// The identity of the file under `number`; `None` when the number is closed.
fn inode_of(number: RawFd) -> Option<Inode> {
    // SAFETY: the number comes from `/proc/self/fd`, so it is not -1. The borrow lasts for one `fstat`, which
    // changes nothing. For a closed number the kernel returns EBADF.
    Inode::of_descriptor(unsafe { BorrowedFd::borrow_raw(number) }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_does_not_catch_a_runtime_that_is_made() {
        crate::sys::fork::tests::a_child_can_take(|| Box::new(KEPT.lock()));
    }
}
