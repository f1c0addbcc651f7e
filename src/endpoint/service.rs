//! What the endpoint answers: the newest set, in the format of the container endpoint.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aws_credential_types::{Credentials, provider::ProvideCredentials};
use hyper::{
    HeaderMap, Method, Request, Version,
    body::Incoming,
    header::{AUTHORIZATION, HOST},
};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::{
    answers,
    http::{self, Answer, JSON, TEXT},
};
use crate::{
    error::{Error, ErrorKind},
    roles::RoleSession,
    session::{SetSnapshot, SharedSession},
};

/// The path of the credentials.
pub const PATH: &str = "/credentials";
/// The parameter of a client that needs a set for some time.
const VALID_FOR: &str = "valid_for=";
/// How many such clients wait for a set at a time. The others wait for them.
pub const LONG_WAITS: usize = 16;
/// How long a client waits for an answer at most: SDKs give up after a second.
pub const ANSWER_TIME_LIMIT: Duration = Duration::from_millis(800);

/// What all addresses of an endpoint have.
pub struct Shared {
    session: SharedSession,
    token: String,
    long_waits: Semaphore,
}

impl Shared {
    /// The session whose sets are handed out, and the token that clients must show.
    pub fn new(session: SharedSession, token: String) -> Arc<Self> {
        Arc::new(Shared { session, token, long_waits: Semaphore::new(LONG_WAITS) })
    }

    /// The session.
    pub fn session(&self) -> &SharedSession {
        &self.session
    }
}

/// Who can connect to an address.
pub enum Clients {
    /// Processes of this host, web browsers among them. A request must name one of these addresses.
    Local(Vec<SocketAddr>),
    /// Other hosts, over HTTPS: they have checked the name of the certificate.
    Network,
    /// Users who may ask without the token.
    Users,
}

impl Clients {
    /// Refuses requests that come from another host, through a proxy, or from a web page.
    pub fn refuse(&self, request: &Request<Incoming>) -> Option<Answer> {
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
        let Clients::Local(own) = self else { return true };
        let enough =
            hosts.len() == 1 || (hosts.is_empty() && request.version() == Version::HTTP_10);
        let is_own = |host| own.iter().any(|address| is_own(host, *address));
        enough && hosts.into_iter().chain(target).all(is_own)
    }
}

/// The service on one address.
pub struct Service {
    shared: Arc<Shared>,
    clients: Clients,
}

fn of_set(set: &Credentials) -> Answer {
    match answers::set(set, "Token") {
        Some(body) => Answer::new(200, JSON, body.to_string()),
        None => refusal(503, "Unavailable", "the set cannot be encoded"),
    }
}

/// A refusal.
pub fn refusal(status: u16, code: &str, message: &str) -> Answer {
    Answer::new(status, JSON, answers::refusal(code, message))
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
            && self.clients.refuse(request).is_none()
            && self.has_token(request.headers())
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        match self.clients.refuse(request) {
            Some(refusal) => refusal,
            None => match request.uri().path() {
                "/live" => Answer::new(200, TEXT, "live\n"),
                "/ready" => self.ready(),
                PATH => self.credentials(request).await,
                _ => refusal(404, "NotFound", "no such path"),
            },
        }
    }
}

impl Service {
    /// A service for these clients.
    pub fn new(shared: Arc<Shared>, clients: Clients) -> Self {
        Service { shared, clients }
    }

    /// As [`Clients::refuse`].
    pub fn refuse(&self, request: &Request<Incoming>) -> Option<Answer> {
        self.clients.refuse(request)
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let given = token(headers);
        // The time of the comparison shows only whether the length is right. The length is no secret.
        given.ct_eq(self.shared.token.as_bytes()).into()
    }

    async fn credentials(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(self.clients, Clients::Users) && !self.has_token(request.headers()) {
            return refusal(403, "AccessDenied", "the authorization token is wrong or missing");
        }
        let Shared { session, long_waits, .. } = &*self.shared;
        of(session, request, &[long_waits], ANSWER_TIME_LIMIT).await
    }

    fn ready(&self) -> Answer {
        match self.shared.session.status() {
            Ok(status) if !status.expires_in().is_zero() => Answer::new(200, TEXT, "ready\n"),
            _ => Answer::new(503, TEXT, "not ready: there is no valid set\n"),
        }
    }
}

/// What the client has given as its token.
pub fn token(headers: &HeaderMap) -> &[u8] {
    headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes())
}

/// What gives sets: a session, or a role of a pool.
pub trait Sets: ProvideCredentials {
    /// The newest set.
    fn newest(&self) -> Option<SetSnapshot>;

    /// The newest set with its expiry by the wall clock of now, which clients compare it with. `set` has just been given; it
    /// stays where there is no valid newest one, as for a role that has left its pool.
    fn dated(&self, set: Credentials) -> Credentials {
        self.newest().filter(SetSnapshot::is_valid).map_or(set, |newest| newest.dated())
    }

    /// A set that is valid for so long.
    fn valid_for(
        &self,
        duration: Duration,
    ) -> impl Future<Output = Result<SetSnapshot, Error>> + Send;
}

impl Sets for SharedSession {
    fn newest(&self) -> Option<SetSnapshot> {
        self.snapshot().ok().flatten()
    }

    fn valid_for(
        &self,
        duration: Duration,
    ) -> impl Future<Output = Result<SetSnapshot, Error>> + Send {
        self.credentials_valid_for_async(duration)
    }
}

impl Sets for RoleSession {
    fn newest(&self) -> Option<SetSnapshot> {
        self.snapshot().ok().flatten()
    }

    fn valid_for(
        &self,
        duration: Duration,
    ) -> impl Future<Output = Result<SetSnapshot, Error>> + Send {
        self.credentials_valid_for_async(duration)
    }
}

/// The newest set within `limit`; or one that is valid for as long as the request says. Such a request takes a permit of
/// each of `long_waits`, one after the other.
pub async fn of(
    sets: &impl Sets,
    request: &Request<Incoming>,
    long_waits: &[&Semaphore],
    limit: Duration,
) -> Answer {
    let query = request.uri().query().unwrap_or_default();
    if let Some(time) = query.split('&').find_map(|part| part.strip_prefix(VALID_FOR)) {
        return valid_for(sets, time, long_waits).await;
    }
    match tokio::time::timeout(limit, sets.provide_credentials()).await {
        Ok(Ok(set)) => of_set(&sets.dated(set)),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            refusal(503, "Unavailable", &cause.unwrap_or_else(|| error.to_string()))
        }
        Err(_) => refusal(503, "NotReady", "there is no set yet; ask again"),
    }
}

/// A set that is valid for `time`. Its client has asked for that and waits for it.
async fn valid_for(sets: &impl Sets, time: &str, long_waits: &[&Semaphore]) -> Answer {
    let duration = match duration(time) {
        Ok(duration) => duration,
        Err(rule) => return refusal(400, "InvalidParameter", &format!("valid_for {rule}")),
    };
    // Each wait needs a thread. Those who come later find the set that the first ones waited for.
    let mut permits = Vec::with_capacity(long_waits.len());
    for waits in long_waits {
        permits.push(waits.acquire().await);
    }
    match sets.valid_for(duration).await {
        Ok(set) => of_set(&set.dated()),
        Err(error) if error.kind() == ErrorKind::TooShort => {
            refusal(400, "TooShort", &error.to_string())
        }
        Err(error) => refusal(503, "Unavailable", &error.to_string()),
    }
}

/// A time such as `90m`, or a number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map(Duration::from_secs);
    let given = seconds.or_else(|_| humantime::parse_duration(text));
    given.map_err(|_| "must be a time such as 90m or 2h, or a number of seconds".into())
}
