//! The answers of the credentials provider of AWS IoT Core: a set, a refusal, or none.

use std::{error::Error, time::SystemTime};

use aws_credential_types::Credentials;
use aws_smithy_types::{DateTime, date_time::Format};
use hyper::http::response::Parts;
use serde::Deserialize;

use crate::source::{SourceError, SourceErrorClass, causes::chain, retry_after};

/// The error if no answer came. A server that refuses the certificate ends the connection with a TLS alert.
pub(super) fn unanswered(error: &(dyn Error + 'static)) -> SourceError {
    let failure = SourceError::from_error("asking IoT Core", error);
    match chain(error).find_map(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(_)) => failure.of_class(SourceErrorClass::Terminal),
        _ => failure,
    }
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

pub(super) fn refusal(head: &Parts, body: &[u8]) -> SourceError {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let said = serde_json::from_slice(body).map(|Refusal { message }| message);
    let said = said.unwrap_or_else(|_| "IoT Core gave no reason".into());
    let status = head.status.as_u16();
    let text = format!("HTTP status {status}: {said}");
    let failure = SourceError::new(SourceErrorClass::of_status(status), text);
    let mut failure = failure.with_http_status(status);
    if let Some(kind) = header("x-amzn-errortype") {
        // Some services write `AccessDeniedException:http://…`.
        failure = failure.with_code(kind.split(':').next().unwrap_or(kind));
    }
    if let Some(time) = retry_after::of(header) {
        failure = failure.with_retry_after(time);
    }
    match header("x-amzn-requestid") {
        Some(id) => failure.with_request_id(id),
        None => failure,
    }
}

#[derive(Deserialize)]
struct Answer {
    credentials: Set,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Set {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
}

pub(super) fn credentials(body: &[u8]) -> Result<Credentials, String> {
    let Answer { credentials: set } = serde_json::from_slice(body).map_err(|error| {
        // The parser's error text may quote the answer.
        format!("not the JSON of a set, at line {} column {}", error.line(), error.column())
    })?;
    let expiry = DateTime::from_str(&set.expiration, Format::DateTimeWithOffset)
        .ok()
        .and_then(|time| SystemTime::try_from(time).ok())
        .ok_or("expiration is not a time")?;
    for (field, value) in [
        ("accessKeyId", &set.access_key_id),
        ("secretAccessKey", &set.secret_access_key),
        ("sessionToken", &set.session_token),
    ] {
        if value.is_empty() {
            return Err(format!("{field} is empty"));
        }
    }
    Ok(Credentials::new(
        set.access_key_id,
        set.secret_access_key,
        Some(set.session_token),
        Some(expiry),
        "shmcreds::IotCore",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unusable_answer_is_named_without_its_contents() {
        let full = r#"{"credentials":{"accessKeyId":"ASIA1","secretAccessKey":"hush",
            "sessionToken":"hush-token","expiration":"2030-01-02T03:04:05Z"}}"#;
        assert_eq!(credentials(full.as_bytes()).unwrap().access_key_id(), "ASIA1");
        for (from, to, problem) in [
            (full, "hush", "not the JSON"),
            ("\"hush\"", "7", "not the JSON"),
            ("\"hush\"", "\"\"", "secretAccessKey is empty"),
            ("ASIA1", "", "accessKeyId is empty"),
            ("2030", "hush", "expiration is not a time"),
        ] {
            let error = credentials(full.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.contains(problem) && !error.contains("hush"), "{error}");
        }
    }
}
