//! Notices a session whose source asks the session itself: it would wait for its own answer.

use shmcreds::SharedSession;

use crate::command_error::{CONFIGURATION, CommandError};

/// The process that runs the program of a source. It sets this variable for the program.
const ASKED_BY: &str = "SHMCREDS_ASKED_BY";

/// Whether a source of the process `pid` has started this process.
pub(crate) fn is_asked_by(pid: i32) -> bool {
    std::env::var(ASKED_BY).is_ok_and(|asking| asking == pid.to_string())
}

/// Fails if this process is a program of the session's own source.
pub(crate) fn check(session: &SharedSession) -> Result<(), CommandError> {
    let asking = std::env::var(ASKED_BY).ok().and_then(|pid| pid.parse().ok());
    let status = session.status()?;
    let refresher = status.lease_holder().filter(|refresher| refresher.is_alive());
    let Some(refresher) = refresher.filter(|refresher| Some(refresher.pid()) == asking) else {
        return Ok(());
    };
    let (name, pid) = (session.name(), refresher.pid());
    let text = format!(
        "session {name:?} asks itself: the source of process {pid} ran `shmcreds credentials {name}`; give the \
         session another source, for example a profile without that credential_process"
    );
    Err(CommandError::new(CONFIGURATION, text))
}
