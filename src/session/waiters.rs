//! Async callers that wait: one thread for all of them, which ends when the wait is over.

use std::{
    io, process,
    sync::{Arc, Mutex, PoisonError},
};

use aws_credential_types::Credentials;
use tokio::sync::oneshot::{self, Receiver, Sender};

use super::Inner;
use crate::error::Error;

type Answer = Result<Credentials, Arc<Error>>;

/// Who waits in this process.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// The process whose thread answers: a forked child finds its parent's callers here.
    pid: u32,
    callers: Vec<Sender<Answer>>,
}

impl Waiters {
    /// Joins those who wait for credentials. A caller that goes away disturbs nobody.
    pub(crate) fn join(inner: &Arc<Inner>) -> io::Result<Receiver<Answer>> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = inner.waiters().lock();
        if waiting.pid != process::id() {
            *waiting = Waiting { pid: process::id(), callers: Vec::new() };
        }
        if waiting.callers.is_empty() {
            let inner = Arc::clone(inner);
            std::thread::Builder::new()
                .name("shmcreds-wait".into())
                .spawn(move || answer(&inner))?;
        }
        waiting.callers.push(sender);
        Ok(receiver)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(inner: &Inner) {
    let answer = inner.credentials().map_err(Arc::new);
    // Whoever joins from here on starts a wait of its own.
    let callers = std::mem::take(&mut inner.waiters().lock().callers);
    for caller in callers {
        let _ = caller.send(answer.clone());
    }
}
