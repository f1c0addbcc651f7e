//! The endpoint of a pool: each role at a path of its own, with its token.

use std::{sync::Arc, time::Duration, time::Instant};

use hyper::{Request, body::Incoming};
use prometheus_client::metrics::histogram::Histogram;
use shmcreds::endpoint::{
    http::{self, Answer, JSON, TEXT},
    service::{self, ANSWER_TIME_LIMIT, Clients, LONG_WAITS},
};
use tokio::sync::Semaphore;

use crate::{
    command_error::CommandError,
    metrics,
    role_book::RoleBook,
    role_grant::{Proof, Refusal},
    roles_metrics,
};

/// The names of the roles with their keys, for programs of this user.
pub(crate) const LIST: &str = "/v1/roles";

/// What all addresses have.
pub(crate) struct RoleShared {
    book: Arc<RoleBook>,
    long_waits: Semaphore,
    latency: Histogram,
}

impl RoleShared {
    pub(crate) fn new(book: Arc<RoleBook>, latency: Histogram) -> Arc<Self> {
        Arc::new(RoleShared { book, long_waits: Semaphore::new(LONG_WAITS), latency })
    }
}

/// The service on one address.
pub(crate) struct RoleService {
    shared: Arc<RoleShared>,
    clients: Clients,
    /// Whether only processes of this user can connect. They may read the whole pool, and need no token. Other users of a
    /// Unix socket need the token of the role.
    for_user: bool,
}

impl http::Service for RoleService {
    fn is_authenticated(&self, request: &Request<Incoming>) -> bool {
        // A connection of a user gets one answer: the next one may come from another user.
        !matches!(self.clients, Clients::Users)
            && self.clients.refuse(request).is_none()
            && self.shared.book.permit(request.uri().path(), self.proof(request)).is_ok()
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        let began = Instant::now();
        let answer = match self.clients.refuse(request) {
            Some(refusal) => refusal,
            None => match request.uri().path() {
                "/live" => Answer::new(200, TEXT, "live\n"),
                "/ready" => self.ready(),
                "/metrics" => self.metrics(),
                LIST if self.for_user => Answer::new(200, JSON, self.shared.book.keys()),
                _ => self.credentials(request).await.unwrap_or_else(Answer::from),
            },
        };
        self.shared.latency.observe(began.elapsed().as_secs_f64());
        answer
    }
}

impl RoleService {
    pub(crate) fn new(shared: &Arc<RoleShared>, clients: Clients) -> Self {
        RoleService { shared: Arc::clone(shared), clients, for_user: false }
    }

    /// The service for programs of this user.
    pub(crate) fn for_user(shared: &Arc<RoleShared>) -> Self {
        RoleService { for_user: true, ..RoleService::new(shared, Clients::Users) }
    }

    fn proof<'a>(&self, request: &'a Request<Incoming>) -> Proof<'a> {
        match self.for_user {
            true => Proof::User,
            false => Proof::Token(service::token(request.headers())),
        }
    }

    async fn credentials(&self, request: &Request<Incoming>) -> Result<Answer, Refusal> {
        let RoleShared { book, long_waits, .. } = &*self.shared;
        let (path, proof) = (request.uri().path(), self.proof(request));
        let grant = book.permit(path, proof).inspect_err(|why| why.log(path))?;
        let role = book.session(&grant).await?;
        // For programs of this user, the settings of the pool are the limit.
        let limit = if self.for_user { Duration::MAX } else { ANSWER_TIME_LIMIT };
        let answer = service::of(&role, request, &[grant.long_waits(), long_waits], limit).await;
        // The role may have been removed, or changed, while its set was waited for.
        match book.permit(path, proof)?.is_same(&grant) {
            true => Ok(answer),
            false => Err(Refusal::new(503, "NotReady", "the role has changed; ask again")),
        }
    }

    /// A set is fetched when it is asked for, so no set has to be there.
    fn ready(&self) -> Answer {
        match self.shared.book.roles.status() {
            Ok(_) => Answer::new(200, TEXT, "ready\n"),
            Err(_) => Answer::new(503, TEXT, "not ready: the pool cannot be read\n"),
        }
    }

    fn metrics(&self) -> Answer {
        let RoleShared { book, latency, .. } = &*self.shared;
        let status = book.roles.status().map_err(CommandError::from);
        let text = status.and_then(|status| roles_metrics::text(&status, Some(latency)));
        text.map_or_else(
            |_| Answer::new(500, TEXT, "the pool cannot be read\n"),
            |text| Answer::new(200, metrics::CONTENT_TYPE, text),
        )
    }
}

impl From<Refusal> for Answer {
    fn from(why: Refusal) -> Self {
        service::refusal(why.status, why.code, &why.message)
    }
}
