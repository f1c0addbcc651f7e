//! How programs of this user ask the process that serves the roles of a pool: `credentials --role`, `status`.
//!
//! They could read the whole pool themselves. But they do not know the recipe of a role, and have no base credentials. The
//! socket has an abstract name, so a killed process leaves nothing behind. Both ends check the user of the other one.

use std::{
    io::{self, Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    time::Duration,
};

use nix::{
    sys::socket::{UnixAddr, getsockopt, sockopt::PeerCredentials},
    unistd::geteuid,
};
use serde_json::Value;

use crate::{
    command_error::{
        CANNOT_CREATE, CONFIGURATION, CommandError, Doing, NO_PERMISSION, SYSTEM, UNAVAILABLE,
    },
    recursion,
    unix_socket::{self, Peers, Rules},
};

/// Longer than a process that serves waits for a set by default.
const PATIENCE: Duration = Duration::from_secs(120);
/// The largest answer: the names and keys of all roles.
const LONGEST: u64 = 4 * 1024 * 1024;

/// The socket, before the process serves.
pub(crate) struct SameUser(UnixListener);

fn name(pool: &str) -> String {
    format!("shmcreds-roles-{}-{pool}", geteuid())
}

fn connect(pool: &str) -> io::Result<UnixStream> {
    unix_socket::connect(&UnixAddr::new_abstract(name(pool).as_bytes())?)
}

/// The user and the process at the other end.
fn peer(stream: &UnixStream) -> io::Result<(u32, i32)> {
    let peer = getsockopt(stream, PeerCredentials)?;
    Ok((peer.uid(), peer.pid()))
}

impl SameUser {
    /// Binds the name. `None` where another user has taken it: nothing else depends on it.
    ///
    /// # Errors
    /// When another process of this user serves the roles of this pool.
    pub(crate) fn bind(pool: &str) -> Result<Option<Self>, CommandError> {
        let address = SocketAddr::from_abstract_name(name(pool)).doing("naming a socket")?;
        let bound = UnixListener::bind_addr(&address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => Ok(Some(SameUser(listener))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let holder = connect(pool).and_then(|stream| peer(&stream));
                match holder {
                    Ok((uid, pid)) if uid == geteuid().as_raw() => {
                        let text = format!(
                            "process {pid} serves the roles of {pool:?} already; end it, or choose another --name"
                        );
                        Err(CommandError::new(CANNOT_CREATE, text))
                    }
                    _ => {
                        tracing::warn!(
                            "another user, or a process that is stopped, has the socket for this name, so \
                             `credentials --role` and the names of roles in `status` do not work; choose another --name"
                        );
                        Ok(None)
                    }
                }
            }
            Err(error) => Err(error).doing("binding a socket for programs of this user"),
        }
    }

    /// Needs an async runtime.
    pub(crate) fn listen(self) -> io::Result<Peers> {
        let listener = tokio::net::UnixListener::from_std(self.0)?;
        Ok(Peers::new(listener, Rules::default()))
    }
}

/// The JSON that the process which serves the roles of `pool` answers.
pub(crate) fn ask(pool: &str, path: &str) -> Result<Value, CommandError> {
    let doing = "asking the process that serves the roles";
    let mut stream = connect(pool).map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::WouldBlock => format!(
                "the process that has the name {pool:?} accepts no connection: it is stopped, or of another user"
            ),
            _ => format!(
                "no process of this user serves the roles of {pool:?}, or it is in another network namespace; start \
                 `shmcreds serve --roles`"
            ),
        };
        CommandError::new(UNAVAILABLE, text)
    })?;
    let (uid, pid) = peer(&stream).doing(doing)?;
    if uid != geteuid().as_raw() {
        let text = format!(
            "process {pid} of uid {uid} has taken the name {pool:?}; choose another --name"
        );
        return Err(CommandError::new(NO_PERMISSION, text));
    }
    if recursion::is_asked_by(pid) {
        let text = format!(
            "the roles of {pool:?} ask themselves: their base credentials come from a program that ran `shmcreds \
             credentials {pool} --role`; give the pool another source"
        );
        return Err(CommandError::new(CONFIGURATION, text));
    }
    let mut answer = Vec::new();
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| write!(stream, "GET {path} HTTP/1.0\r\n\r\n"))
        .and_then(|()| (&stream).take(LONGEST).read_to_end(&mut answer))
        .doing(doing)?;
    read(&answer)
}

fn read(answer: &[u8]) -> Result<Value, CommandError> {
    let parts = || {
        let (head, body) = std::str::from_utf8(answer).ok()?.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?, serde_json::from_str::<Value>(body).ok()?))
    };
    let Some((status, body)) = parts() else {
        return Err(CommandError::new(SYSTEM, "the process that serves the roles gave no answer"));
    };
    match status {
        "200" => Ok(body),
        _ => Err(CommandError::new(UNAVAILABLE, body["message"].as_str().unwrap_or(status))),
    }
}
