//! The HTTP server of the endpoint, and of the program's metrics. Answers are small and come from memory. A client can
//! neither keep an idle connection nor delay other clients.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    panic::catch_unwind,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    socket::{Backlog, listen, setsockopt, sockopt::Ipv6Ttl},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::{Semaphore, oneshot},
    time::timeout,
};

use super::connection_slots::{ConnectionSlot, ConnectionSlots};
use crate::errno;

/// The most connections at a time. Each needs a descriptor.
const MOST_CONNECTIONS: usize = 16 * 1024;
/// The descriptors for everything else.
const RESERVE: u64 = 64;
/// The most clients at a time that are sent a 429. Other connections are closed without an answer.
const MOST_REFUSALS: usize = 32;
/// How long a client may take for its headers, and how long a connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to read a refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the log tells that connections cannot be accepted.
const REPEAT: Duration = Duration::from_secs(60);
/// The largest request, in bytes.
const LARGEST_REQUEST: usize = 16 * 1024;
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

pub const JSON: &str = "application/json";
pub const TEXT: &str = "text/plain";

pub struct Answer {
    pub status: u16,
    pub kind: &'static str,
    pub body: String,
}

impl Answer {
    pub fn new(status: u16, kind: &'static str, body: impl Into<String>) -> Self {
        Answer { status, kind, body: body.into() }
    }
}

/// A service that answers requests.
pub trait Service: Send + Sync + 'static {
    /// Whether the request proves that its client may ask. Other clients get one answer per connection.
    fn is_authenticated(&self, request: &Request<Incoming>) -> bool;

    fn answer(&self, request: &Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// Where clients come from.
pub trait Listener: Send + Sync + 'static {
    type Raw: Send;
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next client.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Raw>> + Send;

    /// Prepares its connection, while others are served.
    fn open(&self, raw: Self::Raw) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Clients over plain HTTP.
pub struct Plain {
    listener: TcpListener,
    /// Whether answers must stay on this host, even if something forwards packets.
    host_only: bool,
}

impl Plain {
    /// Needs an async runtime.
    pub fn new(listener: std::net::TcpListener, host_only: bool) -> io::Result<Self> {
        Ok(Plain { listener: TcpListener::from_std(listener)?, host_only })
    }
}

impl Listener for Plain {
    type Raw = TcpStream;
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    async fn open(&self, stream: TcpStream) -> io::Result<TcpStream> {
        if self.host_only {
            let _ = stream.set_ttl(1);
            let _ = setsockopt(&stream, Ipv6Ttl, &1);
        }
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Listens on `address`.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    // The standard library lets 128 connections wait for `accept`. Others would retry after a second. Here as many may
    // wait as the kernel allows.
    listen(&listener, Backlog::MAXALLOWABLE)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The async runtime of the thread that serves.
pub fn runtime() -> io::Result<Runtime> {
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    crate::sys::runtime::room()?;
    // tokio panics if there is no free descriptor: another thread may have taken them meanwhile.
    catch_unwind(build).unwrap_or_else(|_| {
        Err(io::Error::other("no async runtime; raise the limit of file descriptors (ulimit -n)"))
    })
}

/// Raises the limit of descriptors to its maximum. Gives the number of connections that it allows.
pub fn allow_connections() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 256 };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    usize::try_from(raised.saturating_sub(RESERVE))
        .map_or(MOST_CONNECTIONS, |n| n.clamp(1, MOST_CONNECTIONS))
}

/// The number of connections for a library: a quarter of the descriptors that this process may have.
pub fn connections_of_a_library() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(256, |(soft, _)| soft);
    usize::try_from(soft / 4).unwrap_or(MOST_CONNECTIONS).clamp(1, MOST_CONNECTIONS)
}

/// Serves up to this many connections at a time, without end.
pub async fn serve<L: Listener, S: Service>(
    listener: L,
    connections: usize,
    service: Arc<S>,
) -> io::Result<()> {
    let listener = Arc::new(listener);
    let slots = ConnectionSlots::new(connections);
    let refusals = Arc::new(Semaphore::new(MOST_REFUSALS));
    let mut told: Option<Instant> = None;
    for number in 0.. {
        let raw = match listener.accept().await {
            Ok(raw) => raw,
            Err(error) => {
                // Clients that connect without end must not fill the log.
                if told.is_none_or(|at| at.elapsed() >= REPEAT) {
                    told = Some(Instant::now());
                    let error = errno::told(&error);
                    tracing::warn!(error, "a connection could not be accepted");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        slots.wait().await;
        let (slot, mut evicted) = slots.open(number);
        let (service, refusals) = (Arc::clone(&service), Arc::clone(&refusals));
        let listener = Arc::clone(&listener);
        tokio::spawn(async move {
            let opened = tokio::select! {
                biased;
                opened = timeout(HEADER_TIMEOUT, listener.open(raw)) => opened,
                Ok(()) = &mut evicted => return,
            };
            let Ok(Ok(stream)) = opened else { return };
            let refused = serve_connection(stream, service, &slot, evicted).await;
            drop(slot);
            if let (Some(stream), Ok(_slot)) = (refused, refusals.try_acquire()) {
                let _ = timeout(REFUSAL_TIMEOUT, refuse(stream)).await;
            }
        });
    }
    Ok(())
}

/// Answers the requests of one connection. Gives the stream back if the connection is evicted.
async fn serve_connection<T: AsyncRead + AsyncWrite + Unpin, S: Service>(
    stream: T,
    service: Arc<S>,
    slot: &ConnectionSlot,
    evicted: oneshot::Receiver<()>,
) -> Option<T> {
    let answer = service_fn(|request| {
        let service = Arc::clone(&service);
        async move {
            if !slot.is_authenticated() && service.is_authenticated(&request) {
                slot.authenticate();
            }
            let mut response = response(service.answer(&request).await);
            if !slot.is_authenticated() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(LARGEST_REQUEST)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        biased;
        // A client that breaks the protocol or goes away needs no more answers.
        _ = &mut connection => None,
        Ok(()) = evicted => Some(connection.into_parts().io.into_inner()),
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    response
}

/// Answers with status 429. It reads what the client has sent: otherwise the kernel resets the connection, and the
/// answer may be lost.
async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_all(TOO_MANY).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
