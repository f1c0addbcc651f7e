//! The options that connect a session with a fleet.

use std::{path::PathBuf, time::Duration};

use clap::Args;
#[cfg(feature = "fleet-kms")]
use shmcreds::KmsKeys;
use shmcreds::{Fleet, FleetKeys, SharedSessionBuilder};

#[cfg(feature = "fleet-kms")]
use crate::arguments::pair;
use crate::command_error::{CommandError, USAGE};

/// The budget, and the set, that the hosts of a fleet share.
#[derive(Args)]
#[command(next_help_heading = "Fleet options")]
pub(crate) struct Options {
    /// A server of Valkey or Redis that all hosts of the fleet use: redis://HOST:PORT/DATABASE, or rediss:// for TLS.
    /// Before each call of STS, a host takes a permit there. `redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DATABASE` asks
    /// Sentinels for the server.
    #[arg(long, value_name = "URL")]
    fleet: Option<String>,
    /// The file with the password of that server. Other users see a password on the command line.
    #[arg(long, value_name = "FILE", requires = "fleet")]
    fleet_password_file: Option<PathBuf>,
    /// The file with the password of the Sentinels, if they want one.
    #[arg(long, value_name = "FILE", requires = "fleet")]
    fleet_sentinel_password_file: Option<PathBuf>,
    /// A file with the certificate authorities of that server, in PEM.
    #[arg(long, value_name = "FILE", requires = "fleet")]
    fleet_ca: Option<PathBuf>,
    /// The hosts with the same name share a budget. STS counts by account and Region: ACCOUNT/REGION.
    #[arg(long, value_name = "NAME", requires = "fleet", default_value = "default")]
    fleet_budget: String,
    /// How many calls of STS a second the hosts may make together.
    #[arg(long, value_name = "NUMBER", requires = "fleet", default_value_t = 300.0)]
    fleet_calls_per_second: f64,
    /// How many hosts there are, about. It counts while the server gives no answer.
    #[arg(long, value_name = "NUMBER", requires = "fleet", default_value_t = 1000)]
    fleet_hosts: u32,
    /// How long that server may take for an answer, in milliseconds.
    #[arg(long, value_name = "MILLISECONDS", requires = "fleet", default_value_t = 50)]
    fleet_answer_limit: u64,
    /// Shares the set itself, encrypted, under this name. Not for sources that identify the host.
    #[arg(long, value_name = "NAME", requires = "fleet", requires = "fleet_keys")]
    fleet_set: Option<String>,
    /// The file with the keys of the set: 64 hexadecimal digits in each line. The first key encrypts, both decrypt.
    #[arg(long, value_name = "FILE", requires = "fleet_set", group = "fleet_keys")]
    fleet_key_file: Option<PathBuf>,
    /// The environment variable with the keys.
    #[arg(long, value_name = "NAME", requires = "fleet_set", group = "fleet_keys")]
    fleet_key_env: Option<String>,
    /// The file with keys that AWS KMS encrypted: a ciphertext in base64 in each line. The identity that assumes the role
    /// decrypts them.
    #[cfg(feature = "fleet-kms")]
    #[arg(long, value_name = "FILE", requires = "fleet_set", group = "fleet_keys")]
    fleet_key_kms: Option<PathBuf>,
    /// The KMS key that must have encrypted them: an ARN, an id or an alias.
    #[cfg(feature = "fleet-kms")]
    #[arg(long, value_name = "KEY", requires = "fleet_key_kms")]
    fleet_kms_key: Option<String>,
    /// A pair of the encryption context, NAME=VALUE.
    #[cfg(feature = "fleet-kms")]
    #[arg(long, value_name = "NAME=VALUE", requires = "fleet_key_kms", value_parser = pair)]
    fleet_kms_context: Vec<(String, String)>,
}

/// Without the URL, which may have a password.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Options {{ fleet: {} }}", self.fleet.is_some())
    }
}

impl Options {
    pub(crate) fn is_given(&self) -> bool {
        self.fleet.is_some()
    }

    /// The variable with the keys, which no other program needs.
    pub(crate) fn key_variable(&self) -> Option<&str> {
        self.fleet_key_env.as_deref()
    }

    /// Where the keys of the set come from.
    fn keys(&self) -> Option<FleetKeys> {
        if let Some(file) = &self.fleet_key_file {
            return Some(FleetKeys::file(file));
        }
        #[cfg(feature = "fleet-kms")]
        if let Some(file) = &self.fleet_key_kms {
            let mut keys = KmsKeys::file(file);
            if let Some(key) = &self.fleet_kms_key {
                keys = keys.key(key);
            }
            let pairs = self.fleet_kms_context.iter();
            return Some(
                pairs.fold(keys, |keys, (name, value)| keys.encryption_context(name, value)).into(),
            );
        }
        self.fleet_key_env.as_ref().map(FleetKeys::variable)
    }

    /// The password in the URL, as it is written there.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let url = self.fleet.as_deref().unwrap_or_default();
        let login = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        let password = login.and_then(|(login, _)| login.split_once(':'));
        let in_query =
            url.split_once("pass=").map(|(_, rest)| rest.split('&').next().unwrap_or(rest));
        let found = [password.map(|(_, password)| password), in_query];
        found.into_iter().flatten().map(str::to_owned).collect()
    }
}

/// Adds the fleet to the session, if the options name one.
pub(crate) fn join(
    builder: SharedSessionBuilder,
    options: &Options,
) -> Result<SharedSessionBuilder, CommandError> {
    let Some(url) = &options.fleet else { return Ok(builder) };
    let mut fleet = Fleet::redis(url)
        .budget(&options.fleet_budget, options.fleet_calls_per_second)
        .hosts(options.fleet_hosts)
        .answer_limit(Duration::from_millis(options.fleet_answer_limit));
    if let Some(file) = &options.fleet_password_file {
        fleet = fleet.password_file(file);
    }
    if let Some(file) = &options.fleet_sentinel_password_file {
        fleet = fleet.sentinel_password_file(file);
    }
    if let Some(file) = &options.fleet_ca {
        fleet = fleet.ca_file(file);
    }
    if let Some(name) = &options.fleet_set {
        let keys = options.keys().ok_or_else(|| {
            CommandError::new(USAGE, "--fleet-set needs a key: --fleet-key-file or --fleet-key-env")
        })?;
        fleet = fleet.share_set(name, keys);
    }
    Ok(builder.fleet(fleet))
}
