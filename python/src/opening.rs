//! Opening a session, and other waits of the library, without keeping Python from its signals.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

use pyo3::prelude::*;
use shmcreds::{Error, SharedSession, SharedSessionBuilder};

use crate::{
    error::{NativeError, raised},
    recipe::Recipe,
};

/// How long a signal waits at most.
const SLICE: Duration = Duration::from_millis(50);

/// The session of that recipe.
pub(crate) fn opened(py: Python<'_>, recipe: &Recipe) -> PyResult<SharedSession> {
    let builder = recipe.builder();
    let only_create = recipe.only_create || recipe.sealed;
    let open = move || open(builder, only_create);
    let session = match recipe.program {
        // It waits for the first set. Where no program is given, it forks: that needs a process with one thread.
        Some(_) => beside(py, open)?,
        None => py.detach(open),
    };
    let session = session.map_err(raised)?;
    if recipe.only_create && session.status().map_err(raised)?.directory().is_none() {
        return Err(nameless(&recipe.name));
    }
    Ok(session)
}

fn open(builder: SharedSessionBuilder, only_create: bool) -> Result<SharedSession, Error> {
    if only_create { builder.create() } else { builder.attach_or_create() }
}

/// Does work that waits on a thread, and handles signals meanwhile. After Ctrl-C the thread goes on, and its outcome is
/// dropped.
pub(crate) fn beside<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> PyResult<T> {
    let (send, receive) = sync_channel(1);
    let thread = thread::Builder::new().name("shmcreds-wait".into()).spawn(move || {
        // Nobody receives it after Ctrl-C.
        let _ = send.send(work());
    })?;
    let outcome = received(py, receive)?;
    // Its end is near: a process that forks next has no thread more than before.
    let _ = py.detach(|| thread.join());
    outcome.ok_or_else(|| {
        NativeError::new_err(("System", "the thread that waits has ended", None::<()>, None::<f64>))
    })
}

fn received<T: Send>(py: Python<'_>, receive: Receiver<T>) -> PyResult<Option<T>> {
    let receive = std::sync::Mutex::new(receive);
    loop {
        let slice = py.detach(|| {
            let receive = receive.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            receive.recv_timeout(SLICE)
        });
        match slice {
            Ok(outcome) => return Ok(Some(outcome)),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

fn nameless(name: &str) -> PyErr {
    let text = format!(
        "create {name:?}: no directory can hold the session, so no other process could open it; `shmcreds doctor` says why"
    );
    NativeError::new_err(("NoSpace", text, None::<()>, None::<f64>))
}
