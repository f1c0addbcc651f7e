//! Byte locks on a separate lock file.
//!
//! There are two kinds:
//! * **Exclusive byte locks of a process** (POSIX record locks). The kernel frees them when the process dies,
//!   even if a forked child lives on, and reports the holder's pid. They have two limits. When the process closes
//!   any descriptor of the file, it loses all its locks. Threads of one process do not exclude each other.
//!   So a process has one descriptor of the file, and a lock in memory in front of it.
//! * **The presence lock** (an open-file-description lock). All processes that inherited the descriptor share it.
//!   The kernel frees it when the last of them has exited. It means that the session is in use.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc::{self, flock},
};

use super::{
    descriptor::{Descriptor, Inode},
    fork::{ForkLock, LockOrder},
    object::{self, Object},
};
use crate::error::Fault;

/// The byte of the presence lock.
const PRESENCE: i64 = 0;
/// The byte of a creator that waits for the presence lock.
pub(crate) const CREATOR: i64 = 2;

/// A lock file.
#[derive(Debug)]
pub(crate) struct LockFile {
    /// Replaced when other code of the process closed it and the file still has its name.
    descriptor: ArcSwap<Descriptor>,
    inode: Inode,
    bytes: usize,
    /// The path of the shared memory object, if it has one.
    name: Option<String>,
    /// Whether this process shares the presence lock through the descriptor.
    present: AtomicBool,
}

impl LockFile {
    /// The lock file `object`, without a name.
    pub(crate) fn new(object: Object) -> Self {
        LockFile {
            inode: object.inode(),
            descriptor: ArcSwap::from_pointee(object.fd),
            bytes: object.bytes,
            name: None,
            present: AtomicBool::new(false),
        }
    }

    /// The lock file `object` with the name `name`.
    pub(crate) fn named(object: Object, name: &str) -> Self {
        LockFile { name: Some(name.to_owned()), ..LockFile::new(object) }
    }

    /// Opens the same file again, for a presence lock of its own. Forked children share the presence lock of
    /// `self`.
    pub(crate) fn reopened(&self) -> Result<Self, Fault> {
        let reopened = object::reopen(self.descriptor()?.get()?);
        // Without `/proc` a file with a name can still be opened by that.
        let by_name =
            || object::open(self.name.as_deref()?).ok().filter(|o| o.inode() == self.inode);
        let object = reopened.or_else(|fault| by_name().ok_or(fault))?;
        Ok(LockFile { name: self.name.clone(), ..LockFile::new(object) })
    }

    /// A duplicate of the descriptor. It shares the presence lock.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, Fault> {
        self.descriptor()?.duplicate()
    }

    pub(crate) fn inode(&self) -> Inode {
        self.inode
    }

    /// Updates the size to the current size of the file.
    pub(crate) fn measured(self) -> Result<Self, Fault> {
        let bytes = object::bytes(self.descriptor()?.get()?)?;
        Ok(LockFile { bytes, ..self })
    }

    /// The size of the file when it was opened or measured.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Fills the empty file with `bytes` zero bytes.
    pub(crate) fn reserved(self, bytes: usize) -> Result<Self, Fault> {
        let name = self.name.as_deref().unwrap_or("the lock file");
        object::reserve(name, self.descriptor()?.get()?, bytes)?;
        Ok(LockFile { bytes, ..self })
    }

    /// The descriptor of the file. If other code of the process closed it, this opens the file again by its name.
    /// The close has freed all locks of this process by then.
    ///
    /// # Errors
    /// `DescriptorClosed` when it was closed and the file has no name, or another file has the name.
    pub(crate) fn descriptor(&self) -> Result<Guard<Arc<Descriptor>>, Fault> {
        self.with(|_| ()).map(|(descriptor, ())| descriptor)
    }

    /// The descriptor, and what `work` does with it once it was checked.
    fn with<T>(
        &self,
        work: impl FnOnce(BorrowedFd<'_>) -> T,
    ) -> Result<(Guard<Arc<Descriptor>>, T), Fault> {
        let known = self.descriptor.load();
        let closed = match known.get() {
            Ok(fd) => {
                let done = work(fd);
                return Ok((known, done));
            }
            Err(closed) => closed,
        };
        let Some(name) = &self.name else { return Err(closed) };
        let _alone = REOPENING.lock();
        // Another thread may have opened it in the meantime.
        let known = self.descriptor.load();
        if known.get().is_err() {
            let lost = self.descriptor.swap(Arc::new(self.opened_by_name(name).ok_or(closed)?));
            // Do not drop the old one: the new descriptor may have its number, and a drop would close it.
            std::mem::forget(lost);
        }
        let opened = self.descriptor.load();
        let done = work(opened.get()?);
        Ok((opened, done))
    }

    /// Opens the file by its name. `None` when there is no such name, or it belongs to another file.
    fn opened_by_name(&self, name: &str) -> Option<Descriptor> {
        let again = LockFile::new(object::open(name).ok()?);
        let same = again.inode == self.inode;
        let present =
            || !self.present.load(Ordering::Relaxed) || matches!(again.try_present(), Ok(true));
        (same && present()).then(|| Arc::into_inner(again.descriptor.into_inner())).flatten()
    }

    /// Locks `byte` for this process. False when another process holds it.
    pub(crate) fn try_lock(&self, byte: i64) -> Result<bool, Fault> {
        self.set(FcntlArg::F_SETLK(&range(libc::F_WRLCK, byte)), "locking a byte")
    }

    /// Frees `byte`.
    pub(crate) fn unlock(&self, byte: i64) {
        // If the descriptor was closed, the kernel has freed the byte.
        let unlock = |fd: BorrowedFd<'_>| {
            let _ = fcntl(fd, FcntlArg::F_SETLK(&range(libc::F_UNLCK, byte)));
        };
        let _ = self.with(unlock);
    }

    /// The pid of another process that holds `byte`. The pid is 0 when the holder is in a pid namespace that this
    /// process cannot see.
    pub(crate) fn holder(&self, byte: i64) -> Result<Option<u32>, Fault> {
        let mut lock = range(libc::F_WRLCK, byte);
        let ask = |fd: BorrowedFd<'_>| fcntl(fd, FcntlArg::F_GETLK(&mut lock));
        self.with(ask)?
            .1
            .map_err(|errno| Fault::system("asking for the holder of a byte lock", errno))?;
        let free = lock.l_type == libc::F_UNLCK as i16;
        Ok((!free).then_some(u32::try_from(lock.l_pid).unwrap_or(0)))
    }

    /// Takes the presence lock exclusively. True only when no other process has the session.
    pub(crate) fn try_alone(&self) -> Result<bool, Fault> {
        self.set(FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, PRESENCE)), "taking the presence lock")
    }

    /// Takes or keeps a share of the presence lock. False while another process holds it exclusively.
    pub(crate) fn try_present(&self) -> Result<bool, Fault> {
        let shared = self.set(
            FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, PRESENCE)),
            "sharing the presence lock",
        )?;
        // Relaxed: only this process uses the flag, and it orders nothing.
        self.present.fetch_or(shared, Ordering::Relaxed);
        Ok(shared)
    }

    /// Takes a share of the presence lock, if this process has none. False as in [`try_present`](Self::try_present).
    pub(crate) fn ensure_present(&self) -> Result<bool, Fault> {
        // Relaxed: as in `try_present`.
        if self.present.load(Ordering::Relaxed) { Ok(true) } else { self.try_present() }
    }

    /// Asks others not to take a share of the presence lock for a while. False when another creator does so. Ends with
    /// [`end_request`](Self::end_request).
    pub(crate) fn request_alone(&self) -> Result<bool, Fault> {
        self.set(
            FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, CREATOR)),
            "waiting for the presence lock",
        )
    }

    /// Also for a child that another thread has forked meanwhile: it has the same open file.
    pub(crate) fn end_request(&self) {
        // An error: the descriptor was closed, and the lock with it.
        let _ = self.with(|fd| fcntl(fd, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, CREATOR))));
    }

    /// Whether a creator has asked for the presence lock. False also where the kernel does not tell.
    pub(crate) fn is_requested(&self) -> bool {
        let mut lock = range(libc::F_RDLCK, CREATOR);
        let asked = self.with(|fd| fcntl(fd, FcntlArg::F_OFD_GETLK(&mut lock)));
        matches!(asked, Ok((_, Ok(_)))) && lock.l_type != libc::F_UNLCK as i16
    }

    /// Whether this process has given up its share of the presence lock.
    pub(crate) fn has_left(&self) -> bool {
        !self.present.load(Ordering::Relaxed)
    }

    /// Gives up this process's share of the presence lock: from now on it uses the file through a new open file. `moved`
    /// moves the mappings of the file to that. Processes that inherited the old open file keep its share.
    ///
    /// True when no other process has the session. Then this process holds the presence lock exclusively.
    pub(crate) fn leave(
        &self,
        moved: impl FnOnce(BorrowedFd<'_>) -> Result<(), Fault>,
    ) -> Result<bool, Fault> {
        let again = object::reopen(self.descriptor()?.get()?)?.fd;
        let opening = REOPENING.lock();
        self.present.store(false, Ordering::Relaxed);
        // The close of the old descriptor frees the byte locks of this process. Its marks stay.
        let old = self.descriptor.swap(Arc::new(again));
        moved(self.descriptor.load().get()?)?;
        drop(old);
        drop(opening);
        self.try_alone()
    }

    /// Gives the presence lock back that [`leave`](Self::leave) has taken.
    pub(crate) fn unlock_presence(&self) -> Result<(), Fault> {
        self.set(
            FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, PRESENCE)),
            "freeing the presence lock",
        )
        .map(drop)
    }

    /// Sleeps until no other process has the session, and takes the presence lock exclusively.
    pub(crate) fn wait_alone(&self) -> Result<(), Fault> {
        let descriptor = self.descriptor()?;
        loop {
            match fcntl(descriptor.get()?, FcntlArg::F_OFD_SETLKW(&range(libc::F_WRLCK, PRESENCE)))
            {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Fault::system("waiting for the presence lock", errno)),
            }
        }
    }

    fn set(&self, arg: FcntlArg<'_>, doing: &str) -> Result<bool, Fault> {
        match self.with(|fd| fcntl(fd, arg))?.1 {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(Fault::system(doing, errno)),
        }
    }
}

/// Held while a file is opened again. Otherwise two threads could open it twice, and the close of one descriptor
/// would free all locks of the process.
static REOPENING: ForkLock<()> = ForkLock::new(LockOrder::LockFiles, ());

/// The lock of one byte, for `fcntl`.
pub(super) fn range(kind: i32, byte: i64) -> flock {
    flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: byte,
        l_len: 1,
        // The kernel requires 0 for open-file-description locks.
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_does_not_catch_a_file_that_is_opened_again() {
        crate::sys::fork::tests::a_child_can_take(|| Box::new(REOPENING.lock()));
    }
}
