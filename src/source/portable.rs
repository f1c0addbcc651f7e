//! Sources as plain values, of which another program makes them again (`remade.rs`). Closures cannot be handed over.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A source as plain values. It holds secrets.
#[derive(Serialize, Deserialize)]
#[doc(hidden)]
pub struct PortableSource(pub(super) Recipe);

#[derive(Serialize, Deserialize)]
pub(super) enum Recipe {
    AssumeRole(Box<Role>),
    Ready { source: String, values: Vec<String>, timeout: Duration },
    Profile { name: String, timeout: Duration, mfa: Option<Device> },
    Process { argv: Vec<String>, timeout: Duration },
    IotCore(Box<Thing>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct Role {
    pub(super) role_arn: String,
    pub(super) session_name: String,
    pub(super) duration: Option<Duration>,
    pub(super) external_id: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) policy_arns: Vec<String>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) transitive_tag_keys: Vec<String>,
    pub(super) source_identity: Option<String>,
    pub(super) provided_contexts: Vec<(String, String)>,
    pub(super) region: Option<String>,
    pub(super) regions: Vec<String>,
    pub(super) endpoint_url: Option<String>,
    pub(super) ca_bundle: Option<PathBuf>,
    pub(super) proxy: Option<String>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) operation_timeout: Duration,
    pub(super) max_attempts: Option<u32>,
    pub(super) mfa: Option<Device>,
    pub(super) profile: Option<String>,
    pub(super) base: RoleBase,
}

#[derive(Serialize, Deserialize)]
pub(super) enum RoleBase {
    DefaultChain,
    Keys { id: String, secret: String, token: Option<String> },
    Source(PortableSource),
}

/// A device for one-time codes, and the program that gives them.
#[derive(Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) serial_number: String,
    pub(super) argv: Vec<String>,
    pub(super) timeout: Duration,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Thing {
    pub(super) endpoint: String,
    pub(super) role_alias: String,
    pub(super) certificate: PortablePem,
    pub(super) private_key: PortablePem,
    pub(super) ca: Option<PortablePem>,
    pub(super) thing_name: Option<String>,
    pub(super) timeout: Duration,
}

#[derive(Serialize, Deserialize)]
pub(super) enum PortablePem {
    File(PathBuf),
    Text(Vec<u8>),
}

/// As JSON.
pub(crate) fn to_json(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, String> {
    serde_json::to_vec(value).map(Zeroizing::new).map_err(|error| error.to_string())
}
