//! Why a source gave no set: a class that decides what happens next, and a text without secrets.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use aws_sdk_sts::{
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        assume_role::AssumeRoleError, assume_role_with_web_identity::AssumeRoleWithWebIdentityError,
    },
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::error::ErrorMetadata;
use aws_types::request_id::RequestId;

use super::causes::chain;
use super::{
    class::{self, SourceErrorClass},
    clock_skew,
    redact::{hide, redact},
    retry_after,
};
use crate::{errno, error::ErrorKind};

/// The code of a set that is too large to be shared.
const TOO_LARGE: &str = "SetTooLarge";

/// A message quotes at most this many characters of an unknown answer.
const LONGEST_QUOTE: usize = 160;

/// Only so many bytes of an unknown answer are looked at.
const LONGEST_ANSWER: usize = 4096;

/// Any error of the user's code.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// The longest text in bytes. A server may answer with any length. The end of a longer text is cut off.
const LONGEST_TEXT: usize = 4096;

/// Why a source gave no set. Its text contains no secret: everything that looks like one is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceError {
    class: SourceErrorClass,
    code: Option<String>,
    request_id: Option<String>,
    http_status: Option<u16>,
    retry_after: Option<Duration>,
    message: String,
}

impl SourceError {
    /// A failure of this class. Everything in `message` with the shape of a key or a token becomes `[redacted]`.
    pub fn new(class: SourceErrorClass, message: impl AsRef<str>) -> Self {
        SourceError::with_message(class, without_secrets(message.as_ref()))
    }

    /// A failure whose text is known to contain no secret: names and paths. They are often as long as a key.
    pub(crate) fn of_known_text(class: SourceErrorClass, message: impl AsRef<str>) -> Self {
        SourceError::with_message(class, cut(one_line(message.as_ref())))
    }

    fn with_message(class: SourceErrorClass, message: String) -> Self {
        SourceError {
            class,
            code: None,
            request_id: None,
            http_status: None,
            retry_after: None,
            message,
        }
    }

    /// Adds the service's error code, for example `AccessDenied`.
    pub fn with_code(mut self, code: impl AsRef<str>) -> Self {
        self.code = Some(cut(redact(code.as_ref())));
        self
    }

    /// Adds the service's request id. AWS Support asks for it.
    pub fn with_request_id(mut self, request_id: impl AsRef<str>) -> Self {
        self.request_id = Some(cut(redact(request_id.as_ref())));
        self
    }

    /// Adds the HTTP status of the service's answer.
    pub fn with_http_status(mut self, status: u16) -> Self {
        self.http_status = Some(status);
        self
    }

    /// Adds how long the service asks its callers to wait, for example in its `Retry-After` header. It counts for the
    /// classes [`Throttled`](SourceErrorClass::Throttled) and [`Transient`](SourceErrorClass::Transient): up to 60 s,
    /// and up to half of what is left of the current set.
    pub fn with_retry_after(self, time: Duration) -> Self {
        self.asked_to_wait(Some(time))
    }

    fn asked_to_wait(mut self, time: Option<Duration>) -> Self {
        self.retry_after = time.or(self.retry_after);
        self
    }

    /// The failure of a set that is too large to be shared. `problem` names the sizes.
    pub(crate) fn too_large(problem: impl AsRef<str>) -> Self {
        SourceError::of_known_text(SourceErrorClass::Terminal, problem).with_code(TOO_LARGE)
    }

    /// The kind of the error that callers get.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self.code() {
            Some(TOO_LARGE) => ErrorKind::TooLarge,
            _ => self.class().into(),
        }
    }

    /// The class: whether a retry can help.
    pub fn class(&self) -> SourceErrorClass {
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

    /// The HTTP status of the answer, if there was one.
    pub fn http_status(&self) -> Option<u16> {
        self.http_status
    }

    /// How long the service asks its callers to wait, as the source said it. The session computes the next attempt from
    /// it: its callers find the result in [`Error::retry_after`](crate::Error::retry_after), and `None` here.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What happened, in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Changes the class.
    pub(super) fn of_class(mut self, class: SourceErrorClass) -> Self {
        self.class = class;
        self
    }

    /// Puts `reason` in front of the message.
    pub(super) fn explained(mut self, reason: &str) -> Self {
        self.message = format!("{reason}: {}", self.message);
        self
    }

    /// Removes a value from the message that the caller knows to be secret.
    pub(super) fn without(mut self, secret: &str) -> Self {
        // A part of the secret in the message may be redacted already.
        for form in [secret, &without_secrets(secret)] {
            self.message = hide(&self.message, form);
        }
        self
    }

    /// A refusal with an error code of the service.
    pub(super) fn from_service(answer: &ErrorMetadata) -> Option<Self> {
        let code = answer.code()?;
        let message = answer.message().unwrap_or("the service gave no reason");
        let class = SourceErrorClass::of_answer(code, message);
        let mut failure = SourceError::new(class, message).with_code(code);
        if let Some(reason) = clock_skew::reason(code, message) {
            failure = failure.of_class(SourceErrorClass::Terminal).explained(&reason);
        }
        Some(match answer.request_id() {
            Some(id) => failure.with_request_id(id),
            None => failure,
        })
    }

    /// The error of a request to `place`: a refusal of the service, an answer of another server, or no answer.
    pub(super) fn from_sdk<E>(place: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        if let Some(failure) =
            error.as_service_error().and_then(|e| SourceError::from_service(e.meta()))
        {
            let response = error.raw_response();
            let http_status = response.map(|response| response.status().as_u16());
            let failure = failure.asked_to_wait(response.and_then(asked_to_wait));
            return SourceError { http_status, ..failure };
        }
        // If the body could not be read completely, it is gone. The error says why.
        match error.raw_response().filter(|response| response.body().bytes().is_some()) {
            Some(response) => SourceError::from_response(place, response),
            None => SourceError::from_error(&format!("no answer from {place}"), error),
        }
    }

    /// An answer that does not come from the service, but from a proxy, a gateway or a login page.
    pub(super) fn from_response(place: &str, response: &HttpResponse) -> Self {
        let status = response.status().as_u16();
        let body = response.body().bytes().unwrap_or_default();
        SourceError::from_status(place, status, body).asked_to_wait(asked_to_wait(response))
    }

    /// The same from status and body.
    pub(super) fn from_status(place: &str, status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(&body[..body.len().min(LONGEST_ANSWER)]);
        let said = if names_credentials(&text) {
            "credentials that cannot be read; one of their fields is missing or wrong".to_owned()
        } else {
            let quote = quote(&text);
            let said =
                if quote.is_empty() { "nothing else".to_owned() } else { format!("{quote:?}") };
            said + "; is it the service, or a proxy?"
        };
        let message = format!("{place} answered with HTTP status {status} and {said}");
        SourceError::new(SourceErrorClass::of_status(status), message).with_http_status(status)
    }

    /// Any other error. `doing` says what was tried. The class comes from the first of these: a service answer in the
    /// chain of causes, an error code in the text, the kind of the credentials error.
    pub(super) fn from_error(doing: &str, error: &(dyn Error + 'static)) -> Self {
        if let Some(own) = chain(error).find_map(as_failure) {
            return own.clone();
        }
        if let Some(failure) = chain(error).filter_map(answer).find_map(SourceError::from_service) {
            return failure;
        }
        let mut text = chain_text(error);
        if class::is_refused_certificate(error) {
            text += "; if a proxy or a private authority issued it, name that certificate in AWS_CA_BUNDLE";
        }
        if class::is_proxy_without_login(error) {
            text +=
                "; write its user and password into the address: http://USER:PASSWORD@HOST:PORT";
        }
        match class::code_in(&text) {
            Some(code) => {
                SourceError::new(SourceErrorClass::of_code(code), format!("{doing}: {text}"))
                    .with_code(code)
            }
            None => SourceError::new(SourceErrorClass::of_kind(error), format!("{doing}: {text}")),
        }
    }
}

impl fmt::Display for SourceError {
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

impl Error for SourceError {}

impl crate::error::Error {
    /// What the source said, if the source failed: class, code, request id, HTTP status and message. Each process that
    /// waits for a call gets the same, whichever made the call.
    ///
    /// ```
    /// # use shmcreds::{Election, ManualSource, SharedSession, SourceError, SourceErrorClass};
    /// # let name = format!("doc-source-error-{}", std::process::id());
    /// # let session = SharedSession::builder(name).source(ManualSource::new("doc")).create()?;
    /// # let Election::Elected(term) = session.elect()? else { unreachable!() };
    /// # let denied = SourceError::new(SourceErrorClass::Terminal, "not authorized");
    /// # term.fail(denied.with_code("AccessDenied").with_http_status(403))?;
    /// let error = session.credentials().unwrap_err();
    /// let said = error.source_error().expect("the source failed");
    /// assert_eq!((said.code(), said.http_status()), (Some("AccessDenied"), Some(403)));
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    pub fn source_error(&self) -> Option<&SourceError> {
        Error::source(self)?.downcast_ref()
    }
}

fn asked_to_wait(response: &HttpResponse) -> Option<Duration> {
    retry_after::of(|name| response.headers().get(name))
}

/// The answer of a service in an error. STS errors contain it as a field, not as a cause.
fn answer<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a ErrorMetadata> {
    let by_token = || error.downcast_ref().map(AssumeRoleWithWebIdentityError::meta);
    let by_key = || error.downcast_ref().map(AssumeRoleError::meta);
    error.downcast_ref().or_else(by_token).or_else(by_key)
}

fn as_failure<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a SourceError> {
    let shared = error.downcast_ref::<Arc<dyn Error + Send + Sync>>();
    error.downcast_ref().or_else(|| shared?.downcast_ref())
}

/// The `Display` texts of the chain. The `Debug` text of an SDK error contains the raw response.
fn chain_text(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for part in chain(error).map(|error| before_request(text_of(error))) {
        // Many errors repeat the text of their cause.
        if text.is_empty() {
            text = part;
        } else if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
    }
    text
}

/// The text of one error. What this process lacks itself is told with the advice for it: no other part of the text says that
/// the fault is here, and not with the server.
fn text_of(error: &(dyn Error + 'static)) -> String {
    let told = error.downcast_ref::<io::Error>().map(errno::told);
    told.filter(|told| errno::names_shortage(told)).unwrap_or_else(|| error.to_string())
}

/// Cuts off the request: if the SDK cannot use an endpoint, its error text ends with the whole request.
fn before_request(mut text: String) -> String {
    if let Some(start) = text.find("to request `") {
        text.truncate(text[..start].trim_end().len());
    }
    text
}

/// Whether an answer has the fields of a set, in any format and spelling. Nothing of it is shown then: not every secret
/// has a shape that [`redact`] knows.
fn names_credentials(answer: &str) -> bool {
    let letters = answer.chars().filter(char::is_ascii_alphanumeric);
    let letters: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    letters.contains("accesskeyid") && letters.contains("secretaccesskey")
}

/// The first words of an answer, without HTML tags. Secrets are removed before the rest is cut off, because a part of a
/// secret has no shape.
fn quote(text: &str) -> String {
    let mut words = String::new();
    let mut in_tag = false;
    for c in text.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => {
                in_tag = false;
                words.push(' ');
            }
            _ if !in_tag => words.push(c),
            _ => {}
        }
    }
    let words: Vec<&str> = words.split_whitespace().collect();
    redact(&words.join(" ")).chars().take(LONGEST_QUOTE).collect()
}

/// The text without secrets, in one line, and not too long.
fn without_secrets(text: &str) -> String {
    cut(one_line(&redact(text)))
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}

/// Joins the lines: logs and errors are read line by line.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").replace(":; ", ": ")
}

#[cfg(test)]
mod tests;
