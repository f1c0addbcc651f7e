//! The inputs of AssumeRole, on the command line and in the roles file. They have the same names there.

use std::{path::PathBuf, time::Duration};

use shmcreds::AssumeRole;

use crate::{
    arguments::{LONGEST_FETCH, Source},
    log,
    sources::{seconds, with},
    toml_table::Reading,
};

/// All inputs but the ARN.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct RoleInputs {
    session_name: Option<String>,
    duration: Option<Duration>,
    external_id: Option<String>,
    policy: Option<String>,
    policy_arns: Vec<String>,
    tags: Vec<(String, String)>,
    transitive_tag_keys: Vec<String>,
    source_identity: Option<String>,
    provided_contexts: Vec<(String, String)>,
    region: Option<String>,
    regions: Vec<String>,
    endpoint_url: Option<String>,
    ca_bundle: Option<PathBuf>,
    proxy: Option<String>,
    connect_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
    timeout: Option<Duration>,
    max_attempts: Option<u32>,
    profile: Option<String>,
}

const NO_MFA: &str = "a role of a pool cannot have MFA, because a code works once; give the MFA device to the base \
                      credentials (--mfa-serial), or make a session for this role";

/// The longest call that the refresher of a pool makes.
const LONGEST_CALL: Duration = Duration::from_secs(60);

impl RoleInputs {
    /// Those of the command line.
    pub(crate) fn of(options: &Source) -> Self {
        RoleInputs {
            session_name: options.role_session_name.clone(),
            duration: seconds(options.duration_seconds),
            external_id: options.external_id.clone(),
            policy: options.policy.clone(),
            policy_arns: options.policy_arn.clone(),
            tags: options.tag.clone(),
            transitive_tag_keys: options.transitive_tag_key.clone(),
            source_identity: options.source_identity.clone(),
            provided_contexts: options.provided_context.clone(),
            region: options.sts_region.clone(),
            regions: options.sts_regions.clone(),
            endpoint_url: options.sts_endpoint_url.clone(),
            connect_timeout: seconds(options.connect_timeout),
            read_timeout: seconds(options.read_timeout),
            timeout: seconds(options.timeout),
            max_attempts: options.max_attempts,
            profile: options.profile.clone(),
            // They come from the environment and the profile there.
            ca_bundle: None,
            proxy: None,
        }
    }

    /// Those of a table of the roles file.
    pub(crate) fn read(table: &mut Reading<'_>) -> Result<Self, String> {
        for key in ["mfa-serial", "mfa-command", "mfa-command-arg", "mfa-timeout"] {
            table.refuse(key, NO_MFA)?;
        }
        Ok(RoleInputs {
            session_name: table.text("role-session-name")?,
            duration: seconds(table.number("duration-seconds")?),
            external_id: table.text("external-id")?,
            policy: table.text("policy")?,
            policy_arns: table.texts("policy-arn")?,
            tags: table.pairs("tag")?,
            transitive_tag_keys: table.texts("transitive-tag-key")?,
            source_identity: table.text("source-identity")?,
            provided_contexts: table.pairs("provided-context")?,
            region: table.text("sts-region")?,
            regions: table.texts("sts-regions")?,
            endpoint_url: table.text("sts-endpoint-url")?,
            ca_bundle: table.text("ca-bundle")?.map(PathBuf::from),
            proxy: table.text("proxy")?,
            connect_timeout: table.seconds("connect-timeout", 1..=LONGEST_FETCH)?,
            read_timeout: table.seconds("read-timeout", 1..=LONGEST_FETCH)?,
            timeout: table.seconds("timeout", 1..=LONGEST_FETCH)?,
            max_attempts: table.number("max-attempts")?,
            profile: table.text("profile")?,
        })
    }

    /// Checks that the refresher of the pool can make the calls: its key of a role tells nothing of these inputs.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn check_refresh(&self) -> Result<(), String> {
        let (setting, variable) = match (&self.ca_bundle, &self.proxy) {
            (Some(_), _) => ("ca-bundle", "AWS_CA_BUNDLE"),
            (None, Some(_)) => ("proxy", "HTTPS_PROXY"),
            (None, None) => {
                return match self.timeout.filter(|timeout| *timeout > LONGEST_CALL) {
                    Some(timeout) => Err(format!(
                        "timeout is {timeout:?}, must be at most {LONGEST_CALL:?} where roles are refreshed ahead of \
                         time; give less, or use --deferred"
                    )),
                    None => Ok(()),
                };
            }
        };
        Err(format!(
            "{setting} must not be set where roles are refreshed ahead of time, because one refresher makes all calls; \
             set {variable} in the environment of shmcreds, or use --deferred"
        ))
    }

    /// The recipe for the role `arn`.
    pub(crate) fn recipe(&self, arn: &str) -> AssumeRole {
        let RoleInputs {
            session_name,
            duration,
            external_id,
            policy,
            policy_arns,
            tags,
            transitive_tag_keys,
            source_identity,
            provided_contexts,
            region,
            regions,
            endpoint_url,
            ca_bundle,
            proxy,
            connect_timeout,
            read_timeout,
            timeout,
            max_attempts,
            profile,
        } = self;
        let mut role = AssumeRole::new(arn);
        role = with(role, session_name.as_ref(), AssumeRole::session_name);
        role = with(role, *duration, AssumeRole::duration);
        role = with(role, external_id.as_ref(), AssumeRole::external_id);
        role = with(role, policy.as_ref(), AssumeRole::policy);
        role = policy_arns.iter().fold(role, AssumeRole::policy_arn);
        role = tags.iter().fold(role, |role, (key, value)| role.tag(key, value));
        role = transitive_tag_keys.iter().fold(role, AssumeRole::transitive_tag_key);
        role = with(role, source_identity.as_ref(), AssumeRole::source_identity);
        role = provided_contexts
            .iter()
            .fold(role, |role, (provider, assertion)| role.provided_context(provider, assertion));
        role = with(role, region.as_ref(), AssumeRole::region);
        if !regions.is_empty() {
            role = role.regions(regions);
        }
        role = with(role, endpoint_url.as_ref(), AssumeRole::endpoint_url);
        role = with(role, ca_bundle.as_ref(), AssumeRole::ca_bundle);
        role = with(role, proxy.as_ref(), AssumeRole::proxy);
        role = with(role, *connect_timeout, AssumeRole::connect_timeout);
        role = with(role, *read_timeout, AssumeRole::read_timeout);
        role = with(role, *timeout, AssumeRole::operation_timeout);
        role = with(role, *max_attempts, AssumeRole::max_attempts);
        with(role, profile.as_ref(), AssumeRole::profile)
    }

    /// What no log may show.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &str> {
        let password = self.proxy.as_deref().and_then(log::password_of);
        let assertions = self.provided_contexts.iter().map(|(_, assertion)| assertion.as_str());
        [self.external_id.as_deref(), self.policy.as_deref(), password]
            .into_iter()
            .flatten()
            .chain(assertions)
    }
}
