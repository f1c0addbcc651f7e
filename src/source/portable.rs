//! Sources as plain values, of which another program makes them again (`remade.rs`). Closures cannot be handed over.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Fingerprint, assume_role::Inputs};

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
    Identified { source: Box<PortableSource>, fingerprint: Fingerprint },
}

#[derive(Serialize, Deserialize)]
pub(super) struct Role {
    pub(super) inputs: Inputs,
    pub(super) mfa: Option<Device>,
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
