//! A source that only the program can ask.

use std::{fmt, time::Duration};

use aws_credential_types::Credentials;

use super::{
    Fetching, Fingerprint, FingerprintEncoder, Identifying, Source, SourceError, SourceErrorClass,
    identity_by_environment, validate,
};

/// A source that the library cannot ask: the program makes each call itself, after
/// [`SharedSession::elect`](crate::SharedSession::elect). For a call that is synchronous, belongs to a thread, or is
/// written in another language.
///
/// In a process of such a session, [`credentials`](crate::SharedSession::credentials) waits for a set that
/// another call of `elect` publishes, and makes no call.
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use aws_credential_types::Credentials;
/// use shmcreds::{Election, ManualSource, SharedSession};
///
/// # fn ask_the_vault() -> Result<Credentials, shmcreds::SourceError> {
/// #     let hour = SystemTime::now() + Duration::from_secs(3600);
/// #     Ok(Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "doc"))
/// # }
/// # let name = format!("doc-manual-{}", std::process::id());
/// let source = ManualSource::new("vault role web").timeout(Duration::from_secs(20));
/// let session = SharedSession::builder(name).source(source).create()?;
///
/// let set = match session.elect()? {
///     Election::Elected(term) => match ask_the_vault() {
///         Ok(credentials) => term.publish(credentials)?,
///         Err(failure) => return term.fail(failure),
///     },
///     Election::Valid(set) => set,
/// };
/// assert_eq!(set.credentials().access_key_id(), "ASIAEXAMPLE");
/// # Ok::<(), shmcreds::Error>(())
/// ```
#[derive(Clone)]
pub struct ManualSource {
    description: String,
    fingerprint: Option<Fingerprint>,
    timeout: Duration,
}

impl ManualSource {
    /// A source whose `description` stands for the identity: 1 to 256 printable characters, no secret, the same in
    /// every process of the session, and another one for another identity.
    pub fn new(description: impl Into<String>) -> Self {
        ManualSource {
            description: description.into(),
            fingerprint: None,
            timeout: Duration::from_secs(15),
        }
    }

    /// Stands for the identity in place of the description: for a source of many inputs, or of secret ones. Make it with
    /// a [`FingerprintEncoder`](crate::FingerprintEncoder), or take that of another [`Source`](crate::Source) whose
    /// sets the program gets itself.
    pub fn fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    /// How long one call may take: 1 ms to a day, 15 s by default. A term lasts 5 s longer. Then other processes replace
    /// its holder, and it can publish no more.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl fmt::Debug for ManualSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualSource").field(&self.description).finish()
    }
}

impl Source for ManualSource {
    fn describe(&self) -> String {
        format!("manual {:?}", self.description)
    }

    fn fingerprint(&self) -> Fingerprint {
        let ManualSource { description, fingerprint, timeout: _ } = self;
        let described =
            || FingerprintEncoder::new("manual").text("description", description).finish();
        fingerprint.unwrap_or_else(described)
    }

    fn validate(&self) -> Result<(), String> {
        validate::description("description", &self.description)?;
        validate::timeout("timeout", Some(self.timeout))
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn is_manual(&self) -> bool {
        true
    }

    fn identify(&self, credentials: Option<Credentials>) -> Identifying<'_> {
        Box::pin(async {
            match credentials {
                Some(credentials) => identity_by_environment(credentials).await,
                None => Err(only_by_the_program()),
            }
        })
    }

    /// Always the error that says who asks this source.
    fn fetch(&self) -> Fetching<'_> {
        Box::pin(async { Err(only_by_the_program()) })
    }
}

fn only_by_the_program() -> SourceError {
    let text = "only the program can ask a manual source: call SharedSession::elect()";
    SourceError::new(SourceErrorClass::Misconfigured, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_the_description_or_the_fingerprint() {
        let of = |text: &str| ManualSource::new(text);
        assert_eq!(of("a").fingerprint_of(), of("a").timeout(Duration::MAX).fingerprint_of());
        assert_ne!(of("a").fingerprint_of(), of("b").fingerprint_of());
        assert_eq!(of("a").fingerprint([7; 32]).fingerprint_of(), [7; 32]);
    }

    impl ManualSource {
        /// The trait's method, which the builder's of the same name hides.
        fn fingerprint_of(&self) -> Fingerprint {
            Source::fingerprint(self)
        }
    }

    #[test]
    fn wrong_inputs_are_named() {
        for text in ["", "two\nlines", &"x".repeat(257)] {
            let error = ManualSource::new(text).validate().unwrap_err();
            assert!(error.starts_with("description "), "{error}");
        }
        let error = ManualSource::new("x").timeout(Duration::ZERO).validate().unwrap_err();
        assert!(error.starts_with("timeout "), "{error}");
    }
}
