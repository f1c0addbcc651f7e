//! The port of an export. It stays with its users when the process that serves is killed: another user of the host who
//! listens there would get the token of the next client, and could answer with other credentials.
//!
//! The kernel lets sockets with `SO_REUSEPORT` share a port if they belong to one user. Each user of the endpoint has such
//! a socket, which is bound and does not listen. Connections come to the socket that listens, and are refused where none
//! does.

use std::{io, net::TcpListener, os::fd::AsFd};

use nix::sys::socket::{self, Backlog};
use tokio::net::TcpSocket;

/// Listens on this port of 127.0.0.1; on a free one, if it is 0.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = shared()?;
    // Closed connections of the server before hinder nobody.
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    // As many may wait for `accept` as the kernel allows. Others would retry after a second.
    socket::listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(TcpListener::from(socket.as_fd().try_clone_to_owned()?))
}

/// A socket that keeps this port of 127.0.0.1 for this user.
pub(crate) fn keep(port: u16) -> io::Result<TcpSocket> {
    let socket = shared()?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    Ok(socket)
}

fn shared() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    Ok(socket)
}
