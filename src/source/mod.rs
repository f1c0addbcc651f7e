//! Sources: recipes for a new set.
//!
//! A source is data, not a live client. It holds no socket, no thread and no runtime, so it survives `fork`.
//! The elected process builds a client from it, inside the short-lived runtime of the refresh, and drops the
//! client after the fetch.

mod assume_role;
#[cfg(feature = "fleet-kms")]
mod base_identity;
mod causes;
mod class;
mod clock_skew;
#[cfg(feature = "cli-core")]
pub(crate) mod command_file;
mod container_endpoint;
mod credential_process;
mod fingerprint;
mod http;
mod identified;
mod identity;
mod instance_metadata;
mod instance_role;
mod instance_token;
mod iot_core;
#[cfg(feature = "fleet-kms")]
mod kms;
mod manual;
mod mfa;
mod portable;
mod profile;
mod program;
mod provider;
mod ready_made;
mod redact;
mod refusal_recorder;
mod regions;
mod remade;
mod retry_after;
mod server_time;
mod shown_set;
mod source_error;
mod timestamp;
pub(crate) mod user_file;
mod validate;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;

pub use assume_role::AssumeRole;
pub(crate) use assume_role::pooled::environment as role_environment;
pub(crate) use assume_role::{PackedRole, Packing};
#[cfg(feature = "fleet-kms")]
#[doc(hidden)]
pub use base_identity::BaseIdentity;
pub use class::SourceErrorClass;
pub use credential_process::CredentialProcess;
#[cfg(feature = "cli-core")]
pub(crate) use fingerprint::environment::decides_identity;
pub use fingerprint::{Fingerprint, FingerprintEncoder};
#[doc(hidden)]
pub use identified::Identified;
pub use identity::{Identifying, Identity};
#[cfg(feature = "cli-core")]
pub(crate) use instance_metadata::told as instance_metadata_told;
pub use iot_core::{IotCore, Pem};
#[cfg(feature = "fleet-kms")]
pub(crate) use kms::{Decryption, decrypt};
pub use manual::ManualSource;
#[doc(hidden)]
pub use portable::PortableSource;
pub(crate) use portable::to_json;
pub use profile::Profile;
pub(crate) use profile::identity_by_environment;
#[cfg(feature = "cli-core")]
pub(crate) use profile::without_files as without_credentials_file;
pub use provider::Provider;
pub use regions::FailedRegions;
pub(crate) use regions::with_failed_regions;
pub(crate) use remade::source as remade;
pub(crate) use server_time::{Exchange, by_clock};
use shown_set::ShownSet;
pub(crate) use shown_set::tail;
pub use source_error::SourceError;
pub(crate) use validate::{LONGEST_FETCH, signing_keys};

/// The future that [`Source::fetch`] returns.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, SourceError>> + Send + 'a>>;

/// A recipe for a new set of credentials.
///
/// Ready-made sources are [`AssumeRole`], [`Profile`], [`IotCore`], [`CredentialProcess`] and [`Provider`].
/// [`Provider`] takes any `ProvideCredentials` of the SDK. Your own source needs two methods:
///
/// ```
/// use shmcreds::{Fetched, Fetching, Source};
/// # use aws_credential_types::Credentials;
/// # async fn ask_the_vault() -> Result<Credentials, shmcreds::SourceError> { Ok(Credentials::for_tests()) }
///
/// #[derive(Debug)]
/// struct Vault;
///
/// impl Source for Vault {
///     fn describe(&self) -> String {
///         "vault role web".into()
///     }
///
///     fn fetch(&self) -> Fetching<'_> {
///         Box::pin(async { Ok(Fetched::new(ask_the_vault().await?)) })
///     }
/// }
/// # assert_eq!(Vault.validate(), Ok(()));
/// ```
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// Describes the source for people, in one line. It must contain no secret.
    fn describe(&self) -> String;

    /// Identifies whose credentials the source gives. All processes compute the same fingerprint for one
    /// identity, and another fingerprint for another identity. A process computes it when it creates a session
    /// or attaches to one with a source. If the two fingerprints differ, the attach fails.
    ///
    /// By default it is the hash of the [description](Self::describe). If other inputs decide the identity
    /// (variables, files, secrets), encode them with a [`FingerprintEncoder`].
    fn fingerprint(&self) -> Fingerprint {
        FingerprintEncoder::new("described").text("description", &self.describe()).finish()
    }

    /// Checks the inputs. It is called once, when the session is built. By default it checks nothing.
    ///
    /// # Errors
    /// A sentence with the field, the problem of its value, and the rule.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// The longest time that one fetch may take. After it, the fetch fails. If the elected process has not
    /// published a result a few seconds later, another process is elected. 15 s by default.
    fn timeout(&self) -> Duration {
        Duration::from_secs(15)
    }

    /// Whether the sets are known to come from STS for a role. A role that is assumed with them is valid for
    /// at most an hour. False by default.
    fn is_role(&self) -> bool {
        false
    }

    /// The ARN of the role that it assumes, for people.
    #[doc(hidden)]
    fn role_arn(&self) -> Option<&str> {
        None
    }

    /// Why its sets identify this host, so that no other host may use them; `None` if any host may. It matters only to
    /// sessions that share their set with a fleet (feature `fleet`). `None` unless the source says otherwise.
    fn host_bound(&self) -> Option<String> {
        None
    }

    /// Whether only the program can ask it, after [`SharedSession::elect`](crate::SharedSession::elect): the library never
    /// calls [`fetch`](Self::fetch) then. False unless the source says otherwise; true for a
    /// [`ManualSource`](crate::ManualSource).
    fn is_manual(&self) -> bool {
        false
    }

    /// The source as plain values, of which another program makes it again; `None` for one that holds closures.
    #[doc(hidden)]
    fn portable(&self) -> Option<PortableSource> {
        None
    }

    /// The identity that the source has before it has a set: that which assumes its role, or that of the environment.
    #[cfg(feature = "fleet-kms")]
    #[doc(hidden)]
    fn base_identity(&self) -> BaseIdentity<'_> {
        BaseIdentity::default()
    }

    /// Asks STS whose `credentials` these are. Without `credentials`, it asks for the identity of the source
    /// itself. For a source that assumes a role, that is the identity that assumes it.
    ///
    /// By default it asks the STS that the environment names, and the identity of the source is that of its sets.
    fn identify(&self, credentials: Option<Credentials>) -> Identifying<'_> {
        Box::pin(async {
            let credentials = match credentials {
                Some(credentials) => credentials,
                None => self.fetch().await?.credentials,
            };
            identity_by_environment(credentials).await
        })
    }

    /// Fetches a new set. Only the elected process calls it, inside a tokio runtime.
    fn fetch(&self) -> Fetching<'_>;
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn describe(&self) -> String {
        (**self).describe()
    }

    fn fingerprint(&self) -> Fingerprint {
        (**self).fingerprint()
    }

    fn validate(&self) -> Result<(), String> {
        (**self).validate()
    }

    fn timeout(&self) -> Duration {
        (**self).timeout()
    }

    fn is_role(&self) -> bool {
        (**self).is_role()
    }

    fn role_arn(&self) -> Option<&str> {
        (**self).role_arn()
    }

    fn host_bound(&self) -> Option<String> {
        (**self).host_bound()
    }

    fn is_manual(&self) -> bool {
        (**self).is_manual()
    }

    fn portable(&self) -> Option<PortableSource> {
        (**self).portable()
    }

    #[cfg(feature = "fleet-kms")]
    fn base_identity(&self) -> BaseIdentity<'_> {
        (**self).base_identity()
    }

    fn identify(&self, credentials: Option<Credentials>) -> Identifying<'_> {
        (**self).identify(credentials)
    }

    fn fetch(&self) -> Fetching<'_> {
        (**self).fetch()
    }
}

impl From<Credentials> for Fetched {
    fn from(credentials: Credentials) -> Self {
        Fetched::new(credentials)
    }
}

/// A property of credentials without a known expiry. It says which keys they are, and which setting is missing.
#[derive(Clone, Debug)]
pub(crate) struct KeysOf(pub(crate) String);

/// A new set from a source.
#[non_exhaustive]
pub struct Fetched {
    /// The credentials, with their expiry.
    pub credentials: Credentials,
    /// The time of the server when it answered: its `Date` header, if there was one.
    pub server_time: Option<SystemTime>,
    /// When the request was sent and when the answer arrived, if the source knows it better than its caller.
    pub(crate) exchange: Option<Exchange>,
}

/// No secret.
impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("credentials", &ShownSet(&self.credentials))
            .field("server_time", &self.server_time)
            .finish_non_exhaustive()
    }
}

impl Fetched {
    /// A set from a source without a known server time.
    pub fn new(credentials: Credentials) -> Self {
        Fetched { credentials, server_time: None, exchange: None }
    }

    /// Adds the server's time: the `Date` header of an answer to a request of this fetch.
    ///
    /// It counts as old as the start of the fetch. If the clocks differ, the time since that start is subtracted
    /// from the life of the set. So it does not matter how late you read the header, or how slow the body was.
    pub fn server_time(mut self, time: Option<SystemTime>) -> Self {
        self.server_time = time;
        self
    }

    /// Adds the server's time, and when exactly it was read.
    fn seen(self, seen: server_time::Seen) -> Self {
        Fetched { server_time: seen.date, exchange: Some(seen.exchange), ..self }
    }

    /// Adds when the source was asked and had answered, unless the source has added it.
    pub(crate) fn within(mut self, exchange: Exchange) -> Self {
        self.exchange.get_or_insert(exchange);
        self
    }
}
