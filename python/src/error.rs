//! Errors of the library as one Python exception, which the package translates.

use std::time::Duration;

use pyo3::{create_exception, exceptions::PyException, prelude::*};
use shmcreds::{Error, ErrorKind, SourceError, SourceErrorClass};

create_exception!(
    _native,
    NativeError,
    PyException,
    "kind, text, failure, seconds until the next attempt"
);

/// Class, message, code, request id and HTTP status of a failure of the source.
pub(crate) type Told = (&'static str, String, Option<String>, Option<String>, Option<u16>);

/// The exception for an error.
pub(crate) fn raised(error: Error) -> PyErr {
    let failure = error.source_error().map(told);
    let retry_after = error.retry_after().map(|after| after.as_secs_f64());
    let kind = name_of(error.kind());
    NativeError::new_err((kind, error.to_string(), failure, retry_after))
}

/// A failure as plain data.
pub(crate) fn told(failure: &SourceError) -> Told {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    (
        failure.class().as_str(),
        failure.message().to_owned(),
        owned(failure.code()),
        owned(failure.request_id()),
        failure.http_status(),
    )
}

/// The class of that name.
pub(crate) fn class_of(name: &str) -> SourceErrorClass {
    match name {
        "terminal" => SourceErrorClass::Terminal,
        "throttled" => SourceErrorClass::Throttled,
        "misconfigured" => SourceErrorClass::Misconfigured,
        _ => SourceErrorClass::Transient,
    }
}

/// A number of seconds, 0 for one below it.
pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

fn name_of(kind: ErrorKind) -> String {
    format!("{kind:?}")
}
