//! The async runtime of one call, in a process whose descriptors other code may close.
//!
//! Tokio makes a pair of sockets with the first runtime of a process, and each later runtime uses it. Nothing
//! else of a runtime outlives it. Code that closes all descriptors closes the pair, too: from then on no
//! runtime could be made, or one would read from the file that has the number by then.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    panic::catch_unwind,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, getsockname, socketpair,
    },
};
use tokio::runtime::{Builder, Runtime};

use super::{descriptor::Inode, fork};

/// The sockets that tokio keeps, if this library made the first runtime.
enum Kept {
    /// No runtime was made here yet.
    Unknown,
    /// They cannot be told from others: the program has made a runtime before, or there is no `/proc`.
    NotOurs,
    Pair([(RawFd, Inode); 2]),
}

static KEPT: Mutex<Kept> = Mutex::new(Kept::Unknown);

fn kept() -> MutexGuard<'static, Kept> {
    let lock = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    fork::hold("runtime", || Box::new(KEPT.lock().unwrap_or_else(PoisonError::into_inner)));
    lock()
}

/// Notes that this process has put other sockets in the place of the pair itself.
pub(super) fn forget() {
    *kept() = Kept::NotOurs;
}

/// A runtime for the thread that builds it.
///
/// # Errors
/// What the kernel refuses; `EBADF` with the number where the runtime's descriptors lead elsewhere by now.
pub(crate) fn build() -> io::Result<Runtime> {
    let mut kept = kept();
    if matches!(*kept, Kept::Unknown) {
        *kept = first()?;
    }
    if let Kept::Pair(pair) = &mut *kept {
        mend(pair)?;
    }
    new()
}

fn new() -> io::Result<Runtime> {
    let build = || Builder::new_current_thread().enable_all().build();
    // It panics for want of descriptors.
    catch_unwind(build).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map_or("it panicked", String::as_str);
        Err(io::Error::other(text.to_owned()))
    })
}

/// Makes a first runtime and looks for what stays of it.
fn first() -> io::Result<Kept> {
    let before = unix_sockets();
    // The caller may be in a runtime of its own, where none may be dropped that has to be waited for.
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

/// Puts a new pair in the place of one that was closed.
fn mend(pair: &mut [(RawFd, Inode); 2]) -> io::Result<()> {
    if pair.iter().all(|(number, inode)| inode_of(*number) == Some(*inode)) {
        return Ok(());
    }
    for (number, inode) in &*pair {
        if inode_of(*number).is_some_and(|found| found != *inode) {
            let text = format!(
                "file descriptor {number} of the async runtime was closed by other code of this process, and \
                 leads to another file now; close only descriptors that your code has opened"
            );
            return Err(io::Error::other(text));
        }
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let new = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    for ((number, inode), new) in pair.iter_mut().zip([new.0, new.1]) {
        if new.as_raw_fd() == *number {
            // Tokio closes it no sooner than the process ends.
            std::mem::forget(new);
        } else {
            // SAFETY: the number is free, or the old socket's, of which tokio knows nothing but the number.
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

/// What the number leads to; `None` when it is closed.
fn inode_of(number: RawFd) -> Option<Inode> {
    // SAFETY: the number is only asked about; it need not be open.
    Inode::of_descriptor(unsafe { BorrowedFd::borrow_raw(number) }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_does_not_catch_a_runtime_that_is_made() {
        fork::tests::a_child_can_take(|| Box::new(kept()));
    }
}
