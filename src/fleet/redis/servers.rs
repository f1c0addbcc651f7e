//! The servers of a URL, one after the other, until one can be used.

use std::{sync::Arc, time::Duration, vec};

use redis::{RedisConnectionInfo, RedisError, Value, cmd};
use rustls::ClientConfig;
use tokio::{task::JoinSet, time::timeout};

use super::{
    connection::{Connection, told},
    place::{Address, Place},
};
use crate::fleet::store::StoreError;

/// A server that has not answered after this time does not keep the next one waiting.
const HEAD_START: Duration = Duration::from_millis(10);

/// How to talk to the servers.
#[derive(Clone)]
pub(super) struct Access {
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) login: RedisConnectionInfo,
    pub(super) sentinel_login: RedisConnectionInfo,
}

impl Access {
    pub(super) async fn connect(&self, address: &Address) -> Result<Connection, StoreError> {
        Connection::new(address, self.tls.clone(), &self.login).await
    }

    /// Asks a Sentinel where the primary is. That it is one shows in its answer: a replica refuses to write.
    async fn primary(&self, sentinel: &Address, service: &str) -> Result<Address, StoreError> {
        let connected = Connection::new(sentinel, self.tls.clone(), &self.sentinel_login).await;
        let mut question = cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(service);
        let answer: Result<Value, RedisError> = question.query_async(&mut connected?.redis).await;
        let wrong = || StoreError::wrong(format!("{sentinel} gave no address of a primary"));
        match answer.map_err(|error| told(&error))? {
            Value::Nil => Err(StoreError::wrong(format!(
                "the Sentinel {sentinel} knows no service {service:?}"
            ))),
            Value::Array(parts) => match &parts[..] {
                [Value::BulkString(host), Value::BulkString(port)] => {
                    let text = |part| std::str::from_utf8(part).ok();
                    let host = text(host).filter(|host| !host.is_empty()).ok_or_else(wrong)?;
                    let port = text(port).and_then(|port| port.parse().ok()).ok_or_else(wrong)?;
                    Ok(Address::Tcp { host: host.to_owned(), port })
                }
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

/// Connections to the servers of a place, in the order in which they are made.
pub(super) struct Servers {
    access: Access,
    service: Option<Arc<str>>,
    left: vec::IntoIter<Address>,
    connecting: JoinSet<Result<Connection, StoreError>>,
}

impl Servers {
    pub(super) fn new(place: Place, access: Access) -> Self {
        Servers {
            access,
            service: place.service.map(Arc::from),
            left: place.addresses.into_iter(),
            connecting: JoinSet::new(),
        }
    }

    /// The next connection, or why there is none to a server. `None` after the last server.
    pub(super) async fn next(&mut self) -> Option<Result<Connection, StoreError>> {
        loop {
            if self.connecting.is_empty() && !self.start() {
                return None;
            }
            let next = self.connecting.join_next();
            let outcome = match self.left.len() {
                0 => next.await,
                _ => match timeout(HEAD_START, next).await {
                    Ok(outcome) => outcome,
                    Err(_) => {
                        self.start();
                        continue;
                    }
                },
            };
            return outcome.map(|ended| {
                ended.unwrap_or_else(|_| Err(StoreError::unreachable("the connection broke off")))
            });
        }
    }

    /// Begins with the next server.
    fn start(&mut self) -> bool {
        let Some(address) = self.left.next() else { return false };
        let (access, service) = (self.access.clone(), self.service.clone());
        self.connecting.spawn(async move {
            let address = match service {
                Some(service) => access.primary(&address, &service).await?,
                None => address,
            };
            access.connect(&address).await
        });
        true
    }
}

/// Whether the server could not carry out the command, and another one can: it is a replica, or has not its data yet.
/// A script of Redis 6 puts the error of its command into a text.
pub(super) fn is_for_another(error: &RedisError) -> bool {
    use redis::{ErrorKind::Server, ServerErrorKind as Kind};
    let text = error.detail().unwrap_or_default();
    matches!(
        error.kind(),
        Server(Kind::ReadOnly | Kind::MasterDown | Kind::BusyLoading | Kind::ClusterDown)
    ) || text.contains("-READONLY ")
}
