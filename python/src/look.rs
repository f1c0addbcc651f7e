//! One set for Python: the tuple that botocore reads, and what belongs to it.

use std::{
    sync::{Mutex, PoisonError},
    time::UNIX_EPOCH,
};

use pyo3::{prelude::*, types::PyTuple};
use shmcreds::{SetSnapshot, State};

/// Access key, secret key, token, account id; expiry; state; generation; seconds until the refresh point.
pub(crate) type Look = (Py<PyAny>, f64, &'static str, u64, f64);

/// The newest tuple, lent to all readers of the process.
pub(crate) struct Frozen {
    /// `tuple.__new__`. The class has a `__new__` of its own, in Python. While Python code runs, another thread may, and
    /// at the end of the interpreter CPython cancels a daemon thread there: its cancellation must not unwind this code.
    new: Py<PyAny>,
    class: Py<PyAny>,
    /// How many fields the class has.
    fields: usize,
    cached: Mutex<Option<(u64, Py<PyAny>)>>,
}

impl Frozen {
    /// `class` is a named tuple of access key, secret key, token and, since botocore 1.35, account id.
    pub(crate) fn new(class: Bound<'_, PyAny>) -> PyResult<Self> {
        let new = class.py().get_type::<PyTuple>().getattr("__new__")?.unbind();
        let fields = class.getattr("_fields")?.len()?;
        Ok(Frozen { new, class: class.unbind(), fields, cached: Mutex::new(None) })
    }

    /// The tuple of that set.
    pub(crate) fn of(&self, py: Python<'_>, set: &SetSnapshot) -> PyResult<Py<PyAny>> {
        let generation = set.generation();
        if let Some((known, frozen)) = &*self.cached.lock().unwrap_or_else(PoisonError::into_inner)
            && *known == generation
        {
            return Ok(frozen.clone_ref(py));
        }
        // Made without the lock: a garbage collection may run Python code, and with it another thread that wants the lock.
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
        let fields = [
            Some(credentials.access_key_id()),
            Some(credentials.secret_access_key()),
            credentials.session_token(),
            credentials.account_id().map(|id| id.as_str()),
        ];
        let fields = PyTuple::new(py, fields.into_iter().take(self.fields))?;
        self.new.call1(py, (&self.class, fields))
    }

    /// All that is to be known of the set.
    pub(crate) fn look(&self, py: Python<'_>, set: &SetSnapshot) -> PyResult<Look> {
        let expires = set.expiry().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let state = if set.is_rejected() && set.state() == State::Mandatory {
            "rejected"
        } else {
            set.state().as_str()
        };
        let refresh_in = set.refresh_in().as_secs_f64();
        Ok((self.of(py, set)?, expires, state, set.generation(), refresh_in))
    }
}
