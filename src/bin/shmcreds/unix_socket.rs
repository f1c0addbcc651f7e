//! Clients on a Unix socket. Who they are takes the place of the token: the kernel tells which user connected.
//!
//! A connection gets one answer. So a process that changes its user does not keep a connection of the one before.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            fs::{FileTypeExt, MetadataExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        socket::{
            self, AddressFamily, SockFlag, SockType, UnixAddr, setsockopt, sockopt::SendTimeout,
        },
        stat::{Mode, umask},
        time::{TimeVal, TimeValLike},
    },
    unistd::geteuid,
};
use shmcreds::endpoint::{answers, http::Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    command_error::{CANNOT_CREATE, CommandError, NO_PERMISSION, USAGE},
    errno::told,
};

/// What the kernel shows for users and groups that have no number in this user namespace.
const UNMAPPED: u32 = 65_534;
/// How long a client that is refused may take to read why.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the log tells of a user who is refused, and of how many users in that time.
const REPEAT: Duration = Duration::from_secs(60);
const MOST_TOLD: usize = 100;
/// How long another process may take to accept a connection, in seconds, while its queue is full.
const CONNECT_LIMIT: i64 = 2;
const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Which users may ask: this one and root, and those that are listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) uids: Vec<u32>,
    pub(crate) gids: Vec<u32>,
}

impl Rules {
    fn allow(&self, uid: u32, groups: &[u32]) -> bool {
        uid == 0
            || uid == geteuid().as_raw()
            || self.uids.contains(&uid)
            || groups.iter().any(|group| self.gids.contains(group))
    }

    /// A rule for users without a number would let in all of them.
    fn check(&self) -> Result<(), CommandError> {
        let has_unmapped = |kind: &str| {
            let map = fs::read_to_string(format!("/proc/self/{kind}_map")).unwrap_or_default();
            let fields: Vec<&str> = map.split_whitespace().collect();
            fields != ["0", "0", "4294967295"]
        };
        for (option, numbers, kind) in
            [("--allow-uid", &self.uids, "uid"), ("--allow-gid", &self.gids, "gid")]
        {
            if numbers.contains(&UNMAPPED) && has_unmapped(kind) {
                let text = format!(
                    "{option} {UNMAPPED}: in this user namespace that number stands for all users of other namespaces; \
                     give another number"
                );
                return Err(CommandError::new(USAGE, text));
            }
        }
        Ok(())
    }
}

/// A socket in the file system. Dropping this removes it.
pub(crate) struct UnixSocket {
    listener: UnixListener,
    file: SocketFile,
    rules: Rules,
}

/// The name of the socket. Dropping this removes it, if it is still the same.
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl UnixSocket {
    /// Binds `path`. A socket that a killed process has left is replaced. The process must have one thread: the mode of
    /// the socket comes from the mask of the process.
    pub(crate) fn bind(path: &Path, rules: Rules) -> Result<Self, CommandError> {
        rules.check()?;
        let failed = |code: u8, problem: String| {
            Err(CommandError::new(code, format!("--unix {}: {problem}", path.display())))
        };
        if !path.is_absolute() {
            return failed(USAGE, "it must be an absolute path".to_owned());
        }
        if let Err(problem) = check_directory(path) {
            return failed(NO_PERMISSION, problem);
        }
        if let Err(problem) = remove_left(path) {
            return failed(CANNOT_CREATE, problem);
        }
        // Everyone may connect, so that a refused client is told why.
        let mask = umask(Mode::from_bits_truncate(0o111));
        let bound = UnixListener::bind(path).and_then(|listener| {
            listener.set_nonblocking(true)?;
            let found = fs::symlink_metadata(path)?;
            Ok((listener, (found.dev(), found.ino())))
        });
        umask(mask);
        match bound {
            Ok((listener, inode)) => {
                let file = SocketFile { path: path.to_owned(), inode };
                Ok(UnixSocket { listener, file, rules })
            }
            Err(error) => failed(CANNOT_CREATE, told(&error).to_string()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// The part that removes the name, and the part that listens. Needs an async runtime.
    pub(crate) fn listen(self) -> io::Result<(SocketFile, Peers)> {
        let listener = tokio::net::UnixListener::from_std(self.listener)?;
        Ok((self.file, Peers::new(listener, self.rules)))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if now.is_ok_and(|now| now == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Others must not be able to put their own socket in this one's place.
fn check_directory(path: &Path) -> Result<(), String> {
    let directory = path.parent().unwrap_or(path);
    let found = fs::metadata(directory).map_err(|error| {
        format!("its directory {} cannot be used: {}", directory.display(), told(&error))
    })?;
    let (owner, mode) = (found.uid(), found.mode());
    let others_write = mode & GROUP_AND_OTHERS_WRITE != 0 && mode & STICKY == 0;
    if ![0, geteuid().as_raw()].contains(&owner) || others_write {
        return Err(format!(
            "others could replace a socket in {} (uid {owner}, mode {:04o}); give a directory of this user, of mode 0755",
            directory.display(),
            mode & 0o7777
        ));
    }
    Ok(())
}

/// Connects to a socket. A process that accepts nobody, because it is stopped or hostile, lets `connect` wait without end
/// once its queue is full: here for `CONNECT_LIMIT`, then it is the error `WouldBlock`.
pub(crate) fn connect(address: &UnixAddr) -> io::Result<UnixStream> {
    let (family, kind) = (AddressFamily::Unix, SockType::Stream);
    let socket = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, SendTimeout, &TimeVal::seconds(CONNECT_LIMIT))?;
    socket::connect(socket.as_raw_fd(), address)?;
    setsockopt(&socket, SendTimeout, &TimeVal::zero())?;
    Ok(socket.into())
}

/// Removes the socket that a killed process has left.
fn remove_left(path: &Path) -> Result<(), String> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err("it exists, and is no socket; remove it, or give another path".to_owned());
    }
    match UnixAddr::new(path).map_err(io::Error::from).and_then(|address| connect(&address)) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err("another process listens there, and is stopped; end it, or give another path"
                .to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|error| format!("removing what is left: {}", told(&error))),
        Ok(_) => Err("another process listens there; end it, or give another path".to_owned()),
        Err(error) => Err(told(&error).to_string()),
    }
}

/// The clients of the socket that may ask.
pub(crate) struct Peers {
    listener: tokio::net::UnixListener,
    rules: Arc<Rules>,
    told: Told,
}

/// Of which users the log has told lately. Anybody may connect, and must not fill the log.
#[derive(Default)]
struct Told(Mutex<BTreeMap<u32, Instant>>);

impl Told {
    fn is_due(&self, uid: u32) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| at.elapsed() < REPEAT);
        let is_due = told.len() < MOST_TOLD && !told.contains_key(&uid);
        if is_due {
            told.insert(uid, Instant::now());
        }
        is_due
    }
}

impl Peers {
    pub(crate) fn new(listener: tokio::net::UnixListener, rules: Rules) -> Self {
        Peers { listener, rules: Arc::new(rules), told: Told::default() }
    }
}

impl Listener for Peers {
    type Raw = tokio::net::UnixStream;
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Self::Raw> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// The kernel has noted the user and the groups when the client connected.
    async fn open(&self, stream: Self::Raw) -> io::Result<Self::Stream> {
        let peer = stream.peer_cred()?;
        let mut groups = shmcreds::peer_groups(stream.as_fd()).unwrap_or_default();
        groups.push(peer.gid());
        if self.rules.allow(peer.uid(), &groups) {
            return Ok(stream);
        }
        if self.told.is_due(peer.uid()) {
            tracing::warn!(
                uid = peer.uid(),
                gid = peer.gid(),
                pid = peer.pid(),
                "a client was refused"
            );
        }
        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refuse(stream, peer.uid())).await;
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Answers with status 403. It reads what the client has sent, which would get an error for its write otherwise.
async fn refuse(mut stream: tokio::net::UnixStream, uid: u32) -> io::Result<()> {
    let body = answers::refusal("AccessDenied", &format!("uid {uid} is not allowed here"));
    let head = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_listed_may_ask() {
        let rules = Rules { uids: vec![7], gids: vec![20] };
        let us = geteuid().as_raw();
        for (uid, groups, allowed) in [
            (us, &[][..], true),
            (0, &[], true),
            (7, &[], true),
            (61_000, &[], false),
            (61_000, &[7], false),
            (61_000, &[19, 20], true),
            (20, &[21], us == 20),
        ] {
            assert_eq!(rules.allow(uid, groups), allowed, "{uid} {groups:?}");
        }
        assert!(!Rules::default().allow(us ^ 61_000, &[0]));
    }
}
