//! File descriptors that the library keeps, and that other code of the process may close.
//!
//! A number proves nothing: daemonising code closes whatever is open, and the kernel gives the number to the
//! next file. So a kept descriptor remembers which object it leads to, and is compared with that before each
//! use. It is never one of the three standard streams: what a program prints would go into the session.

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

/// The first descriptor that is no standard stream.
const FIRST: RawFd = 3;

/// The identity of an open object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Inode { device: stat.st_dev, number: stat.st_ino }
    }

    /// The object that `fd` leads to.
    ///
    /// # Errors
    /// `System` when the kernel does not say.
    pub(crate) fn of_descriptor(fd: BorrowedFd<'_>) -> Result<Self, Fault> {
        let stat = fstat(fd).map_err(|e| Fault::system("looking at a descriptor", e))?;
        Ok(Inode::of(&stat))
    }

    /// Whether both are on one file system.
    pub(crate) fn same_device(&self, other: Inode) -> bool {
        self.device == other.device
    }

    /// Device and number, for other processes.
    pub(crate) fn parts(&self) -> (u64, u64) {
        (self.device, self.number)
    }

    /// What another process has told; see [`parts`](Self::parts).
    pub(crate) fn from_parts(device: u64, number: u64) -> Self {
        Inode { device, number }
    }
}

/// A descriptor above the standard streams that knows what it leads to.
#[derive(Debug)]
pub(crate) struct Descriptor {
    fd: ManuallyDrop<OwnedFd>,
    inode: Inode,
    /// What it leads to, for errors.
    object: String,
}

impl Descriptor {
    /// Keeps `fd`, which leads to `object`.
    ///
    /// # Errors
    /// `System` when the kernel gives no other number for a standard stream.
    pub(crate) fn keep(fd: OwnedFd, object: &str) -> Result<Self, Fault> {
        let failed = |errno| Fault::system(&format!("looking at {object}"), errno);
        let fd = above_standard(fd)
            .map_err(|e| Fault::system(&format!("duplicating the descriptor of {object}"), e))?;
        let inode = Inode::of(&fstat(&fd).map_err(failed)?);
        Ok(Descriptor { fd: ManuallyDrop::new(fd), inode, object: object.to_owned() })
    }

    /// The descriptor, if it still leads to what it did.
    ///
    /// # Errors
    /// `DescriptorClosed` if other code of the process has closed it.
    pub(crate) fn get(&self) -> Result<BorrowedFd<'_>, Fault> {
        match is(&self.fd, self.inode) {
            true => Ok(self.fd.as_fd()),
            false => Err(self.closed()),
        }
    }

    /// A copy under a number that no other code knows: what it leads to does not change while it is used.
    ///
    /// # Errors
    /// As [`get`](Self::get); `System` when the kernel gives no further descriptor.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, Fault> {
        let copy = match self.fd.try_clone() {
            Ok(copy) => copy,
            Err(error) if error.raw_os_error() == Some(Errno::EBADF as i32) => {
                return Err(self.closed());
            }
            Err(error) => return Err(Fault::system("duplicating a descriptor", error)),
        };
        match is(&copy, self.inode) {
            true => Ok(copy),
            false => Err(self.closed()),
        }
    }

    /// What it led to when it was kept.
    pub(crate) fn inode(&self) -> Inode {
        self.inode
    }

    fn closed(&self) -> Fault {
        let (number, object) = (self.fd.as_raw_fd(), &self.object);
        let now = std::fs::read_link(format!("/proc/self/fd/{number}"));
        let now = now.map_or(String::new(), |now| format!(", and it leads to {now:?} now"));
        let text = format!(
            "file descriptor {number} of {object} was closed by other code of this process{now}; \
             close only descriptors that your code has opened"
        );
        Fault::new(ErrorKind::DescriptorClosed, text)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // By now the number may be another file's, which is not ours to close.
        if is(&self.fd, self.inode) {
            // SAFETY: it is dropped once, here, and not used again.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

fn is(fd: &OwnedFd, inode: Inode) -> bool {
    fstat(fd).is_ok_and(|stat| Inode::of(&stat) == inode)
}

/// The same open file under a number above the standard streams.
fn above_standard(fd: OwnedFd) -> io::Result<OwnedFd> {
    // `try_clone` asks the kernel for a number of 3 or more.
    if fd.as_raw_fd() < FIRST { fd.try_clone() } else { Ok(fd) }
}

/// Takes the numbers of standard streams that are closed, so that nothing that is opened meanwhile gets them.
/// Reading and writing fail there as before.
#[derive(Debug, Default)]
pub(crate) struct ReservedStreams(Vec<Descriptor>);

impl ReservedStreams {
    /// Reserves as many as the limit of descriptors allows.
    pub(crate) fn new() -> Self {
        let mut reserved = ReservedStreams::default();
        let any_closed = (0..FIRST).any(|stream| !is_open(stream));
        while let Some(placeholder) = any_closed.then(placeholder).and_then(Result::ok) {
            // The kernel gives the lowest number that is free.
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

/// A descriptor that can be neither read nor written.
fn placeholder() -> nix::Result<OwnedFd> {
    open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: the number is only asked about; it need not be open.
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
    fn a_number_that_leads_elsewhere_is_refused_and_left_alone() {
        let (one, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let kept = kept(&one);
        assert!(kept.get().is_ok() && kept.duplicate().is_ok());
        let number = kept.fd.as_raw_fd();
        // Other code closes the descriptor, and its number becomes that of another file.
        // SAFETY: the test takes the place of code that closes what is not its own.
        let foreign = unsafe { nix::libc::dup2(other.as_raw_fd(), number) };
        assert_eq!(foreign, number);
        for fault in [kept.get().map(drop).unwrap_err(), kept.duplicate().map(drop).unwrap_err()] {
            assert_eq!(fault.kind, ErrorKind::DescriptorClosed);
            assert!(fault.message.contains("a file was closed by other code"), "{}", fault.message);
        }
        drop(kept);
        assert!(is_open(number), "the other file's descriptor stays open");
        // SAFETY: the number is the duplicate made above, and nothing else owns it.
        drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) });
    }

    #[test]
    fn a_placeholder_is_neither_read_nor_written() {
        let mut file = File::from(placeholder().unwrap());
        let error = file.read(&mut [0]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EBADF as i32));
    }
}
