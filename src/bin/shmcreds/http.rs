//! HTTP, as far as the endpoint and the metrics need it: small answers from memory, and clients that can
//! neither keep a connection for nothing nor keep others waiting.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    panic::catch_unwind,
    sync::Arc,
    time::Duration,
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
    socket::{Backlog, listen},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    sync::{Semaphore, oneshot},
    time::timeout,
};

use crate::places::{Place, Places};

/// Connections at once; each needs a descriptor.
const MOST_CONNECTIONS: usize = 16 * 1024;
/// Descriptors for everything else.
const RESERVE: u64 = 64;
/// How many are told at once that there are too many; others are closed without a word.
const MOST_REFUSALS: usize = 32;
/// How long a client may take for its headers, or keep an idle connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to read a refusal.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of the largest request.
const LARGEST_REQUEST: usize = 16 * 1024;
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain";

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn new(status: u16, kind: &'static str, body: impl Into<String>) -> Self {
        Answer { status, kind, body: body.into() }
    }
}

/// Who answers.
pub(crate) trait Service: Send + Sync + 'static {
    /// Whether no answer may leave this host, whatever forwards it.
    const STAYS_HERE: bool;

    /// Whether the request shows that its client may ask. Others get one answer for a connection.
    fn knows(&self, request: &Request<Incoming>) -> bool;

    fn answer(&self, request: &Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// Listens on `address`.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("--listen {address}: {error}")))?;
    // The standard library lets 128 wait to be accepted; the others would try again after a second, as
    // long as some clients wait at all. Here as many may as the kernel allows.
    listen(&listener, Backlog::MAXALLOWABLE)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A runtime for the thread that serves.
pub(crate) fn runtime() -> io::Result<Runtime> {
    let build = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    // It panics for want of descriptors.
    catch_unwind(build).unwrap_or_else(|_| {
        Err(io::Error::other("no async runtime; raise the limit of file descriptors (ulimit -n)"))
    })
}

/// Raises the limit of descriptors as far as it goes; gives how many connections that allows.
pub(crate) fn allow_connections() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 256 };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    usize::try_from(raised.saturating_sub(RESERVE))
        .map_or(MOST_CONNECTIONS, |n| n.clamp(1, MOST_CONNECTIONS))
}

/// Serves so many connections at once, for ever.
pub(crate) async fn serve<S: Service>(
    listener: TcpListener,
    connections: usize,
    service: Arc<S>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Places::new(connections);
    let refusals = Arc::new(Semaphore::new(MOST_REFUSALS));
    for number in 0.. {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        places.wait().await;
        let (place, told_to_leave) = places.enter(number);
        let (service, refusals) = (Arc::clone(&service), Arc::clone(&refusals));
        tokio::spawn(async move {
            let refused = converse(stream, service, &place, told_to_leave).await;
            drop(place);
            if let (Some(stream), Ok(_slot)) = (refused, refusals.try_acquire()) {
                let _ = timeout(REFUSAL_PATIENCE, refuse(stream)).await;
            }
        });
    }
    Ok(())
}

/// Answers the requests of one connection; gives that back if it has to leave before.
async fn converse<S: Service>(
    stream: TcpStream,
    service: Arc<S>,
    place: &Place,
    told_to_leave: oneshot::Receiver<()>,
) -> Option<TcpStream> {
    if S::STAYS_HERE {
        let _ = stream.set_ttl(1);
    }
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|request| {
        let service = Arc::clone(&service);
        async move {
            if !place.is_known() && service.knows(&request) {
                place.keep();
            }
            let mut response = response(service.answer(&request).await);
            if !place.is_known() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(LARGEST_REQUEST)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        biased;
        // A client that breaks the protocol or goes away has had its answer, or needs none.
        _ = &mut connection => None,
        Ok(()) = told_to_leave => Some(connection.into_parts().io.into_inner()),
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    response
}

/// Says that there are too many. What the client has sent is read: a connection that is closed before is
/// reset, and its answer may be lost.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(TOO_MANY).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}
