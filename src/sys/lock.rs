//! Byte locks on a file of their own.
//!
//! Two kinds, for two needs:
//! * **Exclusive byte locks of a process** (POSIX record locks): the kernel frees them when the
//!   process dies, even while a child that it forked lives on, and names the holder. Closing any
//!   descriptor of the file in the process would drop them, and threads of one process do not
//!   exclude each other: so there is one descriptor per process, and a mutex in front of it.
//! * **The presence lock** (an open-file-description lock): shared by all who inherited the
//!   descriptor, and freed when the last of them is gone. It says that the session is in use.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
    fork,
    object::{self, Object},
};
use crate::error::Fault;

/// The byte of the presence lock.
const PRESENCE: i64 = 0;

/// Locked bytes of one file.
#[derive(Debug)]
pub(crate) struct LockFile {
    /// Replaced when other code of the process has closed it and the file still has its name.
    descriptor: ArcSwap<Descriptor>,
    inode: Inode,
    bytes: usize,
    /// The shared memory object, where it has a name.
    name: Option<String>,
    /// Whether the presence lock was shared through the descriptor.
    present: AtomicBool,
}

impl LockFile {
    /// The locks of `object`, which has no name.
    pub(crate) fn new(object: Object) -> Self {
        LockFile {
            inode: object.inode(),
            descriptor: ArcSwap::from_pointee(object.fd),
            bytes: object.bytes,
            name: None,
            present: AtomicBool::new(false),
        }
    }

    /// The locks of the shared memory object `name`.
    pub(crate) fn named(object: Object, name: &str) -> Self {
        LockFile { name: Some(name.to_owned()), ..LockFile::new(object) }
    }

    /// The same file with a presence of its own: that of `self` is shared with forked children.
    pub(crate) fn reopened(&self) -> Result<Self, Fault> {
        let again = LockFile::new(object::reopen(self.descriptor()?.get()?)?);
        Ok(LockFile { name: self.name.clone(), ..again })
    }

    /// A copy of the descriptor: it shares the presence.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, Fault> {
        self.descriptor()?.duplicate()
    }

    pub(crate) fn inode(&self) -> Inode {
        self.inode
    }

    /// The same, with the size that the file has now.
    pub(crate) fn measured(self) -> Result<Self, Fault> {
        let bytes = object::bytes(self.descriptor()?.get()?)?;
        Ok(LockFile { bytes, ..self })
    }

    /// How long the file was when it was opened or measured.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same, which is empty, with `bytes` of zeros in it.
    pub(crate) fn reserved(self, bytes: usize) -> Result<Self, Fault> {
        object::reserve(self.descriptor()?.get()?, bytes)?;
        Ok(LockFile { bytes, ..self })
    }

    /// The descriptor of the file. Opened again by name where other code of the process has closed it: what
    /// was locked through it is free by then.
    ///
    /// # Errors
    /// `DescriptorClosed` where the name leads elsewhere, or there is none.
    pub(crate) fn descriptor(&self) -> Result<Guard<Arc<Descriptor>>, Fault> {
        let known = self.descriptor.load();
        let Err(closed) = known.get().map(drop) else { return Ok(known) };
        let Some(name) = &self.name else { return Err(closed) };
        let _alone = reopening();
        // Another thread may have been here meanwhile.
        let known = self.descriptor.load();
        if known.get().is_err() {
            let lost = self.descriptor.swap(Arc::new(self.opened_by_name(name).ok_or(closed)?));
            // Its number may be that of the new descriptor, which it must not close.
            std::mem::forget(lost);
        }
        Ok(self.descriptor.load())
    }

    /// The file, opened by its name; `None` when the name is another file's by now, or there is none.
    fn opened_by_name(&self, name: &str) -> Option<Descriptor> {
        let again = LockFile::new(object::open(name).ok()?);
        let same = again.inode == self.inode;
        let present =
            || !self.present.load(Ordering::Relaxed) || matches!(again.try_present(), Ok(true));
        (same && present()).then(|| Arc::into_inner(again.descriptor.into_inner())).flatten()
    }

    /// Locks `byte` for this process. False when another process has it.
    pub(crate) fn try_lock(&self, byte: i64) -> Result<bool, Fault> {
        self.set(FcntlArg::F_SETLK(&range(libc::F_WRLCK, byte)), "locking a byte")
    }

    /// Frees `byte`.
    pub(crate) fn unlock(&self, byte: i64) {
        // Where the descriptor is closed, the kernel has freed the byte.
        if let Ok(descriptor) = self.descriptor()
            && let Ok(fd) = descriptor.get()
        {
            let _ = fcntl(fd, FcntlArg::F_SETLK(&range(libc::F_UNLCK, byte)));
        }
    }

    /// The other process that holds `byte`, if one does. The pid is 0 when the holder is in a pid
    /// namespace that this process cannot see.
    pub(crate) fn holder(&self, byte: i64) -> Result<Option<u32>, Fault> {
        let mut lock = range(libc::F_WRLCK, byte);
        fcntl(self.descriptor()?.get()?, FcntlArg::F_GETLK(&mut lock))
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
        let shared = self.set(
            FcntlArg::F_OFD_SETLK(&range(libc::F_RDLCK, PRESENCE)),
            "sharing the presence lock",
        )?;
        // Relaxed: it is a note of this process for itself.
        self.present.fetch_or(shared, Ordering::Relaxed);
        Ok(shared)
    }

    /// Sleeps until nobody else is present, and takes the presence lock alone then.
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
        match fcntl(self.descriptor()?.get()?, arg) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(errno) => Err(Fault::system(doing, errno)),
        }
    }
}

/// Held while a file is opened again: of two descriptors one would be closed, and all locks with it.
fn reopening() -> MutexGuard<'static, ()> {
    static REOPENING: Mutex<()> = Mutex::new(());
    let lock = || REOPENING.lock().unwrap_or_else(PoisonError::into_inner);
    fork::hold("reopening", || Box::new(REOPENING.lock().unwrap_or_else(PoisonError::into_inner)));
    lock()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_does_not_catch_a_file_that_is_opened_again() {
        fork::tests::a_child_can_take(|| Box::new(reopening()));
    }
}
