//! Byte locks on a file of their own.
//!
//! Two kinds, for two needs:
//! * **Exclusive byte locks of a process** (POSIX record locks): the kernel frees them when the
//!   process dies, even while a child that it forked lives on, and names the holder. Closing any
//!   descriptor of the file in the process would drop them, and threads of one process do not
//!   exclude each other: so there is one descriptor per process, and a mutex in front of it.
//! * **The presence lock** (an open-file-description lock): shared by all who inherited the
//!   descriptor, and freed when the last of them is gone. It says that the session is in use.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc::{self, flock},
};

use super::object::{self, Inode, Object};
use crate::error::Fault;

/// The byte of the presence lock.
const PRESENCE: i64 = 0;

/// Locked bytes of one file.
#[derive(Debug)]
pub(crate) struct LockFile {
    fd: OwnedFd,
    inode: Inode,
    bytes: usize,
}

impl LockFile {
    pub(crate) fn new(object: Object) -> Self {
        LockFile { fd: object.fd, inode: object.inode, bytes: object.bytes }
    }

    /// The same file with a presence of its own: that of `self` is shared with forked children.
    pub(crate) fn reopened(&self) -> Result<Self, Fault> {
        object::reopen(self.fd.as_fd()).map(LockFile::new)
    }

    /// A copy of the descriptor: it shares the presence.
    pub(crate) fn descriptor(&self) -> Result<OwnedFd, Fault> {
        self.fd.try_clone().map_err(|e| Fault::system("duplicating a descriptor", e))
    }

    pub(crate) fn inode(&self) -> Inode {
        self.inode
    }

    /// The same, with the size that the file has now.
    pub(crate) fn measured(self) -> Result<Self, Fault> {
        let bytes = object::bytes(self.fd.as_fd())?;
        Ok(LockFile { bytes, ..self })
    }

    /// How long the file was when it was opened or measured.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same, which is empty, with `bytes` of zeros in it.
    pub(crate) fn reserved(self, bytes: usize) -> Result<Self, Fault> {
        object::reserve(self.fd.as_fd(), bytes)?;
        Ok(LockFile { bytes, ..self })
    }

    /// Locks `byte` for this process. False when another process has it.
    pub(crate) fn try_lock(&self, byte: i64) -> Result<bool, Fault> {
        self.set(FcntlArg::F_SETLK(&range(libc::F_WRLCK, byte)), "locking a byte")
    }

    /// Frees `byte`.
    pub(crate) fn unlock(&self, byte: i64) {
        // Unlocking can fail only for a bad descriptor, and ours is open.
        let _ = fcntl(self.fd.as_fd(), FcntlArg::F_SETLK(&range(libc::F_UNLCK, byte)));
    }

    /// The other process that holds `byte`, if one does. The pid is 0 when the holder is in a pid
    /// namespace that this process cannot see.
    pub(crate) fn holder(&self, byte: i64) -> Result<Option<u32>, Fault> {
        let mut lock = range(libc::F_WRLCK, byte);
        fcntl(self.fd.as_fd(), FcntlArg::F_GETLK(&mut lock))
            .map_err(|errno| Fault::system("asking for a byte's holder", errno))?;
        let free = lock.l_type == libc::F_UNLCK as i16;
        Ok((!free).then_some(u32::try_from(lock.l_pid).unwrap_or(0)))
    }

    /// Takes the presence lock alone: true only when nobody else is present.
    pub(crate) fn try_alone(&self) -> Result<bool, Fault> {
        self.set(FcntlArg::F_OFD_SETLK(&range(libc::F_WRLCK, PRESENCE)), "taking the presence lock")
    }

    /// Takes or keeps the presence lock together with others: false while one is there alone.
    pub(crate) fn try_present(&self) -> Result<bool, Fault> {
        self.set(
            FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, PRESENCE)),
            "sharing the presence lock",
        )
    }

    /// Sleeps until nobody else is present, and takes the presence lock alone then.
    pub(crate) fn wait_alone(&self) -> Result<(), Fault> {
        loop {
            match fcntl(self.fd.as_fd(), FcntlArg::F_OFD_SETLKW(&range(libc::F_WRLCK, PRESENCE))) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Fault::system("waiting for the presence lock", errno)),
            }
        }
    }

    /// Whether somebody has the presence lock alone: a creator at work, or a refresher that cleans up.
    pub(crate) fn is_somebody_alone(&self) -> Result<bool, Fault> {
        let mut lock = range(libc::F_RDLCK, PRESENCE);
        fcntl(self.fd.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock))
            .map_err(|errno| Fault::system("asking for the presence lock's holder", errno))?;
        Ok(lock.l_type != libc::F_UNLCK as i16)
    }

    fn set(&self, arg: FcntlArg<'_>, doing: &str) -> Result<bool, Fault> {
        match fcntl(self.fd.as_fd(), arg) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(Fault::system(doing, errno)),
        }
    }
}

impl AsFd for LockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn range(kind: i32, byte: i64) -> flock {
    flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: byte,
        l_len: 1,
        // The kernel insists on 0 for open-file-description locks.
        l_pid: 0,
    }
}
