//! An election that this process has won.

use std::sync::{Mutex, PoisonError};

use aws_credential_types::Credentials;
use pyo3::prelude::*;
use shmcreds::SourceError;

use crate::error::{class_of, duration, raised};

/// The right to make one call of the source. Dropped without an outcome, it is a failure that may pass.
#[pyclass(frozen, module = "shmcreds._native")]
pub(crate) struct Term {
    term: Mutex<Option<shmcreds::Term>>,
}

impl Term {
    pub(crate) fn new(term: shmcreds::Term) -> Self {
        Term { term: Mutex::new(Some(term)) }
    }

    fn take(&self) -> Option<shmcreds::Term> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Term {
    /// Ends it with a new set. `expires` is in seconds of the Unix epoch.
    #[pyo3(signature = (access_key, secret_key, token, expires, account_id = None))]
    fn publish(
        &self,
        py: Python<'_>,
        access_key: &str,
        secret_key: &str,
        token: &str,
        expires: f64,
        account_id: Option<&str>,
    ) -> PyResult<()> {
        let Some(term) = self.take() else { return Ok(()) };
        let mut set = Credentials::builder()
            .access_key_id(access_key)
            .secret_access_key(secret_key)
            .session_token(token)
            .provider_name("python");
        // Without an expiry, where no clock can show it: the library refuses the set.
        set.set_expiry(std::time::UNIX_EPOCH.checked_add(duration(expires)));
        set.set_account_id(account_id.map(Into::into));
        py.detach(|| term.publish(set.build())).map(drop).map_err(raised)
    }

    /// Ends it with a failure.
    #[pyo3(signature = (kind, message, code = None, request_id = None, status = None))]
    fn fail(
        &self,
        py: Python<'_>,
        kind: &str,
        message: &str,
        code: Option<&str>,
        request_id: Option<&str>,
        status: Option<u16>,
    ) -> PyResult<()> {
        let Some(term) = self.take() else { return Ok(()) };
        let mut failure = SourceError::new(class_of(kind), message);
        if let Some(code) = code {
            failure = failure.with_code(code);
        }
        if let Some(request_id) = request_id {
            failure = failure.with_request_id(request_id);
        }
        if let Some(status) = status {
            failure = failure.with_http_status(status);
        }
        py.detach(|| term.fail(failure)).map_err(raised)
    }
}
