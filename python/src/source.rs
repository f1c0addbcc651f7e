//! Sources of the library, from what the package has translated.

use std::{path::PathBuf, time::Duration};

use aws_credential_types::Credentials;
use pyo3::prelude::*;
use shmcreds::{AssumeRole, IotCore, Pem, Profile};

use crate::error::duration;

/// How long one call may take, where its parts have no limits of their own.
const CALL: Duration = Duration::from_secs(15);

/// A role, from a dict with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Role {
    role_arn: String,
    session_name: String,
    duration: Option<u64>,
    external_id: Option<String>,
    policy: Option<String>,
    policy_arns: Vec<String>,
    tags: Vec<(String, String)>,
    transitive_tag_keys: Vec<String>,
    source_identity: Option<String>,
    provided_contexts: Vec<(String, String)>,
    region: Option<String>,
    endpoint_url: Option<String>,
    ca_bundle: Option<PathBuf>,
    proxy: Option<String>,
    connect_timeout: Option<f64>,
    read_timeout: Option<f64>,
    max_attempts: Option<u32>,
    /// Serial number, program and arguments, time-out.
    mfa: Option<(String, Vec<String>, f64)>,
    /// Who assumes the role: an access key, its secret and its token; else that profile; else the default chain.
    keys: Option<(String, String, Option<String>)>,
    profile: Option<String>,
}

impl Role {
    pub(crate) fn source(&self) -> AssumeRole {
        let mut role = AssumeRole::new(&self.role_arn).session_name(&self.session_name);
        if let Some(seconds) = self.duration {
            role = role.duration(Duration::from_secs(seconds));
        }
        if let Some(id) = &self.external_id {
            role = role.external_id(id);
        }
        if let Some(policy) = &self.policy {
            role = role.policy(policy);
        }
        if let Some(identity) = &self.source_identity {
            role = role.source_identity(identity);
        }
        role = self.policy_arns.iter().fold(role, AssumeRole::policy_arn);
        role = self.transitive_tag_keys.iter().fold(role, AssumeRole::transitive_tag_key);
        role = self.tags.iter().fold(role, |role, (key, value)| role.tag(key, value));
        let contexts = self.provided_contexts.iter();
        role = contexts.fold(role, |role, (arn, text)| role.provided_context(arn, text));
        self.called_by(self.client(role))
    }

    /// Where the call goes, and how long it may take.
    fn client(&self, mut role: AssumeRole) -> AssumeRole {
        if let Some(region) = &self.region {
            role = role.region(region);
        }
        if let Some(url) = &self.endpoint_url {
            role = role.endpoint_url(url);
        }
        if let Some(path) = &self.ca_bundle {
            role = role.ca_bundle(path);
        }
        if let Some(url) = &self.proxy {
            role = role.proxy(url);
        }
        if let Some(attempts) = self.max_attempts {
            role = role.max_attempts(attempts);
        }
        let parts = [self.connect_timeout, self.read_timeout].map(|part| part.map(duration));
        if let Some(timeout) = parts[0] {
            role = role.connect_timeout(timeout);
        }
        if let Some(timeout) = parts[1] {
            role = role.read_timeout(timeout);
        }
        let asked = parts.into_iter().flatten().sum::<Duration>();
        role.operation_timeout(asked.max(CALL))
    }

    /// Who assumes the role.
    fn called_by(&self, mut role: AssumeRole) -> AssumeRole {
        if let Some((serial_number, argv, timeout)) = &self.mfa {
            role = role.mfa_command(serial_number, argv).mfa_timeout(duration(*timeout));
        }
        if let Some((id, secret, token)) = &self.keys {
            return role.base_keys(Credentials::new(id, secret, token.clone(), None, "python"));
        }
        match &self.profile {
            Some(name) => role.base_source(Profile::new(name)).profile(name),
            None => role,
        }
    }
}

/// A device of AWS IoT Core, from a dict with these keys.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Thing {
    endpoint: String,
    role_alias: String,
    certificate: Vec<u8>,
    private_key: Vec<u8>,
    ca: Option<Vec<u8>>,
    thing_name: Option<String>,
    timeout: f64,
}

impl Thing {
    pub(crate) fn source(&self) -> IotCore {
        let pem = |text: &Vec<u8>| Pem::text(text.clone());
        let (certificate, key) = (pem(&self.certificate), pem(&self.private_key));
        let mut thing = IotCore::new(&self.endpoint, &self.role_alias, certificate, key)
            .timeout(duration(self.timeout));
        if let Some(ca) = &self.ca {
            thing = thing.ca(pem(ca));
        }
        match &self.thing_name {
            Some(name) => thing.thing_name(name),
            None => thing,
        }
    }
}
