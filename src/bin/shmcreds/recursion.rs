//! A session whose source asks the session itself would wait for its own answer.

use shmcreds::SharedSession;

use crate::command_error::{CONFIGURATION, CommandError};

/// Set for the programs of a source: the process that asks them.
const ASKED_BY: &str = "SHMCREDS_ASKED_BY";

/// Refuses to answer a program of the session's own source.
pub(crate) fn check(session: &SharedSession) -> Result<(), CommandError> {
    let asking = std::env::var(ASKED_BY).ok().and_then(|pid| pid.parse().ok());
    let status = session.status()?;
    let refresher = status.lease_holder().filter(|refresher| refresher.is_alive());
    let Some(refresher) = refresher.filter(|refresher| Some(refresher.pid()) == asking) else {
        return Ok(());
    };
    let (name, pid) = (session.name(), refresher.pid());
    let text = format!(
        "session {name:?} asks itself: process {pid} refreshes it by a program that ran `shmcreds credentials \
         {name}`; give the session another source, as a profile without that credential_process"
    );
    Err(CommandError::new(CONFIGURATION, text))
}
