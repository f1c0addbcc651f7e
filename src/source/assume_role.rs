//! `sts:AssumeRole` as a source: its inputs. [`call`] makes the request.

mod arn;
mod call;
mod description;
#[cfg(test)]
mod every_input;
mod fingerprint;
mod inputs;
mod packed;
#[cfg(test)]
mod pinned;
pub(crate) mod pooled;
mod portable;
mod regions;
mod rules;
mod session_name;
mod validate;
mod values;

use std::{fmt, future::Future, path::PathBuf, sync::Arc, time::Duration};

use aws_credential_types::{Credentials, provider::ProvideCredentials};

use super::{
    Fetching, Fingerprint, Identifying, Provider, Source,
    mfa::Mfa,
    portable::PortableSource,
    profile::{ProxyUrl, Settings},
};
pub(super) use inputs::Inputs;
pub(crate) use packed::{PackedRole, Packing};
pub(super) use session_name::default_session_name;

/// A source that assumes a role at AWS STS.
///
/// It takes every input of the `AssumeRole` action.
///
/// The inputs are checked when the session is built, not here. An error names the field and the rule.
///
/// ```
/// use std::time::Duration;
/// use shmcreds::AssumeRole;
///
/// let source = AssumeRole::new("arn:aws:iam::123456789012:role/app")
///     .session_name("web")
///     .duration(Duration::from_secs(3600))
///     .external_id("tenant-42")
///     .tag("team", "storage")
///     .region("eu-central-1");
/// assert!(!format!("{source:?}").contains("tenant-42"));
/// ```
#[derive(Clone)]
pub struct AssumeRole {
    pub(super) inputs: Inputs,
    pub(super) mfa: Option<Mfa>,
    /// The settings that a profile has resolved already.
    pub(super) settings: Option<Settings>,
    pub(super) base: Base,
}

/// Where the base credentials come from. They sign the request.
#[derive(Clone)]
pub(super) enum Base {
    DefaultChain,
    Provider(Provider),
    Source(Arc<dyn Source>),
    /// Of the program.
    Keys(Credentials),
    /// Of the profile that assumes the role.
    Ready(Credentials),
}

impl AssumeRole {
    /// The role to assume: `arn:aws:iam::123456789012:role/app`, 20 to 2,048 characters. A path before the name
    /// is allowed. The name has 1 to 64 of `[A-Za-z0-9+=,.@_-]`.
    pub fn new(role_arn: impl Into<String>) -> Self {
        AssumeRole {
            inputs: Inputs::new(role_arn.into()),
            mfa: None,
            settings: None,
            base: Base::DefaultChain,
        }
    }

    /// The name of the role session, as CloudTrail shows it: 2 to 64 of `[A-Za-z0-9+=,.@_-]`.
    /// By default `shmcreds-` and the host name.
    pub fn session_name(mut self, name: impl Into<String>) -> Self {
        self.inputs.session_name = name.into();
        self
    }

    /// How long a set is valid: 900 s to 43,200 s, in whole seconds, and at most the maximum of the role.
    /// Without it STS takes 3,600 s.
    ///
    /// If the base credentials are those of a role, the limit is 3,600 s. It is checked when the session is built,
    /// if the [`base_source`](Self::base_source) is known to be a role (another role, web identity, SSO).
    /// Otherwise STS checks it.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.inputs.duration = Some(duration);
        self
    }

    /// The external id that the role's trust policy requires: 2 to 1,224 of `[A-Za-z0-9+=,.@:/_-]`.
    /// It is treated as a secret: no message shows it.
    pub fn external_id(mut self, id: impl Into<String>) -> Self {
        self.inputs.external_id = Some(id.into());
        self
    }

    /// A session policy: a JSON object of 1 to 2,048 characters. The set can do only what both the role and this
    /// policy allow. No message shows it.
    pub fn policy(mut self, json: impl Into<String>) -> Self {
        self.inputs.policy = Some(json.into());
        self
    }

    /// Adds a managed policy that restricts the session, as [`policy`](Self::policy) does. At most 10.
    pub fn policy_arn(mut self, arn: impl Into<String>) -> Self {
        self.inputs.policy_arns.push(arn.into());
        self
    }

    /// Adds a session tag; at most 50. The key has 1 to 128 characters and does not begin with `aws:`. The value
    /// has at most 256. Both consist of letters, digits, spaces and `_.:/=+-@`.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.inputs.tags.push((key.into(), value.into()));
        self
    }

    /// Adds the key of a tag that later roles in a chain keep; at most 50. The tag is set here or inherited.
    pub fn transitive_tag_key(mut self, key: impl Into<String>) -> Self {
        self.inputs.transitive_tag_keys.push(key.into());
        self
    }

    /// The person or program that uses the role, for CloudTrail and policies: 2 to 64 of `[A-Za-z0-9+=,.@_-]`.
    pub fn source_identity(mut self, identity: impl Into<String>) -> Self {
        self.inputs.source_identity = Some(identity.into());
        self
    }

    /// Adds a signed context assertion of a trusted provider: 4 to 2,048 characters; at most 5. No message shows it.
    pub fn provided_context(
        mut self,
        provider_arn: impl Into<String>,
        context_assertion: impl Into<String>,
    ) -> Self {
        self.inputs.provided_contexts.push((provider_arn.into(), context_assertion.into()));
        self
    }

    /// The Region of the STS endpoint: 1 to 64 of `[a-z0-9-]`, with no `-` at either end.
    ///
    /// Without it, the Region comes from the first of these that sets it: the environment; the
    /// [`profile`](Self::profile) and the profiles that it names; `[default]`; the instance metadata, unless there
    /// is an [`endpoint_url`](Self::endpoint_url). If none sets it, it is `us-east-1`.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.inputs.region = Some(region.into());
        self
    }

    /// The URL of STS, for a VPC endpoint or for tests: `http://HOST` or `https://HOST`. A port and a path are
    /// allowed, a user and a query are not.
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.inputs.endpoint_url = Some(url.into());
        self
    }

    /// The file of the certificate authorities, in PEM, that alone are trusted when STS is asked. By default what
    /// `AWS_CA_BUNDLE` or the profile says, else those of this host. It is read at each call.
    pub fn ca_bundle(mut self, path: impl Into<PathBuf>) -> Self {
        self.inputs.ca_bundle = Some(path.into());
        self
    }

    /// The proxy through which STS is asked: `http://HOST:PORT` or `https://HOST:PORT`, with `USER:PASSWORD@` before the
    /// host if need be. No message shows user and password. By default what `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and
    /// `NO_PROXY` say. A proxy never sees a request to this machine.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.inputs.proxy = Some(ProxyUrl::new(url.into()));
        self
    }

    /// The profile of the AWS config file that gives the Region, the STS endpoint, the CA bundle and the retries, if
    /// neither this source nor the environment sets them. By default the profile that `AWS_PROFILE` names, or
    /// `[default]`.
    ///
    /// The profile does not give the base credentials. For that, pass it to [`base_source`](Self::base_source), too.
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.inputs.profile = Some(name.into());
        self
    }

    /// For a role of a profile: the profile has resolved all settings and the base credentials.
    pub(super) fn resolved(mut self, settings: Settings, base: Credentials) -> Self {
        self.settings = Some(settings);
        self.base = Base::Ready(base);
        self
    }

    /// The Regions whose STS is asked, in this order: 1 to 16 names, in place of [`region`](Self::region). The next one
    /// is asked when one throttles, cannot be reached, answers with a server error, or takes longer than its part of the
    /// [`operation_timeout`](Self::operation_timeout). The credentials are valid in all Regions. STS throttles an account
    /// in each Region on its own.
    ///
    /// A Region that failed is asked last for 10 minutes, by all processes of the session. The list is a part of the
    /// identity of the session. It cannot be combined with [`endpoint_url`](Self::endpoint_url). If the environment or
    /// the profile sets the endpoint of STS, only that is asked, and the first Region signs. With
    /// [`mfa`](Self::mfa) the list may name one Region: a code works once.
    ///
    /// ```
    /// # use shmcreds::AssumeRole;
    /// let source = AssumeRole::new("arn:aws:iam::123456789012:role/app")
    ///     .regions(["eu-central-1", "eu-west-1"]);
    /// ```
    pub fn regions<S: Into<String>>(mut self, regions: impl IntoIterator<Item = S>) -> Self {
        self.inputs.regions = regions.into_iter().map(Into::into).collect();
        self
    }

    /// How long the connection to STS may take: 1 ms to a day, as for each time-out. By default the SDK's 3.1 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.inputs.connect_timeout = Some(timeout);
        self
    }

    /// How long STS may take from the sent request to the first byte of the answer. By default only
    /// [`operation_timeout`](Self::operation_timeout) limits it.
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.inputs.read_timeout = Some(timeout);
        self
    }

    /// How long the whole fetch may take, with the base credentials. 15 s by default.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.inputs.operation_timeout = timeout;
        self
    }

    /// The number of requests to STS within one fetch, with the first one. By default `AWS_MAX_ATTEMPTS` or the
    /// setting of the profile, and otherwise 1. The session has its own back-off, which all processes share. More
    /// attempts here would multiply it.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.inputs.max_attempts = Some(attempts);
        self
    }

    /// Where the base credentials come from. They sign the request. By default the SDK's default chain gives them.
    /// Only the elected process runs `make`. The rules for `description` are those of [`Provider::new`].
    ///
    /// ```
    /// # use shmcreds::AssumeRole;
    /// use aws_config::profile::ProfileFileCredentialsProvider;
    ///
    /// let source = AssumeRole::new("arn:aws:iam::123456789012:role/app")
    ///     .credentials_provider("profile base", || async {
    ///         ProfileFileCredentialsProvider::builder().profile_name("base").build()
    ///     });
    /// ```
    pub fn credentials_provider<F, Fut, P>(
        mut self,
        description: impl Into<String>,
        make: F,
    ) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = P> + Send + 'static,
        P: ProvideCredentials + 'static,
    {
        self.base = Base::Provider(Provider::new(description, make));
        self
    }

    /// Signs the call with these keys: an access key id and its secret, and a session token if they are temporary. The
    /// keys are a part of the session's identity: two processes meet only if they have the same. They live in the memory
    /// of each process that has the recipe.
    ///
    /// ```
    /// # use shmcreds::AssumeRole;
    /// use aws_credential_types::Credentials;
    ///
    /// let keys = Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "my program");
    /// let source = AssumeRole::new("arn:aws:iam::123456789012:role/app").base_keys(keys);
    /// ```
    pub fn base_keys(mut self, keys: Credentials) -> Self {
        self.base = Base::Keys(keys);
        self
    }

    /// Takes the base credentials from another source. If that is a role, too, this is a chain of roles.
    /// Each refresh asks that source first, and then STS. A role that another role assumes is valid for at most an
    /// hour.
    ///
    /// ```
    /// # use shmcreds::AssumeRole;
    /// let hub = AssumeRole::new("arn:aws:iam::111111111111:role/hub");
    /// let source = AssumeRole::new("arn:aws:iam::222222222222:role/app").base_source(hub);
    /// ```
    pub fn base_source(mut self, source: impl Source) -> Self {
        self.base = Base::Source(Arc::new(source));
        self
    }

    /// Adds the code of an MFA device. `serial_number` is its serial number or ARN: 9 to 256 of
    /// `[A-Za-z0-9+=/:,.@_-]`. The elected process calls the closure once for each refresh. It takes the last
    /// separate number of six digits from the text that the closure gives.
    ///
    /// STS accepts a code only once, so [`max_attempts`](Self::max_attempts) must be 1.
    ///
    /// ```
    /// # use shmcreds::AssumeRole;
    /// let source = AssumeRole::new("arn:aws:iam::123456789012:role/app")
    ///     .mfa("arn:aws:iam::123456789012:mfa/alice", || async {
    ///         Ok::<_, std::io::Error>("123456".to_owned())
    ///     });
    /// ```
    pub fn mfa<F, Fut, E>(mut self, serial_number: impl Into<String>, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.mfa = Some(Mfa::closure(serial_number.into(), ask));
        self
    }

    /// The same with a program and its arguments. The program prints the code to its standard output. It runs
    /// without a shell, a standard input and a terminal. Its standard error goes to the log.
    pub fn mfa_command<S: Into<String>>(
        mut self,
        serial_number: impl Into<String>,
        argv: impl IntoIterator<Item = S>,
    ) -> Self {
        self.mfa = Some(Mfa::program(serial_number.into(), argv));
        self
    }

    /// How long the code may take, in addition to [`operation_timeout`](Self::operation_timeout). 30 s by default.
    /// Call it after [`mfa`](Self::mfa) or [`mfa_command`](Self::mfa_command).
    ///
    /// The [wait timeout](crate::SharedSessionBuilder::wait_timeout) of a session is 30 s, too. If a person types
    /// the code, set a longer one.
    pub fn mfa_timeout(mut self, timeout: Duration) -> Self {
        if let Some(mfa) = &mut self.mfa {
            mfa.set_timeout(timeout);
        }
        self
    }
}

/// Shows the description. It does not contain the values that the digest stands for.
impl fmt::Debug for AssumeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AssumeRole({})", self.describe())
    }
}

impl Source for AssumeRole {
    fn describe(&self) -> String {
        description::of(self)
    }

    fn fingerprint(&self) -> Fingerprint {
        fingerprint::of(self)
    }

    fn validate(&self) -> Result<(), String> {
        validate::inputs(self)
    }

    fn timeout(&self) -> Duration {
        let code = self.mfa.as_ref().map_or(Duration::ZERO, Mfa::timeout);
        let base = match &self.base {
            Base::Source(source) => source.timeout(),
            _ => Duration::ZERO,
        };
        self.inputs.operation_timeout.saturating_add(code).saturating_add(base)
    }

    fn portable(&self) -> Option<PortableSource> {
        portable::of(self)
    }

    fn is_role(&self) -> bool {
        true
    }

    fn role_arn(&self) -> Option<&str> {
        Some(&self.inputs.role_arn)
    }

    /// The set of a role is the same whatever assumes it, except where a person confirms it.
    fn host_bound(&self) -> Option<String> {
        let asks = self.mfa.is_some();
        asks.then(|| "an MFA device confirms that its user is at this host".into())
    }

    #[cfg(feature = "fleet-kms")]
    fn base_identity(&self) -> super::BaseIdentity<'_> {
        call::base_identity(self)
    }

    fn identify(&self, credentials: Option<Credentials>) -> Identifying<'_> {
        Box::pin(call::identify(self, credentials))
    }

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(call::assume_role(self))
    }
}
