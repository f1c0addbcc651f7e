//! The handle of an embedded STS.

use std::{
    io, mem,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process,
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use super::{
    child::Child,
    control,
    fault::{Fault, Settings, Times},
    log::Call,
    server, service,
};

/// An embedded STS on the loopback interface. See the [module](super) for a guide.
///
/// The handle works in every process that inherits it through a fork. The server stops when the process that created it
/// drops the handle. A drop in another process does not stop the server.
#[derive(Debug)]
pub struct LocalSts {
    addr: SocketAddr,
    creator: u32,
    /// `None` after `drop` took it.
    server: Option<Server>,
}

#[derive(Debug)]
enum Server {
    Thread(oneshot::Sender<()>, JoinHandle<()>),
    Process(Child),
}

impl LocalSts {
    /// The account of callers with an access key id that this server did not issue. They are
    /// `arn:aws:iam::123456789012:user/local`.
    pub const ACCOUNT: &str = service::ACCOUNT;

    /// Starts the server on a thread of this process.
    ///
    /// # Errors
    /// When there is no free port, or no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (listener, addr) = listen()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            // It can only fail at the start. Clients notice that by the closed port.
            let _ = server::run(listener, async { drop(stopped.await) });
        };
        let thread = thread::Builder::new().name("local-sts".to_owned()).spawn(serve)?;
        Ok(Self::new(addr, Server::Thread(stop, thread)))
    }

    /// Starts the server in a child process. So this process stays without threads and can fork workers.
    ///
    /// The child dies with the calling thread, even if that thread is killed. It ignores SIGINT and SIGQUIT: after Ctrl-C
    /// on the terminal the parent ends it. A `wait` for any child returns this child only if it dies unexpectedly.
    ///
    /// # Errors
    /// When this process has more than one thread, there is no free port, or the fork fails.
    pub fn fork() -> io::Result<Self> {
        let (listener, addr) = listen()?;
        Ok(Self::new(addr, Server::Process(Child::spawn(listener)?)))
    }

    fn new(addr: SocketAddr, server: Server) -> Self {
        Self { addr, creator: process::id(), server: Some(server) }
    }

    /// The endpoint URL for clients: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The calls since the start or the last [`clear_calls`](Self::clear_calls), in the order of their arrival. Includes
    /// calls without an answer yet.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn calls(&self) -> io::Result<Vec<Call>> {
        control::command(self.addr, "calls", &())
    }

    /// How many of the [`calls`](Self::calls) have this action, including failed calls.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn count(&self, action: &str) -> io::Result<usize> {
        Ok(self.calls()?.iter().filter(|call| call.action == action).count())
    }

    /// Clears the call log.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn clear_calls(&self) -> io::Result<()> {
        control::command(self.addr, "clear-calls", &())
    }

    /// Injects a fault into future calls.
    ///
    /// Each call has one fault at most. Faults apply in the order of their injection. So a fault after one that lasts
    /// [until cleared](Times::UntilCleared) never applies.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn inject(&self, fault: Fault, times: Times) -> io::Result<()> {
        control::command(self.addr, "inject", &(fault, times))
    }

    /// Removes all pending faults.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn clear_faults(&self) -> io::Result<()> {
        control::command(self.addr, "clear-faults", &())
    }

    /// Replaces the settings for all calls from now on.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn configure(&self, settings: Settings) -> io::Result<()> {
        control::command(self.addr, "configure", &settings)
    }
}

impl Drop for LocalSts {
    fn drop(&mut self) {
        let server = self.server.take();
        if self.creator != process::id() {
            // This is a forked worker: the server belongs to its parent. The worker has only a copy of the thread's
            // handle, which it must not use.
            mem::forget(server);
            return;
        }
        match server {
            Some(Server::Thread(stop, thread)) => {
                let _ = stop.send(());
                let _ = thread.join();
            }
            Some(Server::Process(child)) => child.kill(),
            None => {}
        }
    }
}

/// Listens before the server runs, so that clients can connect at once.
fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}
