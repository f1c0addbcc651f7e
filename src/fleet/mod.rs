//! A fleet: hosts that share a budget of calls, and a set, through a store that people already run.
//!
//! The store is asked at one place only: where an elected process is about to call the source. It is asked on the thread
//! of that refresh and inside its runtime, which end with the call. So nothing of it is alive when a program forks.

mod call;
mod key;
mod keys;
#[cfg(feature = "fleet-kms")]
mod kms;
mod local_share;
mod redis;
mod seal;
mod secret_file;
mod shared_set;
mod store;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

pub use keys::FleetKeys;
#[cfg(feature = "fleet-kms")]
pub use kms::KmsKeys;
pub use store::{
    Acquired, Budget, Claim, FleetStore, Lead, Permit, Publication, StoreError, StoredSet, Storing,
    Turn,
};

use self::redis::RedisStore;
use crate::source::Source;

/// How long the store may take for one answer, unless it is set.
const ANSWER_LIMIT: Duration = Duration::from_millis(50);
/// How long a host waits for its permit at most. It cannot ask for more than a minute: the store's script counts on that.
const PATIENCE: Duration = Duration::from_secs(2);
/// Half of what STS gives an account in a Region: other programs use it, too.
const CALLS_PER_SECOND: f64 = 300.0;
/// What the local share is computed from, unless it is set.
const HOSTS: u32 = 1000;

/// Connects a session with the other hosts of a fleet, through a server of Valkey or Redis. Needs the feature `fleet`.
///
/// All hosts share a budget of calls of STS. Before each call a host asks the store for a permit. If the store is down,
/// gives no answer in time, or a wrong one, the host goes on with its own share of the budget: see [`hosts`](Self::hosts).
/// No secret leaves the host, unless the hosts also [share a set](Self::share_set).
///
/// ```
/// use std::time::Duration;
/// use shmcreds::Fleet;
///
/// let fleet = Fleet::redis("rediss://valkey.example:6379")
///     .password_file("/run/secrets/valkey")
///     .budget("123456789012/eu-central-1", 300.0)
///     .hosts(5000);
/// assert_eq!(
///     format!("{fleet:?}"),
///     r#"Fleet { store: RedisStore(valkey.example:6379), budget: "123456789012/eu-central-1", shares_set: false }"#
/// );
/// ```
///
/// Give each process that may refresh the session the same settings. A set that a program publishes itself
/// ([`SharedSession::elect`](crate::SharedSession::elect)) does not pass the fleet.
#[derive(Clone)]
pub struct Fleet {
    store: Arc<dyn FleetStore>,
    settings: Settings,
}

#[derive(Clone, Serialize, Deserialize)]
struct Settings {
    /// The settings of the store, if it is one of Redis.
    redis: Option<RedisStore>,
    budget: String,
    calls_per_second: f64,
    hosts: u32,
    answer_limit: Duration,
    set: Option<SetSettings>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SetSettings {
    name: String,
    keys: FleetKeys,
}

impl Fleet {
    /// A server of Valkey or Redis: `redis://HOST:PORT/DATABASE`, or `rediss://` for TLS. It needs `EVAL`, and no more
    /// rights than for keys that begin with `shmcreds:`. The session's builder checks the URL.
    ///
    /// `redis://HOST:PORT,HOST:PORT` names several nodes of a cluster: the next one is asked if one gives no answer.
    /// `redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE`, or `rediss+sentinel://`, asks Sentinels which server is
    /// the primary of the service.
    pub fn redis(url: impl Into<String>) -> Self {
        let redis = RedisStore::at(url.into());
        let mut fleet = Fleet::new(redis.clone());
        fleet.settings.redis = Some(redis);
        fleet
    }

    /// A store of your own.
    pub fn new(store: impl FleetStore) -> Self {
        let settings = Settings {
            redis: None,
            budget: "default".into(),
            calls_per_second: CALLS_PER_SECOND,
            hosts: HOSTS,
            answer_limit: ANSWER_LIMIT,
            set: None,
        };
        Fleet { store: Arc::new(store), settings }
    }

    /// The file with the password of the store, read for each connection. It takes precedence over one in the URL.
    pub fn password_file(self, path: impl Into<PathBuf>) -> Self {
        self.with_redis(|redis| redis.password_file = Some(path.into()))
    }

    /// The file with the password of the Sentinels, if they want one. That in the URL is for the servers of the service.
    pub fn sentinel_password_file(self, path: impl Into<PathBuf>) -> Self {
        self.with_redis(|redis| redis.sentinel_password_file = Some(path.into()))
    }

    /// The certificate authorities that the store's certificate is checked with, in PEM. By default those of the system.
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        self.with_redis(|redis| redis.ca_file = Some(path.into()))
    }

    /// The name of the budget, and how many calls a second its hosts may make together. STS counts the calls of an
    /// account in each Region: name the account that calls, and the Region. By default all sessions of the store share
    /// one budget of 300 calls a second, half of what STS allows.
    pub fn budget(mut self, name: impl Into<String>, calls_per_second: f64) -> Self {
        self.settings.budget = name.into();
        self.settings.calls_per_second = calls_per_second;
        self
    }

    /// How many hosts share the budget, about: 1,000 by default. It counts only while the store gives no answer. Then
    /// each host makes one call at once, and further ones at its share of the budget: one in `hosts / calls_per_second`
    /// seconds, and one a minute at least.
    pub fn hosts(mut self, hosts: u32) -> Self {
        self.settings.hosts = hosts;
        self
    }

    /// How long the store may take for one answer, with the connection: 50 ms by default, 10 s at most.
    pub fn answer_limit(mut self, limit: Duration) -> Self {
        self.settings.answer_limit = limit;
        self
    }

    /// Shares the set itself: one host fetches, and the others take its set from the store, where it is encrypted with
    /// AES-256-GCM. For fleets with one identity. A person who has a key, and may read the store, has the credentials of the
    /// fleet.
    ///
    /// `name` is the name of the set in the store. Hosts share it if their sources have the same fingerprint. A set that
    /// does not open counts as none, and [`Status::fleet`](crate::Status::fleet) counts it. A source that identifies the
    /// host is refused: instance metadata, the container endpoint, the default chain and profiles (which may lead there),
    /// a device certificate, and MFA.
    pub fn share_set(mut self, name: impl Into<String>, keys: impl Into<FleetKeys>) -> Self {
        self.settings.set = Some(SetSettings { name: name.into(), keys: keys.into() });
        self
    }

    fn with_redis(mut self, change: impl FnOnce(&mut RedisStore)) -> Self {
        if let Some(mut redis) = self.settings.redis.take() {
            change(&mut redis);
            self.store = Arc::new(redis.clone());
            self.settings.redis = Some(redis);
        }
        self
    }

    fn check(&self, source: &dyn Source) -> Result<(), String> {
        let Settings { redis, budget, calls_per_second, hosts, answer_limit, set } = &self.settings;
        redis.as_ref().map_or(Ok(()), RedisStore::validate)?;
        name("budget", budget)?;
        if !(0.001..=100_000.0).contains(calls_per_second) {
            return Err(format!(
                "fleet: the budget is {calls_per_second} calls a second; it must be from 0.001 to 100000"
            ));
        }
        if *hosts == 0 {
            return Err("fleet: hosts is 0; it must be 1 or more".into());
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(10)).contains(answer_limit) {
            return Err(format!(
                "fleet: answer_limit is {answer_limit:?}; it must be from 1ms to 10s"
            ));
        }
        let Some(set) = set else { return Ok(()) };
        name("shared set", &set.name)?;
        if let Some(reason) = source.host_bound() {
            return Err(format!(
                "fleet: share_set: {reason}, so other hosts must not use its sets; leave out share_set, or use a role"
            ));
        }
        set.keys.check().map_err(|problem| format!("fleet: share_set: {problem}"))
    }

    /// Again, of what [`Gate::portable`](crate::refresh::gate::Gate::portable) gave.
    pub(crate) fn again(settings: serde_json::Value) -> Option<Self> {
        let settings: Settings = serde_json::from_value(settings).ok()?;
        Some(Fleet { store: Arc::new(settings.redis.clone()?), settings })
    }
}

/// Names stand in the store in clear. Braces would send the keys of a set to other nodes of a cluster.
fn name(what: &str, name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}');
    if name.is_empty() || name.len() > 128 || !name.chars().all(is_plain) {
        return Err(format!(
            "fleet: the name of the {what} is {name:?}; it must be 1 to 128 printable ASCII characters without space and \
             braces"
        ));
    }
    Ok(())
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("store", &self.store)
            .field("budget", &self.settings.budget)
            .field("shares_set", &self.settings.set.is_some())
            .finish()
    }
}
