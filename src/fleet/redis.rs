//! Valkey or Redis as the store: one script for each verb, so each is atomic. A connection lasts for one verb.

mod answer;
mod connection;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use redis::{Cmd, ConnectionInfo, IntoConnectionInfo, RedisError, Value};
use serde::{Deserialize, Serialize};

use self::connection::{Address, Connection, told};
use super::store::{
    Acquired, Budget, Claim, FleetStore, Lead, Permit, Publication, StoreError, StoredSet, Storing,
};

const PERMIT: &str = include_str!("scripts/permit.lua");
const ACQUIRE: &str = include_str!("scripts/acquire.lua");
const PUBLISH: &str = include_str!("scripts/publish.lua");
const FAIL: &str = include_str!("scripts/fail.lua");

/// A server of Valkey or Redis. It holds a password.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct RedisStore {
    pub(super) url: String,
    pub(super) password_file: Option<PathBuf>,
    pub(super) ca_file: Option<PathBuf>,
}

impl RedisStore {
    /// Checks the settings.
    ///
    /// # Errors
    /// A sentence with the setting, the problem of its value, and the rule. It does not show the URL: it may have a
    /// password.
    pub(super) fn validate(&self) -> Result<(), String> {
        const FORM: &str = "it must be redis://HOST:PORT/DATABASE, or rediss:// for TLS";
        let (scheme, rest) = self.url.split_once("://").unwrap_or_default();
        if !["redis", "valkey", "redis+unix", "valkey+unix", "unix"].contains(&scheme)
            && !is_tls(scheme)
        {
            return Err(format!("fleet: the URL has no known scheme; {FORM}"));
        }
        if rest.contains('#') {
            return Err(
                "fleet: the URL has a fragment (#); leave it out: the server's certificate is always checked".into(),
            );
        }
        if self.ca_file.is_some() && !is_tls(scheme) {
            return Err(
                "fleet: a CA file is given, but the URL is without TLS; use rediss://".into()
            );
        }
        self.info().ok_or_else(|| format!("fleet: the URL cannot be read; {FORM}"))?;
        if let Some(file) = &self.password_file {
            self.password(file).map_err(|error| format!("fleet: {error}"))?;
        }
        Ok(())
    }

    /// What the URL says, whether with TLS or without. The parser's error may quote the URL, so it is not shown.
    fn info(&self) -> Option<ConnectionInfo> {
        let (scheme, rest) = self.url.split_once("://")?;
        let scheme = if is_tls(scheme) { "redis" } else { scheme };
        format!("{scheme}://{rest}").as_str().into_connection_info().ok()
    }

    fn password(&self, file: &Path) -> Result<String, StoreError> {
        let read = fs::read_to_string(file);
        let text = read.map_err(|error| {
            StoreError::unreachable(format!("the password file {}: {error}", file.display()))
        })?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Runs a script on the key. A node of a cluster may name another node, once.
    async fn run(
        &self,
        script: &str,
        key: String,
        arguments: &[&[u8]],
    ) -> Result<Value, StoreError> {
        let unusable = || StoreError::unreachable("the URL cannot be used");
        let info = self.info().ok_or_else(unusable)?;
        let mut settings = info.redis_settings().clone();
        if let Some(file) = &self.password_file {
            settings = settings.set_password(self.password(file)?);
        }
        let scheme = self.url.split_once("://").map_or("", |(scheme, _)| scheme);
        let ca = self.ca_file.as_deref();
        let tls = is_tls(scheme).then(|| connection::tls(ca)).transpose()?;
        let mut command = Cmd::new();
        command.arg("EVAL").arg(script).arg(1).arg(key);
        for argument in arguments {
            command.arg(*argument);
        }
        let address = Address::of(info.addr()).ok_or_else(unusable)?;
        let ask = async |address: &Address| {
            let mut connection = Connection::new(address, tls.clone(), &settings).await?;
            Ok::<_, StoreError>(command.query_async(&mut connection.redis).await)
        };
        let first: Result<Value, RedisError> = ask(&address).await?;
        let moved = first.as_ref().err().and_then(RedisError::redirect_node);
        let answer = match moved.and_then(|(node, _)| address.moved(node)) {
            Some(node) => ask(&node).await?,
            None => first,
        };
        answer.map_err(|error| told(&error))
    }
}

fn is_tls(scheme: &str) -> bool {
    matches!(scheme, "rediss" | "valkeys")
}

/// The host of the URL, without a password.
impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.info().map(|info| info.addr().to_string());
        write!(f, "RedisStore({})", address.as_deref().unwrap_or("?"))
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
