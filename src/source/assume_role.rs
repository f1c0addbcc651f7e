//! `sts:AssumeRole` as a source: the recipe. [`call`] cooks it.

mod arn;
mod call;
mod description;
mod fingerprint;
mod session_name;
mod validate;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use aws_credential_types::{Credentials, provider::ProvideCredentials};

use super::{Fetching, Fingerprint, Identifying, Provider, Source, mfa::Mfa, profile::Settings};
pub(super) use session_name::default_session_name;

/// A source that assumes a role at AWS STS.
///
/// It takes every input of the `AssumeRole` action.
///
/// Inputs are checked when the session is built, not here; an error names the field and the rule.
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
    pub(super) endpoint_url: Option<String>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) operation_timeout: Duration,
    pub(super) max_attempts: Option<u32>,
    pub(super) mfa: Option<Mfa>,
    /// The profile whose Region, address and such are taken where neither the program nor the environment
    /// says them.
    pub(super) profile: Option<String>,
    /// What a profile has settled already.
    pub(super) settings: Option<Settings>,
    pub(super) base: Base,
}

/// Where the credentials come from that sign the call.
#[derive(Clone)]
pub(super) enum Base {
    DefaultChain,
    Provider(Provider),
    Source(Arc<dyn Source>),
    Ready(Credentials),
}

impl AssumeRole {
    /// The role to assume: `arn:aws:iam::123456789012:role/app`, 20 to 2,048 characters, with a path before
    /// the name or none; the name has 1 to 64 of `[A-Za-z0-9+=,.@_-]`.
    pub fn new(role_arn: impl Into<String>) -> Self {
        AssumeRole {
            role_arn: role_arn.into(),
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
            endpoint_url: None,
            connect_timeout: None,
            read_timeout: None,
            operation_timeout: Duration::from_secs(15),
            max_attempts: None,
            mfa: None,
            profile: None,
            settings: None,
            base: Base::DefaultChain,
        }
    }

    /// The name of the role's session, as CloudTrail shows it: 2 to 64 of `[A-Za-z0-9+=,.@_-]`.
    /// `shmcreds-` and the host's name by default.
    pub fn session_name(mut self, name: impl Into<String>) -> Self {
        self.session_name = name.into();
        self
    }

    /// How long a set lives: 900 s to 43,200 s, whole seconds, at most the role's own maximum; at
    /// most 3,600 s when the base credentials are those of a role: checked when the session is built where
    /// the [`base_source`](Self::base_source) is known to give such (another role, web identity, SSO), and
    /// else by STS. STS's 3,600 s by default.
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// The external id that the role's trust policy asks for: 2 to 1,224 of
    /// `[A-Za-z0-9+=,.@:/_-]`. Treated as a secret: no message shows it.
    pub fn external_id(mut self, id: impl Into<String>) -> Self {
        self.external_id = Some(id.into());
        self
    }

    /// A session policy, a JSON object of 1 to 2,048 characters: the set can do what the role and
    /// this policy both allow. No message shows it.
    pub fn policy(mut self, json: impl Into<String>) -> Self {
        self.policy = Some(json.into());
        self
    }

    /// Adds a managed policy that narrows the session, as [`policy`](Self::policy) does; at most 10.
    pub fn policy_arn(mut self, arn: impl Into<String>) -> Self {
        self.policy_arns.push(arn.into());
        self
    }

    /// Adds a session tag; at most 50, with a key of 1 to 128 characters that does not begin with
    /// `aws:`, and a value of at most 256: letters, digits, spaces and `_.:/=+-@`.
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// Adds the key of a tag, given here or inherited, that later roles in a chain keep; at most 50.
    pub fn transitive_tag_key(mut self, key: impl Into<String>) -> Self {
        self.transitive_tag_keys.push(key.into());
        self
    }

    /// Who is behind the session, for CloudTrail and policies: 2 to 64 of `[A-Za-z0-9+=,.@_-]`.
    pub fn source_identity(mut self, identity: impl Into<String>) -> Self {
        self.source_identity = Some(identity.into());
        self
    }

    /// Adds a signed context assertion of a trusted provider, of 4 to 2,048 characters; at most 5.
    /// No message shows it.
    pub fn provided_context(
        mut self,
        provider_arn: impl Into<String>,
        context_assertion: impl Into<String>,
    ) -> Self {
        self.provided_contexts.push((provider_arn.into(), context_assertion.into()));
        self
    }

    /// The Region whose STS is asked. By default what the environment, the [`profile`](Self::profile) with
    /// those that it names, `[default]` or the instance says (the instance is not asked when there is an
    /// [`endpoint_url`](Self::endpoint_url)), else `us-east-1`. 1 to 64 of `[a-z0-9-]`, with no `-` at either end.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The address of STS, `http://HOST` or `https://HOST`, with a port and a path if need be, but no user
    /// and no query: for a VPC endpoint, or for tests.
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }

    /// The profile of the AWS config file whose Region, address of STS, CA bundle and retries are taken where
    /// neither this recipe nor the environment says them; by default the one that `AWS_PROFILE` names, or
    /// `[default]`. It does not sign in: for that give it as [`base_source`](Self::base_source), too.
    pub fn profile(mut self, name: impl Into<String>) -> Self {
        self.profile = Some(name.into());
        self
    }

    /// The same for a role of a profile, which has settled everything.
    pub(super) fn outcome(mut self, settings: Settings, base: Credentials) -> Self {
        self.settings = Some(settings);
        self.base = Base::Ready(base);
        self
    }

    /// How long connecting to STS may take: 1 ms to a day, as every time-out. The SDK's 3.1 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = Some(timeout);
        self
    }

    /// How long STS may take from a sent request to the answer's first byte. No limit by default,
    /// beyond [`operation_timeout`](Self::operation_timeout).
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = Some(timeout);
        self
    }

    /// How long the whole fetch may take, the base credentials included. 15 s by default.
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// How often STS is asked within one fetch, the first time included. By default what `AWS_MAX_ATTEMPTS`
    /// or the profile says, else 1: the session has a back-off of its own, which all the processes share, and
    /// more attempts here would multiply it.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Where the base credentials come from, which sign the call; the SDK's default chain
    /// otherwise. `make` runs in the elected process only, and `description` stands for what it
    /// gives, under the rules of [`Provider::new`].
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

    /// Takes the base credentials from another source: a chain of roles, when that is a role itself.
    /// Each refresh asks it anew, and then STS; a role that another role assumes lives an hour at most.
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

    /// Signs in with a device: its serial number or ARN, of 9 to 256 of `[A-Za-z0-9+=/:,.@_-]`, and a
    /// closure that gives its current code. The elected process asks once for each refresh, and uses the
    /// last number of six digits that stands alone in what it is told. STS takes a code once:
    /// [`max_attempts`](Self::max_attempts) must be 1.
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

    /// The same with a program and its arguments, whose standard output holds the code. No shell sees
    /// it; it has no standard input and no terminal, and its standard error goes to the log.
    pub fn mfa_command<S: Into<String>>(
        mut self,
        serial_number: impl Into<String>,
        argv: impl IntoIterator<Item = S>,
    ) -> Self {
        self.mfa = Some(Mfa::program(serial_number.into(), argv));
        self
    }

    /// How long the code may take, in addition to [`operation_timeout`](Self::operation_timeout); after
    /// [`mfa`](Self::mfa) or [`mfa_command`](Self::mfa_command). 30 s by default, as long as a session's
    /// own [wait timeout](crate::SharedSessionBuilder::wait_timeout): give that more, where people type.
    pub fn mfa_timeout(mut self, timeout: Duration) -> Self {
        if let Some(mfa) = &mut self.mfa {
            mfa.set_timeout(timeout);
        }
        self
    }
}

/// The description; the values behind the digest stay out.
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
        self.operation_timeout.saturating_add(code).saturating_add(base)
    }

    fn is_role(&self) -> bool {
        true
    }

    fn identify(&self, credentials: Option<Credentials>) -> Identifying<'_> {
        Box::pin(call::identify(self, credentials))
    }

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(call::assume_role(self))
    }
}
