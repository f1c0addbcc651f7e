//! The endpoint: credentials over HTTP on the loopback, as containers get them.

use std::{
    fmt::Write,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, mpsc::Sender},
    thread,
    time::{Duration, Instant},
};

use aws_credential_types::provider::ProvideCredentials;
use hyper::{
    HeaderMap, Method, Request,
    body::Incoming,
    header::{AUTHORIZATION, HOST},
};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use shmcreds::SharedSession;
use subtle::ConstantTimeEq;

use crate::{
    failure::{Failure, USAGE},
    http::{self, Answer, JSON, TEXT},
    metrics, protocol,
    session::{self, Event},
};

/// Where the credentials are.
const PATH: &str = "/credentials";
/// Clients give up after a second.
const LONGEST_ANSWER: Duration = Duration::from_millis(800);

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
        let listener = http::bind(address)?;
        let address = listener.local_addr()?;
        Ok(Endpoint { listener, address, token: draw_token()? })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Serves in a thread of its own, which fetches the first set, too, as long as the process lives.
    pub(crate) fn serve(self, session: SharedSession, events: Sender<Event>) -> io::Result<()> {
        let connections = http::allow_connections();
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
            let serve = http::serve(self.listener, connections, Arc::clone(&service));
            if let ((), Err(error)) = tokio::join!(first, serve) {
                let _ = events.send(Event::Endpoint(error));
            }
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

struct Service {
    session: SharedSession,
    token: String,
    host: String,
    port: u16,
    latency: Histogram,
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    Answer::new(status, JSON, protocol::refusal(code, message))
}

impl http::Service for Service {
    const STAYS_HERE: bool = true;

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let began = Instant::now();
        let answer = match self.refuse(request) {
            Some(refusal) => refusal,
            None => match request.uri().path() {
                "/live" => Answer::new(200, TEXT, "live\n"),
                "/ready" => self.ready(),
                "/metrics" => self.metrics(),
                PATH => self.credentials(request.headers()).await,
                _ => refusal(404, "NotFound", "no such path"),
            },
        };
        self.latency.observe(began.elapsed().as_secs_f64());
        answer
    }
}

impl Service {
    /// A request that came by way of another host, or of a web page, is nobody's who may ask.
    fn refuse(&self, request: &Request<Incoming>) -> Option<Answer> {
        let headers = request.headers();
        if ["x-forwarded-for", "forwarded"].iter().any(|name| headers.contains_key(*name)) {
            return Some(refusal(400, "Forwarded", "forwarded requests are refused"));
        }
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
        if host != self.host && host != format!("localhost:{}", self.port) {
            return Some(refusal(400, "WrongHost", "the Host header names another host"));
        }
        if request.method() != Method::GET {
            return Some(refusal(405, "MethodNotAllowed", "must be GET"));
        }
        None
    }

    async fn credentials(&self, headers: &HeaderMap) -> Answer {
        let given = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
        // The time tells whether the length is right, which everybody may know, and nothing else.
        if !bool::from(given.ct_eq(self.token.as_bytes())) {
            return refusal(403, "AccessDenied", "the authorization token is wrong or missing");
        }
        let asked = tokio::time::timeout(LONGEST_ANSWER, self.session.provide_credentials()).await;
        match asked {
            Ok(Ok(set)) => protocol::endpoint_answer(&set).map_or_else(
                |_| refusal(503, "Unavailable", "the set cannot be written"),
                |body| Answer::new(200, JSON, body),
            ),
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                refusal(503, "Unavailable", &cause.unwrap_or_else(|| error.to_string()))
            }
            Err(_) => refusal(503, "NotReady", "there is no set yet; ask again"),
        }
    }

    fn ready(&self) -> Answer {
        match self.session.status() {
            Ok(status) if !status.expires_in().is_zero() => Answer::new(200, TEXT, "ready\n"),
            _ => Answer::new(503, TEXT, "not ready: there is no valid set\n"),
        }
    }

    fn metrics(&self) -> Answer {
        let status = self.session.status().map_err(Failure::from);
        let text = status.and_then(|status| metrics::text(&status, Some(&self.latency)));
        text.map_or_else(
            |_| Answer::new(500, TEXT, "the session cannot be read\n"),
            |text| Answer::new(200, metrics::CONTENT_TYPE, text),
        )
    }
}
