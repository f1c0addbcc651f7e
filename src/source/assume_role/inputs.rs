//! The inputs of an `AssumeRole` that are plain values. They can be handed to another program.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::default_session_name;
use crate::source::profile::ProxyUrl;

#[derive(Clone, Serialize, Deserialize)]
pub(in crate::source) struct Inputs {
    pub(in crate::source) role_arn: String,
    pub(in crate::source) session_name: String,
    pub(in crate::source) duration: Option<Duration>,
    pub(in crate::source) external_id: Option<String>,
    pub(in crate::source) policy: Option<String>,
    pub(in crate::source) policy_arns: Vec<String>,
    pub(in crate::source) tags: Vec<(String, String)>,
    pub(in crate::source) transitive_tag_keys: Vec<String>,
    pub(in crate::source) source_identity: Option<String>,
    pub(in crate::source) provided_contexts: Vec<(String, String)>,
    pub(in crate::source) region: Option<String>,
    pub(in crate::source) regions: Vec<String>,
    pub(in crate::source) endpoint_url: Option<String>,
    pub(in crate::source) ca_bundle: Option<PathBuf>,
    pub(in crate::source) proxy: Option<ProxyUrl>,
    pub(in crate::source) connect_timeout: Option<Duration>,
    pub(in crate::source) read_timeout: Option<Duration>,
    pub(in crate::source) operation_timeout: Duration,
    pub(in crate::source) max_attempts: Option<u32>,
    /// The profile to read Region, endpoint and such from, if neither the program nor the environment sets them.
    pub(in crate::source) profile: Option<String>,
}

impl Inputs {
    pub(super) fn new(role_arn: String) -> Self {
        Inputs {
            role_arn,
            session_name: default_session_name(),
            duration: None,
            external_id: None,
            policy: None,
            policy_arns: Vec::new(),
            tags: Vec::new(),
            transitive_tag_keys: Vec::new(),
            source_identity: None,
            provided_contexts: Vec::new(),
            region: None,
            regions: Vec::new(),
            endpoint_url: None,
            ca_bundle: None,
            proxy: None,
            connect_timeout: None,
            read_timeout: None,
            operation_timeout: Duration::from_secs(15),
            max_attempts: None,
            profile: None,
        }
    }
}
