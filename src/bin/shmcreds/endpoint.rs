//! The endpoint: credentials over HTTP on 127.0.0.1, in the format of the container endpoint.

use std::{
    fmt::Write,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, mpsc::Sender},
    thread,
    time::{Duration, Instant},
};

use aws_credential_types::{Credentials, provider::ProvideCredentials};
use hyper::{
    HeaderMap, Method, Request, Version,
    body::Incoming,
    header::{AUTHORIZATION, HOST},
};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use shmcreds::{ErrorKind, SharedSession};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::{
    arguments,
    command_error::{CommandError, Doing, USAGE},
    credentials_json,
    http::{self, Answer, JSON, TEXT},
    metrics,
    session::{self, Event},
};

/// The path of the credentials.
const PATH: &str = "/credentials";
/// The parameter of a client that needs a set for some time.
const VALID_FOR: &str = "valid_for=";
/// How many such clients wait for a set at a time. The others wait for them.
const LONG_WAITS: usize = 16;
/// SDKs give up after a second.
const LONGEST_ANSWER: Duration = Duration::from_millis(800);

/// A bound endpoint.
pub(crate) struct Endpoint {
    listener: TcpListener,
    address: SocketAddr,
    pub(crate) token: String,
}

impl Endpoint {
    /// Binds `address` on 127.0.0.1, and makes a random token.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, CommandError> {
        if address.ip() != IpAddr::from([127, 0, 0, 1]) {
            let text = format!(
                "--listen {address} must be on 127.0.0.1: every SDK accepts it, and no other host can reach it"
            );
            return Err(CommandError::new(USAGE, text));
        }
        let listener = http::bind(address).doing("listening")?;
        let address = listener.local_addr().doing("listening")?;
        Ok(Endpoint {
            listener,
            address,
            token: random_token().doing("drawing a token (getrandom)")?,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Serves in a new thread until the process ends. The thread also fetches the first set.
    pub(crate) fn serve(self, session: SharedSession, events: Sender<Event>) -> io::Result<()> {
        let connections = http::allow_connections();
        let runtime = http::runtime()?;
        let service = Arc::new(Service {
            session,
            token: self.token,
            port: self.address.port(),
            long_waits: Semaphore::new(LONG_WAITS),
            latency: Histogram::new(exponential_buckets(0.000_01, 4.0, 8)),
        });
        let serve = async move {
            let first = session::fetch_first(&service.session, &events);
            let serve = http::serve(self.listener, connections, Arc::clone(&service));
            if let ((), Err(error)) = tokio::join!(first, serve) {
                let _ = events.send(Event::Endpoint(error));
            }
        };
        let thread = thread::Builder::new().name("endpoint".into());
        thread.spawn(move || runtime.block_on(serve)).map(drop)
    }
}

/// 32 random bytes from the kernel.
fn random_token() -> io::Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    let mut token = String::with_capacity(64);
    for byte in bytes {
        // Writing to a `String` cannot fail.
        let _ = write!(token, "{byte:02x}");
    }
    Ok(token)
}

struct Service {
    session: SharedSession,
    token: String,
    port: u16,
    long_waits: Semaphore,
    latency: Histogram,
}

fn of_set(set: &Credentials) -> Answer {
    credentials_json::endpoint_answer(set).map_or_else(
        |_| refusal(503, "Unavailable", "the set cannot be encoded"),
        |body| Answer::new(200, JSON, body),
    )
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    Answer::new(status, JSON, credentials_json::refusal(code, message))
}

/// The headers that proxies add, besides those that begin with `x-forwarded`.
const PROXY_HEADERS: [&str; 8] = [
    "cf-connecting-ip",
    "forwarded",
    "proxy-authorization",
    "true-client-ip",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-real-ip",
];

fn is_proxy_header(name: &str) -> bool {
    name.starts_with("x-forwarded") || PROXY_HEADERS.contains(&name)
}

/// Whether `host` names the endpoint. Some clients leave out the port although it is not 80.
fn is_own(host: &[u8], port: u16) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let (name, given) = host.split_once(':').unwrap_or((host, ""));
    let is_port = given.is_empty() || given.parse() == Ok(port);
    is_port && (name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost"))
}

impl http::Service for Service {
    const HOST_ONLY: bool = true;

    fn is_authenticated(&self, request: &Request<Incoming>) -> bool {
        self.refuse(request).is_none() && self.has_token(request.headers())
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let began = Instant::now();
        let answer = match self.refuse(request) {
            Some(refusal) => refusal,
            None => match request.uri().path() {
                "/live" => Answer::new(200, TEXT, "live\n"),
                "/ready" => self.ready(),
                "/metrics" => self.metrics(),
                PATH => self.credentials(request).await,
                _ => refusal(404, "NotFound", "no such path"),
            },
        };
        self.latency.observe(began.elapsed().as_secs_f64());
        answer
    }
}

impl Service {
    /// Refuses requests that come from another host, through a proxy, or from a web page.
    fn refuse(&self, request: &Request<Incoming>) -> Option<Answer> {
        if request.headers().keys().any(|name| is_proxy_header(name.as_str())) {
            return Some(refusal(400, "Forwarded", "forwarded requests are refused"));
        }
        if !self.is_addressed(request) {
            return Some(refusal(400, "WrongHost", "the request names another host"));
        }
        if request.method() != Method::GET {
            return Some(refusal(405, "MethodNotAllowed", "must be GET"));
        }
        None
    }

    /// Whether each host name in the request is the endpoint's. HTTP/1.0 needs no host name.
    fn is_addressed(&self, request: &Request<Incoming>) -> bool {
        let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let hosts: Vec<&[u8]> =
            request.headers().get_all(HOST).iter().map(|host| host.as_bytes()).collect();
        let enough =
            hosts.len() == 1 || (hosts.is_empty() && request.version() == Version::HTTP_10);
        enough && hosts.into_iter().chain(target).all(|host| is_own(host, self.port))
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        // The time of the comparison shows only whether the length is right. The length is no secret.
        given.ct_eq(self.token.as_bytes()).into()
    }

    async fn credentials(&self, request: &Request<Incoming>) -> Answer {
        if !self.has_token(request.headers()) {
            return refusal(403, "AccessDenied", "the authorization token is wrong or missing");
        }
        let query = request.uri().query().unwrap_or_default();
        if let Some(time) = query.split('&').find_map(|part| part.strip_prefix(VALID_FOR)) {
            return self.credentials_valid_for(time).await;
        }
        let asked = tokio::time::timeout(LONGEST_ANSWER, self.session.provide_credentials()).await;
        match asked {
            Ok(Ok(set)) => of_set(&set),
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                refusal(503, "Unavailable", &cause.unwrap_or_else(|| error.to_string()))
            }
            Err(_) => refusal(503, "NotReady", "there is no set yet; ask again"),
        }
    }

    /// A set that is valid for `time`. Its client has asked for that and waits for it.
    async fn credentials_valid_for(&self, time: &str) -> Answer {
        let duration = match arguments::duration(time) {
            Ok(duration) => duration,
            Err(rule) => return refusal(400, "InvalidParameter", &format!("valid_for {rule}")),
        };
        // Each wait needs a thread. Those who come later find the set that the first ones waited for.
        let _slot = self.long_waits.acquire().await;
        match self.session.credentials_valid_for_async(duration).await {
            Ok(set) => of_set(set.credentials()),
            Err(error) if error.kind() == ErrorKind::TooShort => {
                refusal(400, "TooShort", &error.to_string())
            }
            Err(error) => refusal(503, "Unavailable", &error.to_string()),
        }
    }

    fn ready(&self) -> Answer {
        match self.session.status() {
            Ok(status) if !status.expires_in().is_zero() => Answer::new(200, TEXT, "ready\n"),
            _ => Answer::new(503, TEXT, "not ready: there is no valid set\n"),
        }
    }

    fn metrics(&self) -> Answer {
        let status = self.session.status().map_err(CommandError::from);
        let text = status.and_then(|status| metrics::text(&status, Some(&self.latency)));
        text.map_or_else(
            |_| Answer::new(500, TEXT, "the session cannot be read\n"),
            |text| Answer::new(200, metrics::CONTENT_TYPE, text),
        )
    }
}
