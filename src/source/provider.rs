//! Any `ProvideCredentials` of the SDK as a source.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};

use super::{
    Fetched, Fetching, Fingerprint, FingerprintEncoder, Source, SourceError,
    fingerprint::environment::{self, Part},
    portable::{PortableSource, Recipe},
    source_error::Cause,
    validate,
};

type Making = Pin<Box<dyn Future<Output = SharedCredentialsProvider> + Send>>;

/// A source that asks any credentials provider of the SDK.
///
/// The closure makes the provider, in the elected process and inside the runtime of that one refresh. So the provider
/// may open sockets and read files. Let the closure capture only plain data.
///
/// ```
/// use aws_credential_types::Credentials;
/// use shmcreds::Provider;
///
/// let source = Provider::new("vault role web", || async {
///     // In a real program: the default chain, a web identity provider, or your own client.
///     Credentials::for_tests()
/// });
/// assert_eq!(format!("{source:?}"), r#"Provider("vault role web")"#);
/// ```
#[derive(Clone)]
pub struct Provider {
    description: String,
    timeout: Duration,
    /// Whether the sets come from STS for a role.
    role: bool,
    /// The problem with the inputs of a ready-made provider.
    problem: Option<String>,
    /// The inputs of a ready-made provider.
    inputs: Option<Inputs>,
    make: Arc<dyn Fn() -> Making + Send + Sync>,
}

/// Everything that decides whose credentials a ready-made provider gives.
#[derive(Clone)]
pub(super) struct Inputs {
    pub(super) source: &'static str,
    pub(super) values: Vec<(&'static str, String)>,
    pub(super) environment: &'static [Part],
}

impl Provider {
    /// A provider that `make` makes for each fetch.
    ///
    /// `description` identifies the credentials: 1 to 256 printable characters, without a secret. It must be the same
    /// in every process of the session, and different for another identity.
    pub fn new<F, Fut, P>(description: impl Into<String>, make: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = P> + Send + 'static,
        P: ProvideCredentials + 'static,
    {
        let make = move || -> Making {
            let provider = make();
            Box::pin(async { SharedCredentialsProvider::new(provider.await) })
        };
        Provider {
            description: description.into(),
            timeout: Duration::from_secs(15),
            role: false,
            problem: None,
            inputs: None,
            make: Arc::new(make),
        }
    }

    /// A source whose closure gives the set itself.
    ///
    /// ```
    /// use aws_credential_types::Credentials;
    /// use shmcreds::Provider;
    ///
    /// let source = Provider::from_fn("vault role web", || async {
    ///     if false {
    ///         return Err("the vault is sealed");
    ///     }
    ///     Ok(Credentials::for_tests())
    /// });
    /// ```
    pub fn from_fn<F, Fut, E>(description: impl Into<String>, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Credentials, E>> + Send + 'static,
        E: Into<Cause>,
    {
        Provider::new(description, move || {
            let answer = ask();
            async { Answered(answer.await.map_err(|error| Arc::from(error.into()))) }
        })
    }

    /// How long one fetch may take, with the making of the provider: 1 ms to a day, 15 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The sets come from STS for a role.
    pub(super) fn of_a_role(mut self) -> Self {
        self.role = true;
        self
    }

    /// Adds inputs that the description does not contain.
    pub(super) fn made_of(mut self, inputs: Inputs) -> Self {
        self.inputs = Some(inputs);
        self
    }

    /// Keeps the problem with the inputs until [`validate`](Source::validate).
    pub(super) fn checked(mut self, inputs: Result<(), String>) -> Self {
        self.problem = inputs.err();
        self
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    pub(super) async fn make(&self) -> SharedCredentialsProvider {
        (self.make)().await
    }

    async fn ask(&self) -> Result<Fetched, SourceError> {
        let credentials = self
            .make()
            .await
            .provide_credentials()
            .await
            .map_err(|error| SourceError::from_error(&self.description, &error))?;
        Ok(Fetched::new(credentials))
    }
}

/// A provider with a fixed answer.
struct Answered(Result<Credentials, Arc<dyn std::error::Error + Send + Sync>>);

/// The SDK wants one; nobody sees it.
impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").finish_non_exhaustive()
    }
}

impl ProvideCredentials for Answered {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let answer = self.0.clone();
        future::ProvideCredentials::ready(answer.map_err(CredentialsError::provider_error))
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Provider").field(&self.description).finish()
    }
}

impl Source for Provider {
    fn describe(&self) -> String {
        format!("provider {:?}", self.description)
    }

    fn fingerprint(&self) -> Fingerprint {
        // A new field does not compile until this function handles it.
        let Provider { description, timeout: _, role: _, problem: _, inputs, make: _ } = self;
        let Some(Inputs { source, values, environment }) = inputs else {
            return FingerprintEncoder::new("provider").text("description", description).finish();
        };
        let begun = FingerprintEncoder::new(source);
        let encoder = values.iter().fold(begun, |encoder, (tag, value)| encoder.text(tag, value));
        environment::encode(environment, encoder).finish()
    }

    fn validate(&self) -> Result<(), String> {
        if let Some(problem) = &self.problem {
            return Err(problem.clone());
        }
        validate::description("description", &self.description)?;
        validate::timeout("timeout", Some(self.timeout))
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Of a ready-made one only: the inputs say which.
    fn portable(&self) -> Option<PortableSource> {
        let Inputs { source, values, environment: _ } = self.inputs.as_ref()?;
        let values = values.iter().map(|(_, value)| value.clone()).collect();
        let (source, timeout) = ((*source).to_owned(), self.timeout);
        Some(PortableSource(Recipe::Ready { source, values, timeout }))
    }

    fn is_role(&self) -> bool {
        self.role
    }

    fn host_bound(&self) -> Option<String> {
        match self.inputs.as_ref()?.source {
            "instance-metadata" => Some("the instance metadata identify this host".into()),
            "container" => Some("the container endpoint identifies this host".into()),
            "default-chain" => {
                Some("the default chain may lead to what identifies this host".into())
            }
            "profile" => Some("a profile may lead to what identifies this host".into()),
            _ => None,
        }
    }

    fn fetch(&self) -> Fetching<'_> {
        Box::pin(self.ask())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::source::SourceErrorClass;

    #[tokio::test]
    async fn the_set_of_the_provider_is_fetched() {
        let expiry = SystemTime::now() + Duration::from_secs(900);
        let source = Provider::new("test", move || async move {
            Credentials::new("id", "secret", None, Some(expiry), "test")
        });
        let fetched = source.fetch().await.unwrap();
        assert_eq!(fetched.credentials.expiry(), Some(expiry));
        assert_eq!(fetched.server_time, None);
    }

    #[derive(Debug)]
    struct Broken;

    impl ProvideCredentials for Broken {
        fn provide_credentials<'a>(
            &'a self,
        ) -> aws_credential_types::provider::future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let error = CredentialsError::not_loaded("nothing configured");
            aws_credential_types::provider::future::ProvideCredentials::ready(Err(error))
        }
    }

    #[tokio::test]
    async fn a_failure_names_the_provider_and_the_cause() {
        let failure = Provider::new("broken", || async { Broken }).fetch().await.unwrap_err();
        assert_eq!(failure.class(), SourceErrorClass::Misconfigured);
        assert!(failure.message().starts_with("broken: "), "{failure}");
        assert!(failure.message().ends_with("nothing configured"), "{failure}");
    }

    #[tokio::test]
    async fn a_closure_gives_sets_and_failures() {
        let expiry = SystemTime::now() + Duration::from_secs(900);
        let give = move || async move {
            Ok::<_, &str>(Credentials::new("id", "secret", None, Some(expiry), "test"))
        };
        let fetched = Provider::from_fn("test", give).fetch().await.unwrap();
        assert_eq!(fetched.credentials.expiry(), Some(expiry));
        let refuse = || async { Err::<Credentials, _>("the vault is sealed") };
        let failure = Provider::from_fn("test", refuse).fetch().await.unwrap_err();
        assert_eq!(failure.class(), SourceErrorClass::Transient);
        assert!(failure.message().ends_with("the vault is sealed"), "{failure}");
        let refuse = || async {
            Err::<Credentials, _>(
                SourceError::new(SourceErrorClass::Terminal, "no").with_code("Never"),
            )
        };
        let failure = Provider::from_fn("test", refuse).fetch().await.unwrap_err();
        assert_eq!((failure.class(), failure.code()), (SourceErrorClass::Terminal, Some("Never")));
    }

    #[test]
    fn invalid_inputs_are_named() {
        for text in ["", "two\nlines", &"x".repeat(257)] {
            let error = Provider::new(text, || async { Broken }).validate().unwrap_err();
            assert!(error.starts_with("description "), "{error}");
        }
        let source = Provider::new("x", || async { Broken }).timeout(Duration::ZERO);
        assert!(source.validate().unwrap_err().starts_with("timeout "));
    }
}
