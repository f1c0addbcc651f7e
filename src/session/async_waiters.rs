//! Async callers that wait: one thread for all of them, which ends when the wait is over.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use aws_credential_types::Credentials;
use tokio::sync::oneshot::{self, Receiver, Sender};

use crate::{error::Error, sys::process_token::ProcessToken};

type Answer = Result<Credentials, Arc<Error>>;

/// Who waits in this process.
#[derive(Debug, Default)]
pub(crate) struct AsyncWaiters(ArcSwap<Waiting>);

/// Those of one process: a forked child finds its parent's callers, and a lock that a thread may hold that
/// the child does not have. It leaves both alone.
#[derive(Debug, Default)]
struct Waiting {
    /// `None` before anybody has waited.
    process: Option<ProcessToken>,
    callers: Mutex<Vec<Sender<Answer>>>,
}

impl AsyncWaiters {
    /// Adds a caller to those that wait for credentials. The first one starts the thread that waits, by `wait`. A
    /// caller that goes away disturbs no other.
    pub(crate) fn join(
        &self,
        wait: impl FnOnce() -> Result<Credentials, Error> + Send + 'static,
    ) -> io::Result<Receiver<Answer>> {
        let (sender, receiver) = oneshot::channel();
        let waiting = self.here();
        let mut callers = waiting.callers();
        if callers.is_empty() {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new()
                .name("shmcreds-wait".into())
                .spawn(move || waiting.answer(wait))?;
        }
        callers.push(sender);
        drop(callers);
        Ok(receiver)
    }

    /// Those of this process.
    fn here(&self) -> Arc<Waiting> {
        let process = Some(ProcessToken::current());
        self.0.rcu(|known| match known.process == process {
            true => Arc::clone(known),
            false => Arc::new(Waiting { process, ..Waiting::default() }),
        });
        self.0.load_full()
    }
}

impl Waiting {
    fn callers(&self) -> MutexGuard<'_, Vec<Sender<Answer>>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, wait: impl FnOnce() -> Result<Credentials, Error>) {
        let answer = catch_unwind(AssertUnwindSafe(|| wait().map_err(Arc::new)));
        // A caller that joins from here on starts a wait of its own.
        let callers = std::mem::take(&mut *self.callers());
        // After a panic in the user's code the callers find that no answer will come.
        let Ok(answer) = answer else { return };
        for caller in callers {
            let _ = caller.send(answer.clone());
        }
    }
}
