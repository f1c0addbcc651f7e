//! `shmcreds._native`: the shared sessions of the Rust library, for Python.
//!
//! Nothing here waits with the interpreter attached, and no Rust lock is held while Python code runs. A wait is a slice
//! of the length that the caller gives, so that Python handles signals in between.

mod error;
mod interpreter;
mod look;
mod opening;
mod recipe;
mod source;
mod store;
mod term;

use pyo3::prelude::*;

/// See `_native.pyi`.
#[pymodule]
mod _native {
    use pyo3::{prelude::*, types::PyModule};

    #[pymodule_export]
    use crate::{error::NativeError, store::Store, term::Term};

    /// The names of this user's sessions.
    #[pyfunction]
    fn names() -> PyResult<Vec<String>> {
        Ok(shmcreds::SharedSession::list()?)
    }

    /// Removes what killed processes have left of a session.
    #[pyfunction]
    fn remove(name: &str) -> PyResult<()> {
        shmcreds::SharedSession::remove(name).map_err(crate::error::raised)
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::interpreter::claim(module.py())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
