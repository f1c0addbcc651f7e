//! The class of a failure: the tables of error codes and HTTP statuses for all sources.

use std::{error::Error, fmt};

use aws_credential_types::provider::error::CredentialsError;

use super::causes::chain;
use crate::error::ErrorKind;

/// What kind of failure it is, and so what can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceErrorClass {
    /// A retry cannot help: access is denied, or the base credentials have expired or are unknown.
    Terminal,
    /// A retry may help: a time-out, a server error, no connection.
    Transient,
    /// Fewer requests may help: the service limits the request rate.
    Throttled,
    /// Another configuration can help: an invalid parameter, no base credentials, no such profile.
    Misconfigured,
}

use SourceErrorClass::{Misconfigured, Terminal, Throttled, Transient};

/// The error codes of services. All other codes are transient: server errors and unknown ones.
const CODES: &[(SourceErrorClass, &[&str])] = &[
    (
        Terminal,
        &[
            "AccessDenied",
            "AccessDeniedException",
            "AuthFailure",
            "ExpiredToken",
            "ExpiredTokenException",
            "ForbiddenException",
            "IDPRejectedClaim",
            "IDPRejectedClaimException",
            "IncompleteSignature",
            "InvalidClientTokenId",
            "InvalidIdentityToken",
            "InvalidIdentityTokenException",
            "MissingAuthenticationToken",
            "OptInRequired",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "UnauthorizedException",
            "UnrecognizedClientException",
        ],
    ),
    (
        Throttled,
        &[
            "LimitExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
        ],
    ),
    (
        Misconfigured,
        &[
            "InvalidAction",
            "InvalidParameterCombination",
            "InvalidParameterValue",
            "InvalidQueryParameter",
            "InvalidRequestException",
            "MalformedPolicyDocument",
            "MalformedPolicyDocumentException",
            "MalformedQueryString",
            "MissingAction",
            "MissingParameter",
            "PackedPolicyTooLarge",
            "PackedPolicyTooLargeException",
            "RegionDisabled",
            "RegionDisabledException",
            "ResourceNotFoundException",
            "ValidationError",
            "ValidationException",
        ],
    ),
];

/// The HTTP statuses of answers without an error code.
const STATUSES: &[(SourceErrorClass, &[u16])] =
    &[(Terminal, &[401, 403]), (Throttled, &[429]), (Misconfigured, &[400, 404, 405, 407])];

fn listed<T: PartialEq>(table: &[(SourceErrorClass, &[T])], key: &T) -> Option<SourceErrorClass> {
    table.iter().find(|(_, keys)| keys.contains(key)).map(|(class, _)| *class)
}

impl SourceErrorClass {
    /// All classes, in the order in which the segment numbers and counts them.
    pub(crate) const ALL: [SourceErrorClass; 4] = [Transient, Terminal, Throttled, Misconfigured];

    pub(super) fn of_code(code: &str) -> Self {
        listed(CODES, &code).unwrap_or(Transient)
    }

    /// By the code, and by the message where one code has several meanings.
    pub(super) fn of_answer(code: &str, message: &str) -> Self {
        // STS could not reach the identity provider's server.
        let unreachable = message.contains("Couldn't retrieve verification key");
        match code {
            "InvalidIdentityToken" | "InvalidIdentityTokenException" if unreachable => Transient,
            "IDPCommunicationError" | "IDPCommunicationErrorException" => Transient,
            _ => SourceErrorClass::of_code(code),
        }
    }

    pub(super) fn of_status(status: u16) -> Self {
        listed(STATUSES, &status).unwrap_or(Transient)
    }

    /// By the innermost `CredentialsError`: a chain of providers wraps the error of the provider that failed.
    pub(super) fn of_kind(error: &(dyn Error + 'static)) -> Self {
        if is_refused_certificate(error) || is_proxy_without_login(error) {
            return Misconfigured;
        }
        match chain(error).filter_map(|e| e.downcast_ref()).last() {
            Some(CredentialsError::CredentialsNotLoaded(_))
            | Some(CredentialsError::InvalidConfiguration(_)) => Misconfigured,
            _ => Transient,
        }
    }

    /// The class in one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Terminal => "terminal",
            Transient => "transient",
            Throttled => "throttled",
            Misconfigured => "misconfigured",
        }
    }
}

/// Whether the certificate of a server was refused, for example because its issuer is not known. A retry cannot help.
pub(super) fn is_refused_certificate(error: &(dyn Error + 'static)) -> bool {
    chain(error)
        .any(|error| matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))))
}

/// Whether the proxy on the way to a server with TLS wants a user and a password. The type of that error is private.
pub(super) fn is_proxy_without_login(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| error.to_string().ends_with("proxy authorization required"))
}

/// The error code that the text contains as a separate word. Some SDK providers wrap their errors in private types,
/// but show the code in the text.
pub(super) fn code_in(text: &str) -> Option<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| listed(CODES, word).is_some())
}

impl From<SourceErrorClass> for ErrorKind {
    fn from(class: SourceErrorClass) -> Self {
        match class {
            Terminal => ErrorKind::SourceTerminal,
            Transient => ErrorKind::SourceTransient,
            Throttled => ErrorKind::SourceThrottled,
            Misconfigured => ErrorKind::SourceMisconfigured,
        }
    }
}

impl fmt::Display for SourceErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_status_stands_in_one_table() {
        for (class, codes) in CODES {
            for code in *codes {
                assert_eq!(SourceErrorClass::of_code(code), *class, "{code}");
                assert_eq!(code_in(&format!("unhandled error ({code})")), Some(*code));
            }
        }
        for (class, statuses) in STATUSES {
            for status in *statuses {
                assert_eq!(SourceErrorClass::of_status(*status), *class, "{status}");
            }
        }
        assert_eq!(SourceErrorClass::of_code("InternalFailure"), Transient);
        let token = "InvalidIdentityToken";
        let unreachable = "Couldn't retrieve verification key from your identity provider";
        assert_eq!(SourceErrorClass::of_answer(token, unreachable), Transient);
        assert_eq!(SourceErrorClass::of_answer(token, "Missing a required claim: sub"), Terminal);
        assert_eq!(SourceErrorClass::of_status(503), Transient);
    }
}
