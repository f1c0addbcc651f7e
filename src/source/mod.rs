//! Sources: recipes for a new set.
//!
//! A source is data, not a live client: it holds no socket, no thread and no runtime, so it survives
//! `fork`. The elected process builds what it needs from the recipe, inside the short-lived runtime
//! that the refresh gives it, and drops it again.

mod assume_role;
mod causes;
mod class;
mod clock_skew;
mod container_endpoint;
mod credential_process;
mod fingerprint;
mod http;
mod identity;
mod instance_metadata;
mod iot_core;
mod manual;
mod mfa;
mod profile;
mod program;
mod provider;
mod ready_made;
mod redact;
mod refusal_recorder;
mod server_time;
mod source_error;
mod timestamp;
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
pub use class::SourceErrorClass;
pub use credential_process::CredentialProcess;
pub use fingerprint::{Fingerprint, FingerprintEncoder};
pub use identity::{Identifying, Identity};
pub use iot_core::{IotCore, Pem};
pub use manual::ManualSource;
pub use profile::Profile;
pub(crate) use profile::identity_by_environment;
pub use provider::Provider;
pub(crate) use server_time::{Exchange, by_clock};
pub use source_error::SourceError;
pub(crate) use validate::LONGEST_FETCH;

/// The answer of a source, on its way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, SourceError>> + Send + 'a>>;

/// A recipe for a new set of credentials.
///
/// [`AssumeRole`], [`IotCore`], [`CredentialProcess`] and [`Provider`] are the ready-made ones; [`Provider`] takes any
/// `ProvideCredentials` of the SDK. A source of your own has two methods:
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
    /// Says what the source is, in one line and without any secret, for people.
    fn describe(&self) -> String;

    /// Stands for whose credentials these are: the same in every process for one identity, and another one
    /// for another. Two sessions that differ here cannot meet under one name. It is taken when a session is
    /// created or attached to, by the process that does so.
    ///
    /// By default it is that of the [description](Self::describe). A source that reads more than that says
    /// (variables, files, secrets) encodes it with a [`FingerprintEncoder`].
    fn fingerprint(&self) -> Fingerprint {
        FingerprintEncoder::new("described").text("description", &self.describe()).finish()
    }

    /// Checks the inputs, once, when the session is built. By default there is nothing to check.
    ///
    /// # Errors
    /// A sentence that names the field, the value's problem and the rule.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// The longest that one fetch may take: it is given up then, and a process that has not answered
    /// by a few seconds later loses the election to another. 15 s by default.
    fn timeout(&self) -> Duration {
        Duration::from_secs(15)
    }

    /// Whether its sets are known to be those of a role that STS gave. A role that is assumed with them lives
    /// an hour at most. False unless the source says otherwise.
    fn is_role(&self) -> bool {
        false
    }

    /// Whether only the program can ask it, after [`SharedSession::elect`](crate::SharedSession::elect): the library never
    /// calls [`fetch`](Self::fetch) then. False unless the source says otherwise; true for a
    /// [`ManualSource`](crate::ManualSource).
    fn is_manual(&self) -> bool {
        false
    }

    /// Asks STS whose `credentials` these are; without any, who the source itself is: who assumes the
    /// role, for one that does. By default the STS that the environment names is asked, and a source is
    /// who its sets are of.
    fn identify(&self, credentials: Option<Credentials>) -> Identifying<'_> {
        Box::pin(async {
            let credentials = match credentials {
                Some(credentials) => credentials,
                None => self.fetch().await?.credentials,
            };
            identity_by_environment(credentials).await
        })
    }

    /// Fetches a new set. Called inside a tokio runtime, by the elected process only.
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

    fn is_manual(&self) -> bool {
        (**self).is_manual()
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

/// A property of credentials whose expiry is not known: which keys they are, and how to say when they expire.
#[derive(Clone, Debug)]
pub(crate) struct KeysOf(pub(crate) String);

/// A new set, as the source gave it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// The credentials, with their expiry.
    pub credentials: Credentials,
    /// The server's own time when it answered, from its `Date` header, if it showed one.
    pub server_time: Option<SystemTime>,
    /// When the server was asked and had answered, where the source knows it better than its caller.
    pub(crate) exchange: Option<Exchange>,
}

impl Fetched {
    /// A set from a source that does not show its time.
    pub fn new(credentials: Credentials) -> Self {
        Fetched { credentials, server_time: None, exchange: None }
    }

    /// Adds the server's time: the `Date` of an answer to what was asked during this fetch. It may be as old
    /// as the fetch, and what has passed since that began is taken off the life of the set where the clocks
    /// differ; so it does not matter how late it is given, or how long the answer's body took.
    pub fn server_time(mut self, time: Option<SystemTime>) -> Self {
        self.server_time = time;
        self
    }

    /// Adds the server's time, with when exactly it was seen.
    fn seen(self, seen: server_time::Seen) -> Self {
        Fetched { server_time: seen.date, exchange: Some(seen.exchange), ..self }
    }

    /// Adds when the source was asked and had answered, unless it said so itself.
    pub(crate) fn within(mut self, exchange: Exchange) -> Self {
        self.exchange.get_or_insert(exchange);
        self
    }
}
