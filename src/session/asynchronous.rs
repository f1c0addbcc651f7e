//! What async programs wait for: a refresh, and the next set. A thread waits in their place, never the runtime.

use std::{sync::Arc, thread};

use aws_credential_types::Credentials;
use tokio::sync::oneshot;

use super::{Inner, SharedSession, timing::CALLER_INTERVAL};
use crate::{
    error::{Error, Fault},
    sys::descriptor::ReservedStreams,
};

impl SharedSession {
    /// [`refresh`](Self::refresh) for async callers. A caller that goes away does not end the refresh.
    ///
    /// ```
    /// # async fn example(session: shmcreds::SharedSession) -> Result<(), shmcreds::Error> {
    /// let credentials = session.refresh_async().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`refresh`](Self::refresh).
    pub async fn refresh_async(&self) -> Result<Credentials, Error> {
        let session = self.clone();
        on_thread(self.inner(), "refresh", move |_| Some(session.refresh())).await?
    }

    /// Waits until there is another set than the one that this handle and its clones gave last: for a program
    /// that keeps something made from a set, such as presigned URLs. Resolves at once when there is one already.
    ///
    /// A thread waits until then. It ends within a second after the caller has gone away. Do not fork meanwhile.
    ///
    /// ```
    /// # async fn example(session: shmcreds::SharedSession) -> Result<(), shmcreds::Error> {
    /// loop {
    ///     let credentials = session.credentials()?;
    ///     // … make something of them …
    ///     session.changed().await?;
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`System`](crate::ErrorKind::System) when the kernel gives no thread.
    pub async fn changed(&self) -> Result<(), Error> {
        let inner = Arc::clone(self.inner());
        let seen = inner.generation_given();
        on_thread(self.inner(), "changed", move |is_awaited| {
            while is_awaited() {
                let event = inner.segment.view().latest_event();
                if inner.segment.published().generation() != seen {
                    return Some(());
                }
                inner.segment.view().sleep(event, CALLER_INTERVAL);
            }
            None
        })
        .await
    }
}

/// What `work` gives on a thread of its own. It can ask whether the caller still waits.
///
/// The answer may be the last use of the session, and the end of the program. So the handle that `work` owns is dropped
/// before the caller gets it: otherwise the names would stay.
pub(super) async fn on_thread<T: Send + 'static>(
    inner: &Inner,
    operation: &'static str,
    work: impl FnOnce(&dyn Fn() -> bool) -> Option<T> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = oneshot::channel();
    let _reserved = ReservedStreams::new();
    thread::Builder::new()
        .name(format!("shmcreds-{operation}"))
        .spawn(move || {
            if let Some(answer) = work(&|| !sender.is_closed()) {
                let _ = sender.send(answer);
            }
        })
        .map_err(|error| inner.fault(operation, Fault::system("starting a thread", error)))?;
    receiver.await.map_err(|_| {
        let text = "the thread that waits for the set ended without an answer";
        inner.fault(operation, Fault::new(crate::ErrorKind::System, text))
    })
}
