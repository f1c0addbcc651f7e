//! One set for Python: the tuple that botocore reads, and what belongs to it.

use std::{
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use pyo3::{prelude::*, types::PyTuple};
use shmcreds::{SetSnapshot, State};

/// Access key, secret key, token, account id; expiry; state; generation; seconds until the refresh point.
pub(crate) type Look = (Py<PyAny>, f64, &'static str, u64, f64);

/// The newest tuple, lent to all readers of the process.
pub(crate) struct Frozen {
    class: Py<PyAny>,
    cached: Mutex<Option<(u64, Py<PyAny>)>>,
}

impl Frozen {
    /// `class` makes the tuple from its four fields.
    pub(crate) fn new(class: Py<PyAny>) -> Self {
        Frozen { class, cached: Mutex::new(None) }
    }

    /// The tuple of that set.
    pub(crate) fn of(&self, py: Python<'_>, set: &SetSnapshot) -> PyResult<Py<PyAny>> {
        let generation = set.generation();
        if let Some((known, frozen)) = &*self.cached.lock().unwrap_or_else(PoisonError::into_inner)
            && *known == generation
        {
            return Ok(frozen.clone_ref(py));
        }
        // Made without the lock: another thread may run while Python code does, and want it.
        let frozen = self.made(py, set)?;
        let replaced = {
            let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
            cached.replace((generation, frozen.clone_ref(py)))
        };
        // Its end may run Python code, too.
        drop(replaced);
        Ok(frozen)
    }

    fn made(&self, py: Python<'_>, set: &SetSnapshot) -> PyResult<Py<PyAny>> {
        let credentials = set.credentials();
        let fields = (
            credentials.access_key_id(),
            credentials.secret_access_key(),
            credentials.session_token(),
            credentials.account_id().map(|id| id.as_str()),
        );
        self.class.call1(
            py,
            PyTuple::new(py, [fields.into_pyobject(py)?])?.get_item(0)?.cast::<PyTuple>()?,
        )
    }

    /// All that is to be known of the set.
    pub(crate) fn look(&self, py: Python<'_>, set: &SetSnapshot) -> PyResult<Look> {
        let expires = set.credentials().expiry().unwrap_or(SystemTime::UNIX_EPOCH);
        let expires = expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let state = if set.is_rejected() && set.state() == State::Mandatory {
            "rejected"
        } else {
            set.state().as_str()
        };
        let refresh_in = set.refresh_in().as_secs_f64();
        Ok((self.of(py, set)?, expires, state, set.generation(), refresh_in))
    }
}
