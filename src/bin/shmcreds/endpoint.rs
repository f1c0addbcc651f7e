//! The endpoint on all addresses that the program has, with its metrics.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, mpsc::Sender},
    thread,
    time::Instant,
};

use hyper::{Request, body::Incoming};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use shmcreds::{
    SharedSession,
    endpoint::{
        http::{self, Answer, Plain, TEXT},
        random,
        service::{Clients, Service, Shared},
    },
};

use crate::{
    command_error::{CommandError, Doing},
    kept::Sets,
    listeners, metrics,
    role_book::RoleBook,
    role_service::{RoleService, RoleShared},
    same_user::SameUser,
    session::{self, Event},
    tls::{Certificate, Tls},
    unix_socket::{Rules, SocketFile, UnixSocket},
};

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

    /// An endpoint on a socket of 127.0.0.1 that is bound already.
    pub(crate) fn of(listener: TcpListener, token: String) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let plain = vec![(listener, address)];
        Ok(Endpoint { plain, tls: Vec::new(), certificate: None, unix: None, token })
    }

    /// Binds the addresses, after all of them were checked, and makes a random token. The process must have one thread.
    pub(crate) fn bind(addresses: Addresses) -> Result<Self, CommandError> {
        addresses.plain.iter().try_for_each(|address| listeners::check_plain(*address))?;
        addresses.tls.iter().try_for_each(|address| listeners::check_tls(*address))?;
        let bind = |address: &SocketAddr| {
            let listener = listeners::bind(*address)?;
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
            token: random::token().doing("drawing a token (getrandom)")?,
        })
    }

    /// The URL of `path` on the first address.
    pub(crate) fn url(&self, path: &str) -> String {
        self.urls(path).next().unwrap_or_default()
    }

    /// The URLs of `path` on all addresses, and the path of the Unix socket.
    pub(crate) fn urls(&self, path: &str) -> impl Iterator<Item = String> {
        let plain = self.plain.iter().map(move |(_, address)| format!("http://{address}{path}"));
        let tls = self.tls.iter().map(move |(_, address)| format!("https://{address}{path}"));
        let unix = self.unix.iter().map(|socket| format!("unix:{}", socket.path().display()));
        plain.chain(tls).chain(unix)
    }

    /// Serves a session in a new thread until the process ends. The thread also fetches the first set. Dropping what this
    /// gives removes the Unix socket.
    pub(crate) fn serve(
        self,
        session: SharedSession,
        events: Sender<Event>,
    ) -> io::Result<Option<SocketFile>> {
        let shared = Shared::new(session.clone(), self.token.clone());
        let latency = latency();
        let service = move |clients| Measured {
            service: Service::new(Arc::clone(&shared), clients),
            shared: Arc::clone(&shared),
            latency: latency.clone(),
        };
        self.serve_by(service, None, Some(Sets::Session(session)), events)
    }

    /// Serves the roles of a pool in the same way. `same_user` is another way to ask, for programs of this user.
    pub(crate) fn serve_roles(
        self,
        book: Arc<RoleBook>,
        same_user: Option<SameUser>,
        first: Option<Sets>,
        events: Sender<Event>,
    ) -> io::Result<Option<SocketFile>> {
        let roles = RoleShared::new(book, latency());
        let for_user = same_user.map(|socket| (socket, RoleService::for_user(&roles)));
        let service = move |clients| RoleService::new(&roles, clients);
        self.serve_by(service, for_user, first, events)
    }

    fn serve_by<S: http::Service>(
        self,
        service: impl Fn(Clients) -> S,
        for_user: Option<(SameUser, S)>,
        first: Option<Sets>,
        events: Sender<Event>,
    ) -> io::Result<Option<SocketFile>> {
        let parts = self.plain.len() + self.tls.len() + self.unix.iter().len();
        let parts = parts + for_user.iter().len();
        let connections = (http::allow_connections() / parts.max(1)).max(1);
        let runtime = http::runtime()?;
        let hosts: Vec<SocketAddr> = self.plain.iter().map(|(_, address)| *address).collect();
        let service = |clients| Arc::new(service(clients));
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
        if let Some((socket, service)) = for_user {
            let peers = socket.listen()?;
            servers.push(Box::pin(http::serve(peers, connections, Arc::new(service))));
        }
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
            session::fetch_first(first.as_ref(), &events).await;
            std::future::pending::<()>().await
        };
        let thread = thread::Builder::new().name("endpoint".into());
        thread.spawn(move || runtime.block_on(serve)).map(drop)?;
        Ok(file)
    }
}

fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 4.0, 8))
}

/// The service on one address, with metrics.
struct Measured {
    service: Service,
    shared: Arc<Shared>,
    latency: Histogram,
}

impl http::Service for Measured {
    fn is_authenticated(&self, request: &Request<Incoming>) -> bool {
        self.service.is_authenticated(request)
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let began = Instant::now();
        let answer = match request.uri().path() == "/metrics" {
            true => self.service.refuse(request).unwrap_or_else(|| self.metrics()),
            false => self.service.answer(request).await,
        };
        self.latency.observe(began.elapsed().as_secs_f64());
        answer
    }
}

impl Measured {
    fn metrics(&self) -> Answer {
        let status = self.shared.session().status().map_err(CommandError::from);
        let text = status.and_then(|status| metrics::text(&status, Some(&self.latency)));
        text.map_or_else(
            |_| Answer::new(500, TEXT, "the session cannot be read\n"),
            |text| Answer::new(200, metrics::CONTENT_TYPE, text),
        )
    }
}
