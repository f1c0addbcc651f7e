//! A profile of the AWS config and credentials files as a source.
//!
//! This library reads the files itself, because the SDK ignores many settings. It reads them for each set, and keeps
//! only the name of the profile.

mod chain;
mod client;
mod default_chain;
mod environment;
mod files;
mod filtered;
mod ini;
mod keys;
mod login;
mod one_profile;
mod proxy;
mod setting_names;
mod settings;
mod sso;
#[cfg(feature = "cli-core")]
mod steps;
mod web_identity;

use std::{fmt, future::Future, time::Duration};

use aws_credential_types::Credentials;

pub(super) use default_chain::fetch as default_chain;
pub(super) use environment::Environment;
pub(super) use files::Files;
pub(super) use proxy::ProxyUrl;
pub(super) use settings::{Explicit, Settings};
#[cfg(feature = "cli-core")]
pub(crate) use steps::without_files;

use super::{
    AssumeRole, CredentialProcess, Fetched, Fetching, Fingerprint, FingerprintEncoder, Identifying,
    Identity, Provider, Source, SourceError, SourceErrorClass,
    fingerprint::environment::{self as variables, Part},
    identity, instance_metadata,
    mfa::Mfa,
    portable::{PortableSource, Recipe},
    redact::redact,
    source_error::Cause,
    validate,
};
use chain::Chain;
use one_profile::{Base, Role, Sso};

/// A profile as a source. It is read from `~/.aws/config` and `~/.aws/credentials`, or from the files that
/// `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE` name.
///
/// It supports what the AWS CLI supports: keys with an expiry, `role_arn` with `source_profile` or
/// `credential_source`, `web_identity_token_file`, SSO, `credential_process`, and the session of `aws login`.
/// `docs/PROFILES.md` describes each setting.
///
/// ```
/// use shmcreds::Profile;
///
/// let source = Profile::new("production");
/// assert_eq!(format!("{source:?}"), r#"Profile("production")"#);
/// ```
#[derive(Clone)]
pub struct Profile {
    name: String,
    timeout: Duration,
    mfa: Option<Mfa>,
    environment: Environment,
}

impl Profile {
    /// The profile with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Profile {
            name: name.into(),
            timeout: Duration::from_secs(30),
            mfa: None,
            environment: Environment::real(),
        }
    }

    /// The profile that `AWS_PROFILE` or `AWS_DEFAULT_PROFILE` names, or `default`.
    pub fn selected() -> Self {
        Profile::new(Environment::real().profile().unwrap_or_else(|| "default".into()))
    }

    /// The name of the profile.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long one fetch may take, with all roles and programs: 1 ms to a day, 30 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The program that prints the code of the MFA device, as for [`AssumeRole::mfa_command`]. `mfa_serial` of the
    /// profile names the device. A profile with `mfa_serial` needs this method or [`mfa`](Self::mfa).
    pub fn mfa_command<S: Into<String>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.mfa = Some(Mfa::program(String::new(), argv));
        self
    }

    pub(super) fn with_mfa(self, mfa: Option<Mfa>) -> Self {
        Profile { mfa, ..self }
    }

    /// The same with a closure that gives the code.
    pub fn mfa<F, Fut, E>(mut self, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Cause>,
    {
        self.mfa = Some(Mfa::closure(String::new(), ask));
        self
    }

    /// How long the code may take: 30 s by default.
    pub fn mfa_timeout(mut self, timeout: Duration) -> Self {
        if let Some(mfa) = &mut self.mfa {
            mfa.set_timeout(timeout);
        }
        self
    }

    /// The Region for programs that use the profile. It comes from the first of these that sets it: the environment,
    /// the profile, the profiles that it names with `source_profile`, `[default]`.
    ///
    /// # Errors
    /// A value that is not a Region, with its file and line.
    pub fn region(&self) -> Result<Option<String>, SourceError> {
        let files = Files::read(&self.environment);
        let names = chain::names(&files, &self.name);
        let found = self.settings(&files, &names, "sts").map_err(misconfigured)?;
        Ok(found.region)
    }

    /// The text of a config file for programs that get the credentials in another way. It contains the settings of all
    /// profiles, without credentials and without settings that lead to credentials. The settings of this profile are
    /// those of `[default]`. It contains no secret.
    pub fn without_credentials(&self) -> String {
        filtered::config(&Files::read(&self.environment), &self.name)
    }

    /// The secrets in both files: keys, tokens, external ids, passwords. A log must not show them.
    pub fn secrets(&self) -> Vec<String> {
        filtered::secrets(&Files::read(&self.environment))
    }

    fn settings(&self, files: &Files, names: &[String], service: &str) -> Result<Settings, String> {
        Settings::resolve(&self.environment, files, names, service, Explicit::default())
    }

    async fn ask(&self) -> Result<Fetched, SourceError> {
        let files = Files::read(&self.environment);
        let chain = chain::resolve(&files, &self.name).map_err(misconfigured)?;
        let fetched = self.base(&files, &chain).await?;
        if chain.roles.is_empty() {
            return Ok(fetched);
        }
        let settings = self.settings(&files, &chain.names, "sts").map_err(misconfigured)?;
        let mut fetched = fetched;
        for role in &chain.roles {
            fetched = self.role(role, &settings, fetched.credentials)?.fetch().await?;
        }
        Ok(fetched)
    }

    async fn base(&self, files: &Files, chain: &Chain) -> Result<Fetched, SourceError> {
        let owner = chain.names.last().map_or("", String::as_str);
        let environment = &self.environment;
        match &chain.base {
            Base::Keys(keys) => Ok(Fetched::new(keys.clone())),
            Base::Environment => match keys::by_environment(environment).map_err(misconfigured)? {
                Some(keys) => Ok(Fetched::new(keys)),
                None => Err(misconfigured(format!(
                    "profile {owner:?} has credential_source = Environment, but AWS_ACCESS_KEY_ID is not set"
                ))),
            },
            Base::Container => Provider::container().fetch().await,
            Base::Instance => {
                instance_metadata::fetch(environment, files, &self.name).await.map(Fetched::new)
            }
            Base::WebIdentity(recipe) => {
                web_identity::fetch(recipe, environment, files, &chain.names).await
            }
            Base::Sso(recipe) => {
                let names = std::slice::from_ref(chain.names.last().unwrap_or(&self.name));
                sso::fetch(recipe, &sso::Context { environment, files, names }).await
            }
            Base::Login(session) => {
                let mut settings =
                    self.settings(files, &chain.names, "signin").map_err(misconfigured)?;
                settings.settle_region(environment, None).await.map_err(misconfigured)?;
                login::fetch(session, owner, &settings, environment).await
            }
            Base::Process(command, account) => {
                self.process(owner, command, account.as_deref()).await
            }
        }
    }

    /// A shell runs the command line, as in every SDK except botocore: `~` and `$HOME` are common in it.
    async fn process(
        &self,
        owner: &str,
        command: &str,
        account: Option<&str>,
    ) -> Result<Fetched, SourceError> {
        let process = CredentialProcess::new(["/bin/sh", "-c", command]).timeout(self.timeout);
        let mut fetched = process
            .fetch()
            .await
            .map_err(|failure| failure.explained(&format!("profile {owner:?}")))?;
        if let (None, Some(account)) = (fetched.credentials.account_id(), account) {
            let set = &fetched.credentials;
            let mut all = Credentials::builder()
                .access_key_id(set.access_key_id())
                .secret_access_key(set.secret_access_key())
                .account_id(account)
                .provider_name("credential_process");
            all.set_session_token(set.session_token().map(str::to_owned));
            all.set_expiry(set.expiry());
            fetched.credentials = all.build();
        }
        Ok(fetched)
    }

    fn role(
        &self,
        role: &Role,
        settings: &Settings,
        base: Credentials,
    ) -> Result<AssumeRole, SourceError> {
        let mut recipe = AssumeRole::new(&role.role_arn).resolved(settings.clone(), base);
        recipe.inputs.duration = role.duration;
        recipe.inputs.external_id.clone_from(&role.external_id);
        if let Some(name) = &role.session_name {
            recipe = recipe.session_name(name);
        }
        if let Some(serial) = &role.mfa_serial {
            let mut mfa = self.mfa.clone().ok_or_else(|| {
                misconfigured(format!(
                    "the role {} ({}) needs a code of the MFA device {serial} (mfa_serial); give the program that \
                     prints it, with --mfa-command or Profile::mfa_command",
                    role.role_arn, role.place
                ))
            })?;
            mfa.serial_number.clone_from(serial);
            recipe.mfa = Some(mfa);
        }
        recipe
            .validate()
            .map_err(|problem| misconfigured(format!("{}: {}", role.place, redact(&problem))))?;
        Ok(recipe)
    }

    async fn identity(&self, credentials: Option<Credentials>) -> Result<Identity, SourceError> {
        let credentials = match credentials {
            Some(credentials) => credentials,
            None => self.ask().await?.credentials,
        };
        let files = Files::read(&self.environment);
        let names = chain::names(&files, &self.name);
        let settings = self.settings(&files, &names, "sts").map_err(misconfigured)?;
        identify(settings, &self.environment, credentials).await
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Profile").field(&self.name).finish()
    }
}

impl Source for Profile {
    fn describe(&self) -> String {
        format!("profile {:?}", self.name)
    }

    /// All parts of the environment count, because a profile may use any of them.
    fn fingerprint(&self) -> Fingerprint {
        let encoder = FingerprintEncoder::new("profile").text("name", &self.name);
        let encoder = match &self.mfa {
            Some(mfa) => mfa.encode(encoder),
            None => encoder,
        };
        variables::encode(Part::ALL, encoder).finish()
    }

    fn host_bound(&self) -> Option<String> {
        Some("a profile may lead to what identifies this host".into())
    }

    fn validate(&self) -> Result<(), String> {
        validate::profile(&self.name)?;
        self.mfa.as_ref().map_or(Ok(()), Mfa::validate)?;
        validate::timeout("timeout", Some(self.timeout))
    }

    /// The limit, the time for an MFA code, and the time to kill a program.
    fn timeout(&self) -> Duration {
        let code = self.mfa.as_ref().map_or(Duration::ZERO, Mfa::timeout);
        self.timeout.saturating_add(code).saturating_add(Duration::from_secs(1))
    }

    fn identify(&self, credentials: Option<Credentials>) -> Identifying<'_> {
        Box::pin(self.identity(credentials))
    }

    fn portable(&self) -> Option<PortableSource> {
        let mfa = match &self.mfa {
            Some(mfa) => Some(mfa.portable()?),
            None => None,
        };
        let (name, timeout) = (self.name.clone(), self.timeout);
        Some(PortableSource(Recipe::Profile { name, timeout, mfa }))
    }

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(self.ask())
    }
}

/// The settings of a service, of the environment and of `profile`. Without `profile`, the environment names one.
pub(super) fn settings_of(
    profile: Option<&str>,
    service: &str,
    explicit: Explicit<'_>,
) -> Result<Settings, String> {
    let environment = Environment::real();
    let files = Files::read(&environment);
    let name = profile.map(str::to_owned).or_else(|| environment.profile());
    let names = chain::names(&files, name.as_deref().unwrap_or("default"));
    Settings::resolve(&environment, &files, &names, service, explicit)
}

/// Asks the STS that the environment names whose credentials these are.
pub(crate) async fn identity_by_environment(
    credentials: Credentials,
) -> Result<Identity, SourceError> {
    let settings = settings_of(None, "sts", Explicit::default()).map_err(misconfigured)?;
    identify(settings, &Environment::real(), credentials).await
}

async fn identify(
    mut settings: Settings,
    environment: &Environment,
    credentials: Credentials,
) -> Result<Identity, SourceError> {
    settings.settle_region(environment, None).await.map_err(misconfigured)?;
    let config = settings.sts(Some(credentials)).map_err(misconfigured)?;
    identity::ask(config.build()).await
}

/// Fetches a set for a role of IAM Identity Center, without a profile.
pub(super) async fn sso_role(
    start_url: String,
    region: String,
    account_id: String,
    role_name: String,
) -> Result<Fetched, SourceError> {
    let environment = Environment::real();
    let files = Files::read(&environment);
    let recipe = Sso { session: None, start_url, region, account_id, role_name };
    sso::fetch(&recipe, &sso::Context { environment: &environment, files: &files, names: &[] })
        .await
}

/// Fetches a set for the role that the environment of a pod names.
pub(super) async fn pod_role() -> Result<Fetched, SourceError> {
    let environment = Environment::real();
    let recipe = web_identity::by_environment(&environment).map_err(misconfigured)?;
    let recipe = recipe.ok_or_else(|| {
        misconfigured("AWS_WEB_IDENTITY_TOKEN_FILE is not set; it must name the token file")
    })?;
    let names = [environment.profile().unwrap_or_else(|| "default".into())];
    web_identity::fetch(&recipe, &environment, &Files::read(&environment), &names).await
}

/// The text may contain names and paths. It must contain no value that is not redacted.
pub(super) fn misconfigured(text: impl AsRef<str>) -> SourceError {
    SourceError::of_known_text(SourceErrorClass::Misconfigured, text)
}
