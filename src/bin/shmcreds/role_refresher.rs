//! The refresher of the pool that `exec` and `serve` keep: a thread. It makes the calls for the endpoint.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use shmcreds::{SharedRoles, StopHandle};

use crate::{
    arguments,
    command_error::{CommandError, Doing},
    session::keep_running,
};

/// How long the end of this process waits for calls of STS. The kernel ends one that hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread. Dropping this ends it, so that another process need not find out that this one has ended.
pub(crate) struct RoleRefresher {
    stop: StopHandle,
    /// Dropping it ends a pause before the refresher is started again.
    pauses: Option<Sender<()>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

/// Starts the thread, unless the options say that only requests refresh.
pub(crate) fn start(
    options: &arguments::Session,
    roles: &SharedRoles,
) -> Result<Option<RoleRefresher>, CommandError> {
    if !options.is_eager() {
        return Ok(None);
    }
    let (stop, (running, ended)) = (StopHandle::new(), channel());
    let (pauses, end_of_pauses) = channel();
    let (roles, until) = (roles.clone(), stop.clone());
    let work = move || {
        let _running = running;
        let pause = |time| {
            let _ = end_of_pauses.recv_timeout(time);
        };
        // It returns at once when it was told to end.
        keep_running(|| roles.run_refresher(&until), pause);
    };
    let thread = thread::Builder::new().name("refresher".into()).spawn(work);
    thread.doing("starting the refresher")?;
    Ok(Some(RoleRefresher { stop, pauses: Some(pauses), ended }))
}

impl Drop for RoleRefresher {
    fn drop(&mut self) {
        self.stop.stop();
        self.pauses = None;
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}
