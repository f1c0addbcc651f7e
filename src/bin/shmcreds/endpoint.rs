//! The endpoint: credentials over HTTP on the loopback, as containers get them.

use std::{
    convert::Infallible,
    fmt::Write,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, mpsc::Sender},
    thread,
    time::{Duration, Instant},
};

use aws_credential_types::provider::ProvideCredentials;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request, Response,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use shmcreds::SharedSession;
use subtle::ConstantTimeEq;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Semaphore};

use crate::{
    failure::{Failure, USAGE},
    metrics, protocol,
    session::{self, Event},
};

/// Where the credentials are.
const PATH: &str = "/credentials";
/// Connections at once; each needs a descriptor.
const MOST_CONNECTIONS: usize = 16 * 1024;
/// Descriptors for everything else.
const RESERVE: u64 = 64;
/// How long a client may take for its headers, or keep an idle connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients give up after a second.
const LONGEST_ANSWER: Duration = Duration::from_millis(800);
/// Bytes of the largest request.
const LARGEST_REQUEST: usize = 16 * 1024;
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A bound endpoint.
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    pub(crate) token: String,
}

impl Endpoint {
    /// Binds `address`, which is one of the loopback, and draws a token.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        if address.ip() != IpAddr::from([127, 0, 0, 1]) {
            let text = format!(
                "--listen {address} is not on 127.0.0.1, which every SDK accepts and no other host reaches"
            );
            return Err(Failure::new(USAGE, text));
        }
        let listener = TcpListener::bind(address).map_err(|error| {
            io::Error::new(error.kind(), format!("--listen {address}: {error}"))
        })?;
        let address = listener.local_addr()?;
        Ok(Endpoint { listener, address, token: draw_token()? })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Serves in a thread of its own, which fetches the first set, too, as long as the process lives.
    pub(crate) fn serve(self, session: SharedSession, events: Sender<Event>) -> io::Result<()> {
        let connections = allow_descriptors();
        self.listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let service = Arc::new(Service {
            session,
            token: self.token,
            host: self.address.to_string(),
            port: self.address.port(),
            latency: Histogram::new(exponential_buckets(0.000_01, 4.0, 8)),
        });
        let serve = async move {
            let first = session::fetch_first(&service.session, &events);
            let accept = accept(self.listener, Arc::clone(&service), connections);
            let ((), Err(error)) = tokio::join!(first, accept);
            let _ = events.send(Event::Endpoint(error));
        };
        let thread = thread::Builder::new().name("endpoint".into());
        thread.spawn(move || runtime.block_on(serve)).map(drop)
    }
}

/// 32 bytes of the kernel's randomness.
fn draw_token() -> io::Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    let mut token = String::with_capacity(64);
    for byte in bytes {
        // Writing to a text does not fail.
        let _ = write!(token, "{byte:02x}");
    }
    Ok(token)
}

/// Raises the limit of descriptors as far as it goes; gives how many connections that allows.
fn allow_descriptors() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 256 };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    usize::try_from(raised.saturating_sub(RESERVE))
        .map_or(MOST_CONNECTIONS, |n| n.clamp(1, MOST_CONNECTIONS))
}

async fn accept(
    listener: TcpListener,
    service: Arc<Service>,
    connections: usize,
) -> Result<Infallible, io::Error> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let (mut stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                let service = service.clone();
                tokio::spawn(async move {
                    connection(stream, service).await;
                    drop(place);
                });
            }
            Err(_) => drop(stream.write_all(TOO_MANY).await),
        }
    }
}

async fn connection(stream: TcpStream, service: Arc<Service>) {
    // What is answered never leaves this host, whatever forwards it.
    let _ = stream.set_ttl(1);
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.answer(&request).await) }
    });
    // A client that breaks the protocol or goes away has had its answer, or needs none.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(LARGEST_REQUEST)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

struct Service {
    session: SharedSession,
    token: String,
    host: String,
    port: u16,
    latency: Histogram,
}

struct Answer(u16, String);

impl Answer {
    fn refusal(status: u16, code: &str, message: &str) -> Self {
        Answer(status, protocol::refusal(code, message))
    }
}

impl Service {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let (Answer(status, body), kind) = match self.refuse(request) {
            Some(refusal) => (refusal, "application/json"),
            None => match request.uri().path() {
                "/live" => (Answer(200, "live\n".into()), "text/plain"),
                "/ready" => (self.ready(), "text/plain"),
                "/metrics" => (self.metrics(), metrics::CONTENT_TYPE),
                PATH => (self.credentials(request.headers()).await, "application/json"),
                _ => (Answer::refusal(404, "NotFound", "no such path"), "application/json"),
            },
        };
        self.latency.observe(began.elapsed().as_secs_f64());
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
        response
    }

    /// A request that came by way of another host, or of a web page, is nobody's who may ask.
    fn refuse(&self, request: &Request<Incoming>) -> Option<Answer> {
        let headers = request.headers();
        if ["x-forwarded-for", "forwarded"].iter().any(|name| headers.contains_key(*name)) {
            return Some(Answer::refusal(400, "Forwarded", "forwarded requests are refused"));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
        if host != self.host && host != format!("localhost:{}", self.port) {
            return Some(Answer::refusal(400, "WrongHost", "the Host header names another host"));
        }
        if request.method() != Method::GET {
            return Some(Answer::refusal(405, "MethodNotAllowed", "must be GET"));
        }
        None
    }

    async fn credentials(&self, headers: &HeaderMap) -> Answer {
        let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        if !bool::from(given.ct_eq(self.token.as_bytes())) {
            return Answer::refusal(
                403,
                "AccessDenied",
                "the authorization token is wrong or missing",
            );
        }
        let asked = tokio::time::timeout(LONGEST_ANSWER, self.session.provide_credentials()).await;
        match asked {
            Ok(Ok(set)) => protocol::endpoint_answer(&set).map_or_else(
                |_| Answer::refusal(503, "Unavailable", "the set cannot be written"),
                |body| Answer(200, body),
            ),
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Answer::refusal(503, "Unavailable", &cause.unwrap_or_else(|| error.to_string()))
            }
            Err(_) => Answer::refusal(503, "NotReady", "there is no set yet; ask again"),
        }
    }

    fn ready(&self) -> Answer {
        match self.session.status() {
            Ok(status) if !status.expires_in().is_zero() => Answer(200, "ready\n".into()),
            _ => Answer(503, "not ready: there is no valid set\n".into()),
        }
    }

    fn metrics(&self) -> Answer {
        let status = self.session.status().map_err(Failure::from);
        let text = status.and_then(|status| metrics::text(&status, Some(&self.latency)));
        text.map_or_else(
            |_| Answer(500, "the session cannot be read\n".into()),
            |text| Answer(200, text),
        )
    }
}
