//! File descriptors that the library keeps. Other code of the process may close them.
//!
//! Code that makes a daemon of the process closes all descriptors, and the kernel reuses their numbers for
//! the next files. So a kept descriptor stores the identity of its file, and each use compares the two. A kept
//! descriptor never has the number of a standard stream: the program would print into the session.

use std::{
    io,
    mem::ManuallyDrop,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl, open},
    sys::stat::{FileStat, Mode, fstat},
};

use crate::error::{ErrorKind, Fault};

/// The first number after the standard streams.
const FIRST: RawFd = 3;

/// The identity of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Inode { device: stat.st_dev, number: stat.st_ino }
    }

    /// The identity of the file that `fd` refers to.
    ///
    /// # Errors
    /// `System` when `fstat` fails.
    pub(crate) fn of_descriptor(fd: BorrowedFd<'_>) -> Result<Self, Fault> {
        let stat = fstat(fd).map_err(|e| Fault::system("fstat of a descriptor", e))?;
        Ok(Inode::of(&stat))
    }

    /// Whether both are on the same file system.
    pub(crate) fn same_device(&self, other: Inode) -> bool {
        self.device == other.device
    }

    /// The device and the inode number, to pass to another process.
    pub(crate) fn parts(&self) -> (u64, u64) {
        (self.device, self.number)
    }

    /// The identity from its [`parts`](Self::parts).
    pub(crate) fn from_parts(device: u64, number: u64) -> Self {
        Inode { device, number }
    }
}

/// A descriptor that is not a standard stream, with the identity of its file.
#[derive(Debug)]
pub(crate) struct Descriptor {
    fd: ManuallyDrop<OwnedFd>,
    inode: Inode,
    /// The name of the file in error messages.
    object: String,
}

impl Descriptor {
    /// Keeps `fd`. `object` is the name of its file in error messages.
    ///
    /// # Errors
    /// `System` when `fd` has the number of a standard stream and the kernel gives it no other number.
    pub(crate) fn keep(fd: OwnedFd, object: &str) -> Result<Self, Fault> {
        let failed = |errno| Fault::system(&format!("fstat of {object}"), errno);
        let fd = above_standard(fd)
            .map_err(|e| Fault::system(&format!("duplicating the descriptor of {object}"), e))?;
        let inode = Inode::of(&fstat(&fd).map_err(failed)?);
        Ok(Descriptor { fd: ManuallyDrop::new(fd), inode, object: object.to_owned() })
    }

    /// The descriptor, if it still refers to the same file.
    ///
    /// # Errors
    /// `DescriptorClosed` when other code of the process has closed it; `System` when the kernel does not tell.
    pub(crate) fn get(&self) -> Result<BorrowedFd<'_>, Fault> {
        self.check(&self.fd)?;
        Ok(self.fd.as_fd())
    }

    /// A duplicate. No other code knows its number, so nothing closes it while it is used.
    ///
    /// # Errors
    /// As [`get`](Self::get); `System` when the kernel gives no more descriptors.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, Fault> {
        let copy = match self.fd.try_clone() {
            Ok(copy) => copy,
            Err(error) if error.raw_os_error() == Some(Errno::EBADF as i32) => {
                return Err(self.closed());
            }
            Err(error) => return Err(Fault::system("duplicating a descriptor", error)),
        };
        self.check(&copy)?;
        Ok(copy)
    }

    /// Checks that `fd` refers to the file that was kept. A kernel that does not tell is another error than a
    /// descriptor that was closed.
    fn check(&self, fd: &OwnedFd) -> Result<(), Fault> {
        match fstat(fd) {
            Ok(stat) if Inode::of(&stat) == self.inode => Ok(()),
            Ok(_) | Err(Errno::EBADF) => Err(self.closed()),
            Err(errno) => Err(Fault::system(&format!("fstat of {}", self.object), errno)),
        }
    }

    /// The identity of the file when it was kept.
    pub(crate) fn inode(&self) -> Inode {
        self.inode
    }

    fn closed(&self) -> Fault {
        let (number, object) = (self.fd.as_raw_fd(), &self.object);
        let now = std::fs::read_link(format!("/proc/self/fd/{number}"));
        let now = now.map_or(String::new(), |now| format!(", and it refers to {now:?} now"));
        let text = format!(
            "file descriptor {number} of {object} was closed by other code of this process{now}; \
             close only descriptors that your code has opened"
        );
        Fault::new(ErrorKind::DescriptorClosed, text)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // The number may belong to a file of other code by now. Only that code may close it.
        if is(&self.fd, self.inode) {
            // Not by the drop of `OwnedFd`, which aborts in debug builds where other code has closed the number in
            // this very moment.
            // SAFETY: `drop` runs once, and nothing uses `fd` after it.
            let _ = unsafe { nix::libc::close(self.fd.as_raw_fd()) };
        }
    }
}

fn is(fd: &OwnedFd, inode: Inode) -> bool {
    fstat(fd).is_ok_and(|stat| Inode::of(&stat) == inode)
}

/// The same open file under a number that is not a standard stream.
fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    // `try_clone` asks the kernel for a number of 3 or more.
    if fd.as_raw_fd() < FIRST { fd.try_clone() } else { Ok(fd) }
}

/// Occupies the numbers of closed standard streams, so that no file opened in the meantime gets one of them.
/// Reads and writes of these streams still fail.
#[derive(Debug, Default)]
pub(crate) struct ReservedStreams(Vec<Descriptor>);

impl ReservedStreams {
    /// Occupies the numbers, as far as `RLIMIT_NOFILE` allows.
    pub(crate) fn new() -> Self {
        let mut reserved = ReservedStreams::default();
        let any_closed = (0..FIRST).any(|stream| !is_open(stream));
        while let Some(placeholder) = any_closed.then(placeholder).and_then(Result::ok) {
            // The kernel uses the lowest free number.
            if placeholder.as_raw_fd() >= FIRST {
                break;
            }
            let Ok(stat) = fstat(&placeholder) else { break };
            let (fd, inode) = (ManuallyDrop::new(placeholder), Inode::of(&stat));
            reserved.0.push(Descriptor { fd, inode, object: String::new() });
        }
        reserved
    }
}

/// A descriptor that allows neither reads nor writes.
fn placeholder() -> nix::Result<OwnedFd> {
    open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

pub(super) fn is_open(number: RawFd) -> bool {
    // SAFETY: callers pass numbers from 0 on, never -1. The borrow lasts for one `F_GETFD`, which
    // changes nothing. For a closed number the kernel returns EBADF, which is the answer sought.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_GETFD).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use super::*;

    fn kept(file: &File) -> Descriptor {
        Descriptor::keep(file.try_clone().unwrap().into(), "a file").unwrap()
    }

    #[test]
    fn a_number_of_another_file_is_refused_and_stays_open() {
        let (one, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let kept = kept(&one);
        assert!(kept.get().is_ok() && kept.duplicate().is_ok());
        let number = kept.fd.as_raw_fd();
        // Other code closes the descriptor, and its number becomes that of another file.
        // SAFETY: `dup2` touches no memory. `kept` must detect that it lost its descriptor: that is the test.
        let foreign = unsafe { nix::libc::dup2(other.as_raw_fd(), number) };
        assert_eq!(foreign, number);
        for fault in [kept.get().map(drop).unwrap_err(), kept.duplicate().map(drop).unwrap_err()] {
            assert_eq!(fault.kind, ErrorKind::DescriptorClosed);
            assert!(fault.message.contains("a file was closed by other code"), "{}", fault.message);
        }
        drop(kept);
        assert!(is_open(number), "the other file's descriptor stays open");
        // SAFETY: `dup2` above made this descriptor, and nothing else owns it: `kept` has left it open.
        drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) });
    }

    #[test]
    fn a_placeholder_is_neither_read_nor_written() {
        let mut file = File::from(placeholder().unwrap());
        let error = file.read(&mut [0]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EBADF as i32));
    }
}
