//! Datagram sockets of one machine: a message is one datagram, and the kernel tells the user of its sender.

use std::{
    io::{IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    errno::Errno,
    fcntl::OFlag,
    libc,
    sys::{
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
            UnixAddr, UnixCredentials, bind, connect, recvmsg, sendmsg, setsockopt, socket,
            socketpair, sockopt,
        },
        stat::{Mode, SFlag, fchmod, lstat},
    },
    unistd::{getegid, geteuid},
};
use rustix::event::{PollFd, PollFlags, poll};

use super::{
    death_watch,
    descriptor::{Descriptor, Inode, ReservedStreams},
    object::{self, PRIVATE, set_mode},
    process_token::ProcessToken,
};
use crate::error::{ErrorKind, Fault};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is in the queue of the receiver.
    Yes,
    /// The queue is full.
    Full,
    /// No process receives.
    Nobody,
}

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, from a process of this user.
    Message { bytes: usize, uid: u32 },
    /// A message that is longer than the buffer, that does not tell its user, or that carries descriptors.
    Unusable,
}

/// Two connected sockets: one to send, one to receive.
pub(crate) fn pair() -> Result<(Descriptor, Descriptor), Fault> {
    let failed = |errno| Fault::system("creating a pair of sockets", errno);
    let _reserved = ReservedStreams::new();
    let flags = SockFlag::SOCK_CLOEXEC;
    let (sender, receiver) =
        socketpair(AddressFamily::Unix, SockType::Datagram, None, flags).map_err(failed)?;
    setsockopt(&receiver, sockopt::PassCred, &true).map_err(failed)?;
    Ok((Descriptor::keep(sender, "the socket")?, Descriptor::keep(receiver, "the socket")?))
}

/// Sends `bytes` through a socket of a [`pair`]. While the queue is full, waits at most `limit`.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], limit: Duration) -> Result<Sent, Fault> {
    let end = Instant::now() + limit;
    loop {
        match send_now(socket, bytes)? {
            Sent::Full if Instant::now() < end => {
                let left = death_watch::timespec(end.saturating_duration_since(Instant::now()));
                // An error, a signal and the limit all mean the same: try again.
                let _ = poll(&mut [PollFd::new(&socket, PollFlags::OUT)], Some(&left));
            }
            sent => return Ok(sent),
        }
    }
}

/// Sends `bytes` to the socket at `path`, if it is one of this user.
pub(crate) fn send_to(path: &str, bytes: &[u8], limit: Duration) -> Result<Sent, Fault> {
    let _reserved = ReservedStreams::new();
    let Some(seen) = socket_at(path)? else { return Ok(Sent::Nobody) };
    let (address, _directory) = address(path)?;
    let socket = new_socket()?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) => {}
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => return Ok(Sent::Nobody),
        Err(errno) => return Err(Fault::system(&format!("connecting to {path}"), errno)),
    }
    // Another socket may have got the name before this process connected.
    if socket_at(path)? != Some(seen) {
        return Ok(Sent::Nobody);
    }
    send(socket.as_fd(), bytes, limit)
}

fn send_now(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<Sent, Fault> {
    // Without this the kernel would tell the real user id. The effective one is that of the files.
    let us = UnixCredentials::from(libc::ucred {
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
    });
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let (data, us) = ([IoSlice::new(bytes)], [ControlMessage::ScmCredentials(&us)]);
    match sendmsg::<()>(socket.as_raw_fd(), &data, &us, flags, None) {
        Ok(_) => Ok(Sent::Yes),
        Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => Ok(Sent::Full),
        Err(
            Errno::ECONNREFUSED
            | Errno::ECONNRESET
            | Errno::ENOTCONN
            | Errno::EPIPE
            | Errno::EDESTADDRREQ,
        ) => Ok(Sent::Nobody),
        Err(errno) => Err(Fault::system(&format!("sending {} bytes", bytes.len()), errno)),
    }
}

fn new_socket() -> Result<OwnedFd, Fault> {
    socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| Fault::system("creating a socket", errno))
}

/// The socket of this user that has the path; `None` when there is none.
///
/// # Errors
/// `ForeignOwner` when it belongs to another user; `NotAFile` when it is no socket.
fn socket_at(path: &str) -> Result<Option<Inode>, Fault> {
    let stat = match lstat(path) {
        Ok(stat) => stat,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
        Err(errno) => return Err(Fault::system(&format!("stat of {path}"), errno)),
    };
    if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFSOCK {
        return Err(Fault::new(ErrorKind::NotAFile, format!("{path} is not a socket")));
    }
    let (owner, us) = (stat.st_uid, geteuid().as_raw());
    if owner != us {
        let text = format!("{path} belongs to uid {owner}; this process is uid {us}");
        return Err(Fault::new(ErrorKind::ForeignOwner, text));
    }
    Ok(Some(Inode::of(&stat)))
}

/// The address of a path. A path that is too long for an address is named by its directory, which stays open meanwhile.
fn address(path: &str) -> Result<(UnixAddr, Option<OwnedFd>), Fault> {
    let failed = |errno| Fault::system(&format!("the address of {path}"), errno);
    if let Ok(address) = UnixAddr::new(path) {
        return Ok((address, None));
    }
    let whole = Path::new(path);
    let (Some(directory), Some(file)) = (whole.parent(), whole.file_name()) else {
        return Err(failed(Errno::EINVAL));
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = nix::fcntl::open(directory, flags, Mode::empty()).map_err(failed)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(file);
    Ok((UnixAddr::new(&short).map_err(failed)?, Some(directory)))
}

/// Where messages arrive, and an event that other threads of the process raise.
#[derive(Debug)]
pub(crate) struct Inbox {
    socket: Descriptor,
    /// A pair of its own, for the event.
    event: (Descriptor, Descriptor),
    /// Its path, if it has one.
    bound: Option<(String, Inode)>,
    process: ProcessToken,
}

impl Inbox {
    /// Receives what is sent to the other one of a [`pair`].
    pub(crate) fn of_pair(receiver: &Descriptor) -> Result<Self, Fault> {
        let socket = Descriptor::keep(receiver.duplicate()?, "the socket")?;
        Inbox::new(socket, None)
    }

    /// Receives at `path`, in place of the process that did so before. Only this user can send.
    pub(crate) fn bound(path: &str) -> Result<Self, Fault> {
        let failed = |errno| Fault::system(&format!("binding the socket {path}"), errno);
        let _reserved = ReservedStreams::new();
        let socket = new_socket()?;
        // The kernel takes the mode of the path from that of the socket, and the mask of the process (umask) from that.
        fchmod(&socket, PRIVATE).map_err(failed)?;
        setsockopt(&socket, sockopt::PassCred, &true).map_err(failed)?;
        // What cannot be removed is an error of `bind`.
        let _ = object::remove(path);
        let (address, _directory) = address(path)?;
        bind(socket.as_raw_fd(), &address)
            .map_err(|errno| socket_at(path).err().unwrap_or_else(|| failed(errno)))?;
        let stat = lstat(path).map_err(failed)?;
        if stat.st_mode & 0o7777 != PRIVATE.bits() {
            set_mode(path, PRIVATE).map_err(failed)?;
        }
        let inode = socket_at(path)?.ok_or_else(|| failed(Errno::ENOENT))?;
        let socket = Descriptor::keep(socket, "the socket")?;
        Inbox::new(socket, Some((path.to_owned(), inode)))
    }

    fn new(socket: Descriptor, bound: Option<(String, Inode)>) -> Result<Self, Fault> {
        Ok(Inbox { socket, event: pair()?, bound, process: ProcessToken::current() })
    }

    /// Ends the current [`wait`](Self::wait) of another thread, or its next one.
    pub(crate) fn wake(&self) {
        if let Ok(event) = self.event.0.get() {
            // It fails only if the event was raised often already.
            let _ = send_now(event, &[1]);
        }
    }

    /// Waits for a message or the event, at most `limit`.
    ///
    /// # Errors
    /// `DescriptorClosed` when other code of the process has closed one of the two.
    pub(crate) fn wait(&self, limit: Duration) -> Result<(), Fault> {
        let (socket, event) = (self.socket.get()?, self.event.1.get()?);
        let mut both = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&event, PollFlags::IN)];
        // A signal ends the wait: the caller looks at the state and waits again.
        let _ = poll(&mut both, Some(&death_watch::timespec(limit)));
        // Other code may have closed it during the wait.
        while receive(self.event.1.get()?, &mut [0])?.is_some() {}
        Ok(())
    }

    /// The next message; `None` when there is none.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<Option<Received>, Fault> {
        receive(self.socket.get()?, buffer)
    }
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<Received>, Fault> {
    let mut data = [IoSliceMut::new(buffer)];
    // There is room for the credentials only. So the kernel closes descriptors that a message carries.
    let mut control = cmsg_space!(UnixCredentials);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = match recvmsg::<()>(socket.as_raw_fd(), &mut data, Some(&mut control), flags) {
        Ok(message) => message,
        // The last two: other code has closed it in this moment, and the next look at the descriptor says so.
        Err(Errno::EAGAIN | Errno::EINTR | Errno::EBADF | Errno::ENOTSOCK) => return Ok(None),
        Err(errno) => return Err(Fault::system("receiving a request", errno)),
    };
    if message.flags.contains(MsgFlags::MSG_TRUNC) {
        return Ok(Some(Received::Unusable));
    }
    let uid = message.cmsgs().ok().into_iter().flatten().find_map(|one| match one {
        ControlMessageOwned::ScmCredentials(sender) => Some(sender.uid()),
        _ => None,
    });
    let bytes = message.bytes;
    Ok(Some(uid.map_or(Received::Unusable, |uid| Received::Message { bytes, uid })))
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // A forked child inherits the value and not the task.
        if self.process != ProcessToken::current() {
            return;
        }
        if let Some((path, inode)) = &self.bound
            && socket_at(path).ok().flatten() == Some(*inode)
        {
            let _ = object::remove(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(what: &str) -> String {
        format!("/dev/shm/shmcreds-socket-{what}-{}", std::process::id())
    }

    fn received(inbox: &Inbox, buffer: &mut [u8]) -> Option<Received> {
        inbox.wait(Duration::from_secs(10)).unwrap();
        inbox.receive(buffer).unwrap()
    }

    #[test]
    fn a_message_arrives_with_its_user() {
        let path = path("arrives");
        assert_eq!(send_to(&path, b"early", Duration::ZERO).unwrap(), Sent::Nobody);
        let inbox = Inbox::bound(&path).unwrap();
        assert_eq!(lstat(path.as_str()).unwrap().st_mode & 0o7777, 0o600);
        assert_eq!(send_to(&path, b"hello", Duration::ZERO).unwrap(), Sent::Yes);
        let mut buffer = [0; 8];
        let uid = geteuid().as_raw();
        assert_eq!(received(&inbox, &mut buffer), Some(Received::Message { bytes: 5, uid }));
        assert_eq!(&buffer[..5], b"hello");
        assert_eq!(inbox.receive(&mut buffer).unwrap(), None);
        assert_eq!(send_to(&path, &[7; 9], Duration::ZERO).unwrap(), Sent::Yes);
        assert_eq!(received(&inbox, &mut buffer), Some(Received::Unusable), "it is too long");
        // A second receiver takes the name, and the first one leaves it alone.
        let second = Inbox::bound(&path).unwrap();
        drop(inbox);
        assert_eq!(send_to(&path, b"again", Duration::ZERO).unwrap(), Sent::Yes);
        assert_eq!(received(&second, &mut buffer), Some(Received::Message { bytes: 5, uid }));
        drop(second);
        assert!(!Path::new(&path).exists());
    }

    #[test]
    fn a_full_queue_is_told_and_descriptors_are_not_taken() {
        let (sender, receiver) = pair().unwrap();
        let inbox = Inbox::of_pair(&receiver).unwrap();
        let send = || send(sender.get().unwrap(), b"x", Duration::ZERO).unwrap();
        let sent = (0..100_000).take_while(|_| send() == Sent::Yes).count();
        assert!(sent > 0 && sent < 100_000, "{sent}");
        let mut buffer = [0; 8];
        while inbox.receive(&mut buffer).unwrap().is_some() {}
        let fds = [sender.get().unwrap().as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let data = [IoSlice::new(b"x")];
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        let flags = MsgFlags::empty();
        sendmsg::<()>(sender.get().unwrap().as_raw_fd(), &data, &rights, flags, None).unwrap();
        assert_eq!(inbox.receive(&mut buffer).unwrap(), Some(Received::Unusable));
        // Other tests of this process open files meanwhile. A hundred leaks would be seen.
        for _ in 0..100 {
            sendmsg::<()>(sender.get().unwrap().as_raw_fd(), &data, &rights, flags, None).unwrap();
            inbox.receive(&mut buffer).unwrap();
        }
        assert!(open() < before + 90, "{} {before}", open());
        inbox.wake();
        inbox.wait(Duration::from_secs(600)).unwrap();
    }

    #[test]
    fn a_long_path_has_an_address() {
        let directory = std::path::PathBuf::from(path("long")).join("d".repeat(100));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket").display().to_string();
        let inbox = Inbox::bound(&path).unwrap();
        assert_eq!(send_to(&path, b"hello", Duration::ZERO).unwrap(), Sent::Yes);
        assert!(matches!(received(&inbox, &mut [0; 8]), Some(Received::Message { .. })));
        drop(inbox);
        std::fs::remove_dir_all(directory.parent().unwrap()).unwrap();
    }
}
