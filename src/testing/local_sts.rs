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
    server,
};

/// An embedded STS on the loopback. See the [module](super) for a guide.
///
/// The handle works in every process that inherits it through a fork. The server stops when the
/// process that created it drops the handle; a drop in any other process leaves the server alone.
#[derive(Debug)]
pub struct LocalSts {
    addr: SocketAddr,
    creator: u32,
    /// Taken by the drop.
    server: Option<Server>,
}

#[derive(Debug)]
enum Server {
    Thread(oneshot::Sender<()>, JoinHandle<()>),
    Process(Child),
}

impl LocalSts {
    /// The account of callers whose access key id was not issued here: they are
    /// `arn:aws:iam::123456789012:user/local`.
    pub const ACCOUNT: &str = "123456789012";

    /// Starts the server on a thread of this process.
    ///
    /// # Errors
    /// When the loopback has no free port, or no thread can be started.
    pub fn start() -> io::Result<Self> {
        let (listener, addr) = listen()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            // An error is one of starting up; clients notice it by the closed port.
            let _ = server::run(listener, async { drop(stopped.await) });
        };
        let thread = thread::Builder::new().name("local-sts".to_owned()).spawn(serve)?;
        Ok(Self::new(addr, Server::Thread(stop, thread)))
    }

    /// Starts the server in a child process, so that this one stays without threads and can fork
    /// workers of its own.
    ///
    /// The child dies with the thread that calls this, even if that is killed. It ignores SIGINT
    /// and SIGQUIT, so that Ctrl-C on the terminal leaves it to the parent to end it. A parent
    /// that waits for "any child" should expect to see this one only if it dies untimely.
    ///
    /// # Errors
    /// When this process has more than one thread, the loopback has no free port, or the fork
    /// fails.
    pub fn fork() -> io::Result<Self> {
        let (listener, addr) = listen()?;
        Ok(Self::new(addr, Server::Process(Child::spawn(listener)?)))
    }

    fn new(addr: SocketAddr, server: Server) -> Self {
        Self { addr, creator: process::id(), server: Some(server) }
    }

    /// The URL for clients: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The calls since the start or the last [`clear_calls`](Self::clear_calls), in the order of
    /// their arrival. Calls that are still without an answer are among them.
    ///
    /// # Errors
    /// When the server cannot be reached; so with all methods that follow.
    pub fn calls(&self) -> io::Result<Vec<Call>> {
        control::command(self.addr, "calls", &())
    }

    /// How many of the [`calls`](Self::calls) have this action, failed ones included.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn count(&self, action: &str) -> io::Result<usize> {
        Ok(self.calls()?.iter().filter(|call| call.action == action).count())
    }

    /// Empties the call log.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn clear_calls(&self) -> io::Result<()> {
        control::command(self.addr, "clear-calls", &())
    }

    /// Lets something go wrong with calls to come.
    ///
    /// Each call has one fault at most. Injected faults take their turns in the order of their
    /// injection, so what follows a fault [until cleared](Times::UntilCleared) waits for ever.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn inject(&self, fault: Fault, times: Times) -> io::Result<()> {
        control::command(self.addr, "inject", &(fault, times))
    }

    /// Forgets all faults still to come.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn clear_faults(&self) -> io::Result<()> {
        control::command(self.addr, "clear-faults", &())
    }

    /// Replaces the settings that hold for all calls from now on.
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
            // A forked worker: the server belongs to its parent. Of a thread there is but a copy
            // of the bookkeeping, which must not be touched.
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

/// Listens before the server runs, so that clients may connect from the first moment.
fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}
