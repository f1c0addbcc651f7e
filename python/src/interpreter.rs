//! One interpreter of a process has the native module. Its classes stand in static memory: they are objects of the
//! interpreter that made them, and another one that used them, or outlived them, would crash.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::{exceptions::PyImportError, prelude::*};

/// Whether an interpreter of this process has loaded the module. Relaxed: the interpreters that can load it have one GIL.
static IS_LOADED: AtomicBool = AtomicBool::new(false);

/// The attribute of `sys`, which each interpreter has for itself, by which the one that loaded the module is known again.
const MARK: &str = "_shmcreds_native_is_here";

/// Takes the module for this interpreter.
pub(crate) fn claim(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    if IS_LOADED.swap(true, Ordering::Relaxed) && !sys.hasattr(MARK)? {
        return Err(PyImportError::new_err(
            "another interpreter of this process has loaded shmcreds._native, which works in one",
        ));
    }
    sys.setattr(MARK, true)
}
