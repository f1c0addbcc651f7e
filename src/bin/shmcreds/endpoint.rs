//! The endpoint: credentials over HTTP, in the format of the container endpoint.

use std::{
    fmt::Write,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    pin::Pin,
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
    command_error::{CommandError, Doing},
    credentials_json,
    http::{self, Answer, JSON, TEXT},
    listeners::{self, Plain},
    metrics,
    session::{self, Event},
    tls::{Certificate, Tls},
    unix_socket::{Rules, SocketFile, UnixSocket},
};

/// The path of the credentials.
const PATH: &str = "/credentials";
/// The parameter of a client that needs a set for some time.
const VALID_FOR: &str = "valid_for=";
/// How many such clients wait for a set at a time. The others wait for them.
const LONG_WAITS: usize = 16;
/// SDKs give up after a second.
const LONGEST_ANSWER: Duration = Duration::from_millis(800);

/// The addresses of an endpoint.
#[derive(Default)]
pub(crate) struct Addresses {
    pub(crate) plain: Vec<SocketAddr>,
    pub(crate) tls: Vec<SocketAddr>,
    /// For the addresses in `tls`.
    pub(crate) certificate: Option<Arc<Certificate>>,
    pub(crate) unix: Option<(PathBuf, Rules)>,
}

/// A bound endpoint.
pub(crate) struct Endpoint {
    plain: Vec<(TcpListener, SocketAddr)>,
    tls: Vec<(TcpListener, SocketAddr)>,
    certificate: Option<Arc<Certificate>>,
    unix: Option<UnixSocket>,
    pub(crate) token: String,
}

impl Endpoint {
    /// Binds a free port of 127.0.0.1, and makes a random token.
    pub(crate) fn on_loopback() -> Result<Self, CommandError> {
        let plain = vec![([127, 0, 0, 1], 0).into()];
        Endpoint::bind(Addresses { plain, ..Addresses::default() })
    }

    /// Binds the addresses, after all of them were checked, and makes a random token. The process must have one thread.
    pub(crate) fn bind(addresses: Addresses) -> Result<Self, CommandError> {
        addresses.plain.iter().try_for_each(|address| listeners::check_plain(*address))?;
        addresses.tls.iter().try_for_each(|address| listeners::check_tls(*address))?;
        let bind = |address: &SocketAddr| {
            let listener = http::bind(*address).doing("listening")?;
            let bound = listener.local_addr().doing("listening")?;
            Ok((listener, bound))
        };
        let bind_all = |addresses: &[SocketAddr]| -> Result<Vec<_>, CommandError> {
            addresses.iter().map(bind).collect()
        };
        Ok(Endpoint {
            plain: bind_all(&addresses.plain)?,
            tls: bind_all(&addresses.tls)?,
            certificate: addresses.certificate,
            unix: addresses.unix.map(|(path, rules)| UnixSocket::bind(&path, rules)).transpose()?,
            token: random_token().doing("drawing a token (getrandom)")?,
        })
    }

    /// The URL of the credentials on the first address.
    pub(crate) fn url(&self) -> String {
        self.urls().next().unwrap_or_default()
    }

    /// The URLs of the credentials on all addresses, and the path of the Unix socket.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> {
        let plain = self.plain.iter().map(|(_, address)| format!("http://{address}{PATH}"));
        let tls = self.tls.iter().map(|(_, address)| format!("https://{address}{PATH}"));
        let unix = self.unix.iter().map(|socket| format!("unix:{}", socket.path().display()));
        plain.chain(tls).chain(unix)
    }

    /// Serves in a new thread until the process ends. The thread also fetches the first set. Dropping what this gives
    /// removes the Unix socket.
    pub(crate) fn serve(
        self,
        session: SharedSession,
        events: Sender<Event>,
    ) -> io::Result<Option<SocketFile>> {
        let parts = self.plain.len() + self.tls.len() + self.unix.iter().len();
        let connections = (http::allow_connections() / parts.max(1)).max(1);
        let runtime = http::runtime()?;
        let shared = Arc::new(Shared {
            session,
            token: self.token,
            long_waits: Semaphore::new(LONG_WAITS),
            latency: Histogram::new(exponential_buckets(0.000_01, 4.0, 8)),
        });
        let hosts: Vec<SocketAddr> = self.plain.iter().map(|(_, address)| *address).collect();
        let service = |clients| Arc::new(Service { shared: Arc::clone(&shared), clients });
        let mut servers: Vec<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>> = Vec::new();
        let entered = runtime.enter();
        for (listener, _) in self.plain {
            let listener = Plain::new(listener, true)?;
            let service = service(Clients::Local(hosts.clone()));
            servers.push(Box::pin(http::serve(listener, connections, service)));
        }
        for ((listener, _), certificate) in
            self.tls.into_iter().zip(self.certificate.iter().cycle())
        {
            let listener = Tls::new(listener, Arc::clone(certificate))?;
            servers.push(Box::pin(http::serve(listener, connections, service(Clients::Network))));
        }
        let socket = self.unix.map(UnixSocket::listen).transpose()?;
        let file = socket.map(|(file, peers)| {
            servers.push(Box::pin(http::serve(peers, connections, service(Clients::Users))));
            file
        });
        drop(entered);
        let serve = async move {
            for server in servers {
                let events = events.clone();
                tokio::spawn(async move {
                    if let Err(error) = server.await {
                        let _ = events.send(Event::Endpoint(error));
                    }
                });
            }
            session::fetch_first(&shared.session, &events).await;
            std::future::pending::<()>().await
        };
        let thread = thread::Builder::new().name("endpoint".into());
        thread.spawn(move || runtime.block_on(serve)).map(drop)?;
        Ok(file)
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

/// What all addresses have.
struct Shared {
    session: SharedSession,
    token: String,
    long_waits: Semaphore,
    latency: Histogram,
}

/// Who can connect to an address.
enum Clients {
    /// Processes of this host, web browsers among them. A request must name one of these addresses.
    Local(Vec<SocketAddr>),
    /// Other hosts, over HTTPS: they have checked the name of the certificate.
    Network,
    /// Users who may ask without the token.
    Users,
}

/// The service on one address.
struct Service {
    shared: Arc<Shared>,
    clients: Clients,
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

/// Whether `host` names the address `own`. Some clients leave out the port although it is not 80.
fn is_own(host: &[u8], own: SocketAddr) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let (name, given) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, rest)) => (name, rest.strip_prefix(':').unwrap_or(rest)),
        None => host.split_once(':').unwrap_or((host, "")),
    };
    let is_port = given.is_empty() || given.parse() == Ok(own.port());
    let is_local = own.ip().is_loopback() && name.eq_ignore_ascii_case("localhost");
    is_port && (is_local || name.parse::<IpAddr>() == Ok(own.ip()))
}

impl http::Service for Service {
    fn is_authenticated(&self, request: &Request<Incoming>) -> bool {
        // A connection of a user gets one answer: the next one may come from another user.
        !matches!(self.clients, Clients::Users)
            && self.refuse(request).is_none()
            && self.has_token(request.headers())
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
        self.shared.latency.observe(began.elapsed().as_secs_f64());
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
        let Clients::Local(own) = &self.clients else { return true };
        let enough =
            hosts.len() == 1 || (hosts.is_empty() && request.version() == Version::HTTP_10);
        let is_own = |host| own.iter().any(|address| is_own(host, *address));
        enough && hosts.into_iter().chain(target).all(is_own)
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        // The time of the comparison shows only whether the length is right. The length is no secret.
        given.ct_eq(self.shared.token.as_bytes()).into()
    }

    async fn credentials(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(self.clients, Clients::Users) && !self.has_token(request.headers()) {
            return refusal(403, "AccessDenied", "the authorization token is wrong or missing");
        }
        let query = request.uri().query().unwrap_or_default();
        if let Some(time) = query.split('&').find_map(|part| part.strip_prefix(VALID_FOR)) {
            return self.credentials_valid_for(time).await;
        }
        let asked =
            tokio::time::timeout(LONGEST_ANSWER, self.shared.session.provide_credentials()).await;
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
        let _slot = self.shared.long_waits.acquire().await;
        match self.shared.session.credentials_valid_for_async(duration).await {
            Ok(set) => of_set(set.credentials()),
            Err(error) if error.kind() == ErrorKind::TooShort => {
                refusal(400, "TooShort", &error.to_string())
            }
            Err(error) => refusal(503, "Unavailable", &error.to_string()),
        }
    }

    fn ready(&self) -> Answer {
        match self.shared.session.status() {
            Ok(status) if !status.expires_in().is_zero() => Answer::new(200, TEXT, "ready\n"),
            _ => Answer::new(503, TEXT, "not ready: there is no valid set\n"),
        }
    }

    fn metrics(&self) -> Answer {
        let status = self.shared.session.status().map_err(CommandError::from);
        let text = status.and_then(|status| metrics::text(&status, Some(&self.shared.latency)));
        text.map_or_else(
            |_| Answer::new(500, TEXT, "the session cannot be read\n"),
            |text| Answer::new(200, metrics::CONTENT_TYPE, text),
        )
    }
}
