//! Valkey or Redis as the store: one script for each verb, so each is atomic. A connection lasts for one verb.

mod answer;
mod connection;
mod place;
mod servers;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use redis::{Cmd, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind, Value};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use self::{
    connection::{Connection, told},
    place::Place,
    servers::{Access, Servers},
};
use super::{
    secret_file,
    store::{
        Acquired, Budget, Claim, FleetStore, Lead, Permit, Publication, StoreError, StoredSet,
        Storing,
    },
};

const PERMIT: &str = include_str!("scripts/permit.lua");
const ACQUIRE: &str = include_str!("scripts/acquire.lua");
const PUBLISH: &str = include_str!("scripts/publish.lua");
const FAIL: &str = include_str!("scripts/fail.lua");

/// How often one node of a cluster may name another one.
const MOST_REDIRECTIONS: usize = 2;

/// Servers of Valkey or Redis. It holds a password.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct RedisStore {
    pub(super) url: String,
    pub(super) password_file: Option<PathBuf>,
    pub(super) sentinel_password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

impl RedisStore {
    pub(super) fn at(url: String) -> Self {
        RedisStore { url, password_file: None, sentinel_password_file: None, ca_file: None }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// A sentence with the setting, the problem of its value, and the rule. It does not show the URL: it may have a
    /// password.
    pub(super) fn validate(&self) -> Result<(), String> {
        let place = Place::parse(&self.url).map_err(|problem| format!("fleet: {problem}"))?;
        if self.ca_file.is_some() && !place.is_tls {
            return Err(
                "fleet: a CA file is given, but the URL is without TLS; use rediss://".into()
            );
        }
        if self.sentinel_password_file.is_some() && place.service.is_none() {
            return Err(
                "fleet: a password of the Sentinels is given, but the URL names none; use redis+sentinel://".into(),
            );
        }
        for file in [&self.password_file, &self.sentinel_password_file].into_iter().flatten() {
            password(file).map_err(|error| format!("fleet: {error}"))?;
        }
        Ok(())
    }

    /// Runs a script on the key, at the first server that can.
    async fn run(
        &self,
        script: &str,
        key: String,
        arguments: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let place = Place::parse(&self.url).map_err(StoreError::unreachable)?;
        let access = self.access(&place)?;
        let mut command = Cmd::new();
        command.arg("EVAL").arg(script).arg(1).arg(key);
        for argument in arguments {
            command.arg(*argument);
        }
        let mut servers = Servers::new(place, access.clone());
        let mut failure = StoreError::unreachable("there is no server");
        while let Some(connected) = servers.next().await {
            match connected {
                Err(error) => failure = error,
                Ok(connection) => match ask(connection, &command, &access).await? {
                    Err(error) if servers::is_for_another(&error) => failure = told(&error),
                    answer => return answer.map_err(|error| told(&error)),
                },
            }
        }
        Err(failure)
    }

    fn access(&self, place: &Place) -> Result<Access, StoreError> {
        let with = |login: RedisConnectionInfo, file: &Option<PathBuf>| match file {
            Some(file) => Ok(login.set_password(password(file)?.as_str())),
            None => Ok(login),
        };
        let ca = self.ca_file.as_deref();
        Ok(Access {
            tls: place.is_tls.then(|| connection::tls(ca)).transpose()?,
            login: with(place.login.clone(), &self.password_file)?,
            sentinel_login: with(RedisConnectionInfo::default(), &self.sentinel_password_file)?,
        })
    }
}

/// The answer of the server, or of the node of its cluster that has the key: that is named by the first node, or by the
/// one that it names, while keys move.
async fn ask(
    mut connection: Connection,
    command: &Cmd,
    access: &Access,
) -> Result<Result<Value, RedisError>, StoreError> {
    let mut answer: Result<Value, RedisError> = command.query_async(&mut connection.redis).await;
    for _ in 0..MOST_REDIRECTIONS {
        let Err(error) = &answer else { break };
        let named = error.redirect_node().and_then(|(node, _)| connection.address.moved(node));
        let Some(node) = named else { break };
        connection = access.connect(&node).await?;
        // A node takes a command for keys that are on their way to it only after this one.
        if error.kind() == ErrorKind::Server(ServerErrorKind::Ask) {
            let begun: Result<Value, RedisError> =
                redis::cmd("ASKING").query_async(&mut connection.redis).await;
            begun.map_err(|error| told(&error))?;
        }
        answer = command.query_async(&mut connection.redis).await;
    }
    Ok(answer)
}

/// The password in a file.
fn password(file: &Path) -> Result<Zeroizing<String>, StoreError> {
    let text = secret_file::read(file).map_err(|problem| {
        StoreError::unreachable(format!("the password file {}: {problem}", file.display()))
    })?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The addresses of the URL, without a password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Place::parse(&self.url) {
            Ok(place) => write!(f, "RedisStore({place})"),
            Err(_) => f.write_str("RedisStore(?)"),
        }
    }
}

impl FleetStore for RedisStore {
    fn permit<'a>(&'a self, budget: &'a Budget) -> Storing<'a, Permit> {
        Box::pin(async {
            let interval = 1e6 / budget.calls_per_second;
            // A second's worth of calls may be made at once.
            let burst = (1e6 - interval).max(0.0);
            let numbers = [interval, burst, budget.patience.as_micros() as f64];
            let [interval, burst, patience] = numbers.map(|number| format!("{number:.0}"));
            let arguments = [interval.as_bytes(), burst.as_bytes(), patience.as_bytes()];
            let key = format!("shmcreds:{{{}}}:budget", budget.name);
            answer::permit(&self.run(PERMIT, key, &arguments).await?)
        })
    }

    fn acquire<'a>(&'a self, claim: &'a Claim) -> Storing<'a, Acquired> {
        Box::pin(async {
            let owner = owner(claim.owner);
            let lease = milliseconds(claim.lease);
            let (newer, except) = (claim.newer_than.to_string(), claim.except.to_string());
            let arguments =
                [owner.as_bytes(), lease.as_bytes(), newer.as_bytes(), except.as_bytes()];
            answer::acquired(self.run(ACQUIRE, key(&claim.set), &arguments).await?, claim)
        })
    }

    fn publish<'a>(&'a self, lead: &'a Lead, set: &'a StoredSet) -> Storing<'a, Publication> {
        Box::pin(async {
            let (owner, token) = (owner(lead.owner), lead.token.to_string());
            let (expires, fresh) = (set.expires.to_string(), set.fresh_until.to_string());
            let arguments = [
                owner.as_bytes(),
                token.as_bytes(),
                expires.as_bytes(),
                fresh.as_bytes(),
                &set.sealed,
            ];
            answer::publication(&self.run(PUBLISH, key(&lead.set), &arguments).await?)
        })
    }

    fn fail<'a>(&'a self, lead: &'a Lead, pause: Duration) -> Storing<'a, ()> {
        Box::pin(async move {
            let (owner, token) = (owner(lead.owner), lead.token.to_string());
            let pause = milliseconds(pause);
            let arguments = [owner.as_bytes(), token.as_bytes(), pause.as_bytes()];
            self.run(FAIL, key(&lead.set), &arguments).await.map(drop)
        })
    }
}

/// The braces keep all keys of a set on one node of a cluster.
fn key(set: &str) -> String {
    format!("shmcreds:{{{set}}}:set")
}

fn owner(owner: u128) -> String {
    format!("{owner:032x}")
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().to_string()
}
