//! The refresher of the pool that `exec` and `serve` keep: a thread. It makes the calls for the endpoint.

use std::{
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use shmcreds::{SharedRoles, StopHandle};

use crate::{
    arguments,
    command_error::{CommandError, Doing},
};

/// How long the end of this process waits for calls of STS. The kernel ends one that hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// The thread. Dropping this ends it, so that another process need not find out that this one has ended.
pub(crate) struct RoleRefresher {
    stop: StopHandle,
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
    let (roles, until) = (roles.clone(), stop.clone());
    let work = move || {
        let _running = running;
        if let Err(error) = roles.run_refresher(&until) {
            tracing::error!(%error, "no role is refreshed in time any more; a request for a role refreshes it");
        }
    };
    let thread = thread::Builder::new().name("refresher".into()).spawn(work);
    thread.doing("starting the refresher")?;
    Ok(Some(RoleRefresher { stop, ended }))
}

impl Drop for RoleRefresher {
    fn drop(&mut self) {
        self.stop.stop();
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}
