//! Why a source gave no set: one class to act on, one text without secrets.

use std::{error::Error, fmt, sync::Arc};

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_types::error::ErrorMetadata;
use aws_types::request_id::RequestId;

use crate::error::ErrorKind;

/// Any error of the user's.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// Service error codes that trying again cannot help: somebody has to change a policy, a parameter
/// or the base credentials first. Every other code (throttling, server errors) may pass.
const TERMINAL_CODES: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IDPRejectedClaim",
    "IDPRejectedClaimException",
    "IncompleteSignature",
    "InvalidAction",
    "InvalidClientTokenId",
    "InvalidIdentityToken",
    "InvalidIdentityTokenException",
    "InvalidParameterCombination",
    "InvalidParameterValue",
    "InvalidQueryParameter",
    "MalformedPolicyDocument",
    "MalformedPolicyDocumentException",
    "MalformedQueryString",
    "MissingAction",
    "MissingAuthenticationToken",
    "MissingParameter",
    "OptInRequired",
    "PackedPolicyTooLarge",
    "PackedPolicyTooLargeException",
    "RegionDisabled",
    "RegionDisabledException",
    "SignatureDoesNotMatch",
    "UnauthorizedException",
    "UnrecognizedClientException",
    "ValidationError",
    "ValidationException",
];

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureClass {
    /// It cannot: access denied, an invalid request, expired base credentials.
    Terminal,
    /// It may: a time-out, throttling, a server error, no connection.
    Transient,
}

impl FailureClass {
    fn of_code(code: &str) -> Self {
        if TERMINAL_CODES.contains(&code) { Self::Terminal } else { Self::Transient }
    }
}

impl From<FailureClass> for ErrorKind {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Terminal => ErrorKind::SourceTerminal,
            FailureClass::Transient => ErrorKind::SourceTransient,
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminal => "terminal",
            Self::Transient => "transient",
        })
    }
}

/// Why a source gave no set. Its text is free of secrets: whatever looks like one is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    class: FailureClass,
    code: Option<String>,
    request_id: Option<String>,
    message: String,
}

impl Failure {
    /// A failure of that class. Anything in `message` with the shape of a key or a token becomes
    /// `[redacted]`.
    pub fn new(class: FailureClass, message: impl AsRef<str>) -> Self {
        Failure { class, code: None, request_id: None, message: redact(message.as_ref()) }
    }

    /// Adds the service's error code, for example `AccessDenied`.
    pub fn with_code(mut self, code: impl AsRef<str>) -> Self {
        self.code = Some(redact(code.as_ref()));
        self
    }

    /// Adds the service's request id, which AWS Support asks for.
    pub fn with_request_id(mut self, request_id: impl AsRef<str>) -> Self {
        self.request_id = Some(redact(request_id.as_ref()));
        self
    }

    /// Whether trying again can help.
    pub fn class(&self) -> FailureClass {
        self.class
    }

    /// The service's error code, if a service answered.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The service's request id, if a service answered.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// What happened, in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Puts `reason` in front of the message.
    pub(super) fn explained(mut self, reason: &str) -> Self {
        self.message = format!("{reason}: {}", self.message);
        self
    }

    /// Takes a value out of the message that the caller knows to be secret.
    pub(super) fn without(mut self, secret: &str) -> Self {
        if !secret.is_empty() {
            self.message = self.message.replace(secret, "[redacted]");
        }
        self
    }

    /// A refusal that a service explained.
    pub(super) fn from_service(answer: &ErrorMetadata) -> Option<Self> {
        let code = answer.code()?;
        let message = answer.message().unwrap_or("the service gave no reason");
        let failure = Failure::new(FailureClass::of_code(code), message).with_code(code);
        Some(match answer.request_id() {
            Some(id) => failure.with_request_id(id),
            None => failure,
        })
    }

    /// Any other error, `doing` in words: the class is decided by the first service answer in the
    /// chain, then by a code that the text names, then by the kind of credentials error.
    pub(super) fn from_error(doing: &str, error: &(dyn Error + 'static)) -> Self {
        if let Some(own) = chain(error).find_map(as_failure) {
            return own.clone();
        }
        if let Some(failure) =
            chain(error).find_map(|e| e.downcast_ref().and_then(Failure::from_service))
        {
            return failure;
        }
        let text = chain_text(error);
        match code_in(&text) {
            Some(code) => Failure::new(FailureClass::of_code(code), format!("{doing}: {text}"))
                .with_code(code),
            None => Failure::new(class_of_kind(error), format!("{doing}: {text}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.request_id {
            Some(id) => write!(f, " (request id {id})"),
            None => Ok(()),
        }
    }
}

impl Error for Failure {}

/// The error and all its causes, outermost first.
pub(super) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (**error).source())
}

fn as_failure<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Failure> {
    let shared = error.downcast_ref::<Arc<dyn Error + Send + Sync>>();
    error.downcast_ref().or_else(|| shared?.downcast_ref())
}

/// The texts of the chain. Only `Display`: the `Debug` of an SDK error holds the raw response.
fn chain_text(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for part in chain(error).map(ToString::to_string) {
        // Many wrappers repeat the text of what they wrap.
        if text.is_empty() {
            text = part;
        } else if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
    }
    text
}

/// The terminal code that the text names as a word of its own: providers of other services wrap
/// their errors in types that we cannot name, but show the code.
fn code_in(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| TERMINAL_CODES.contains(word))
}

fn class_of_kind(error: &(dyn Error + 'static)) -> FailureClass {
    // The innermost decides: a chain of providers wraps the one that failed.
    match chain(error).filter_map(|e| e.downcast_ref()).last() {
        Some(CredentialsError::CredentialsNotLoaded(_))
        | Some(CredentialsError::InvalidConfiguration(_)) => FailureClass::Terminal,
        _ => FailureClass::Transient,
    }
}

/// Replaces whatever has the shape of an access key id, a secret key or a token. The texts come
/// from servers and from providers that we do not know; this is the last line of defence.
pub(super) fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_key_char) {
        let end = rest[start..].find(|c| !is_key_char(c)).map_or(rest.len(), |n| start + n);
        clean.push_str(&rest[..start]);
        let run = &rest[start..end];
        let secret = has_key_id(run) || (looks_random(run) && !ends_in_arn(&clean));
        clean.push_str(if secret { "[redacted]" } else { run });
        rest = &rest[end..];
    }
    clean + rest
}

/// The alphabets of base64, of base64 for URLs, and of percent-encoding.
fn is_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/=_-%".contains(c)
}

/// `AKIA…` or `ASIA…`, 16 characters or more.
fn has_key_id(run: &str) -> bool {
    let id_char = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
    run.as_bytes()
        .windows(16)
        .any(|w| (w.starts_with(b"AKIA") || w.starts_with(b"ASIA")) && w.iter().all(id_char))
}

/// Long, and neither a UUID nor a path in plain words.
fn looks_random(run: &str) -> bool {
    let words = !run.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    run.len() >= 36 && !words && !is_uuid(run)
}

fn is_uuid(run: &str) -> bool {
    run.len() == 36
        && run.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// Whether what follows `text` is the last part of an ARN.
fn ends_in_arn(text: &str) -> bool {
    text.rsplit(|c| !is_key_char(c) && c != ':').next().is_some_and(|w| w.starts_with("arn:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

    #[test]
    fn secrets_are_redacted_and_useful_text_stays() {
        let id = "ASIAIOSFODNN7EXAMPLE";
        let token = "IQoJb3JpZ2luX2VjEO%2F%2F%2F%2Fwer+tyuiopASDFGHJKL1234567890==";
        for (text, expected) in [
            (format!("key {id}, denied"), "key [redacted], denied".to_owned()),
            (format!("arn:aws:iam::1:x/{id}"), "arn:aws:iam::1:[redacted]".to_owned()),
            (format!("SecretAccessKey:{SECRET}"), "SecretAccessKey:[redacted]".to_owned()),
            (format!("{{\"t\":\"{token}\"}}"), "{\"t\":\"[redacted]\"}".to_owned()),
            (format!("{{\"a\":\"arn:x\",\"s\":\"{SECRET}\"}}"), {
                "{\"a\":\"arn:x\",\"s\":\"[redacted]\"}".to_owned()
            }),
        ] {
            assert_eq!(redact(&text), expected);
        }
        for text in [
            "",
            "naïve – ünïcode",
            "request 01234567-89AB-cdef-0123-456789abcdef",
            "on resource: arn:aws:iam::123456789012:role/Team42/a-rather-long-path/and-a-long-name",
            "https://sts.eu-central-1.amazonaws.com/ refused",
            "cannot read /var/lib/some/quite/long/path/to/credentials",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn every_text_of_a_failure_is_redacted() {
        let failure =
            Failure::new(FailureClass::Transient, SECRET).with_code(SECRET).with_request_id(SECRET);
        assert!(!format!("{failure} {failure:?}").contains(SECRET));
    }

    #[test]
    fn display_shows_code_and_request_id() {
        let failure = Failure::new(FailureClass::Terminal, "not authorized")
            .with_code("AccessDenied")
            .with_request_id("r-1");
        assert_eq!(failure.to_string(), "AccessDenied: not authorized (request id r-1)");
    }

    #[test]
    fn service_codes_are_classified() {
        for code in TERMINAL_CODES {
            assert_eq!(FailureClass::of_code(code), FailureClass::Terminal, "{code}");
        }
        for code in ["Throttling", "ThrottlingException", "RequestLimitExceeded", "InternalFailure"]
        {
            assert_eq!(FailureClass::of_code(code), FailureClass::Transient, "{code}");
        }
    }

    #[test]
    fn errors_of_providers_are_classified() {
        use CredentialsError as E;
        use FailureClass::{Terminal, Transient};
        let denied = ErrorMetadata::builder().code("AccessDenied").message("no").build();
        let busy = ErrorMetadata::builder().code("Throttling").message("slow down").build();
        for (error, class, code) in [
            (E::not_loaded("none"), Terminal, None),
            (E::invalid_configuration("profile loops"), Terminal, None),
            (E::provider_timed_out(std::time::Duration::from_secs(1)), Transient, None),
            (E::provider_error("connection refused"), Transient, None),
            (E::provider_error("unhandled error (AccessDenied)"), Terminal, Some("AccessDenied")),
            (E::provider_error(denied), Terminal, Some("AccessDenied")),
            (E::provider_error(busy), Transient, Some("Throttling")),
            (E::provider_error(E::not_loaded("inner")), Terminal, None),
            (E::unhandled("not UTF-8"), Transient, None),
        ] {
            let failure = Failure::from_error("base credentials", &error);
            assert_eq!((failure.class(), failure.code()), (class, code), "{failure}");
        }
    }
}
