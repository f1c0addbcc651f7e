//! The session that `exec` and `serve` keep.

use std::{
    fmt::Display,
    sync::{Arc, mpsc::Sender},
    thread,
    time::{Duration, Instant},
};

use aws_credential_types::provider::error::CredentialsError;
use shmcreds::{Error, Refresh, SharedSession, SharedSessionBuilder, SourceErrorClass};

use crate::{
    arguments,
    command_error::{CommandError, Doing, UNAVAILABLE},
    errno::names_shortage,
    kept::Sets,
    sources,
};

/// botocore refreshes on every read if the set is valid for less than 15 minutes. This leaves 5 minutes for new
/// attempts after a failed refresh.
pub(crate) const ADVISORY: Duration = Duration::from_secs(20 * 60);
pub(crate) const MANDATORY: Duration = Duration::from_secs(60);

/// What a command does when it fails to start a thread.
pub(crate) const THREAD: &str = "starting a thread";

/// The time between two attempts for the first set.
const PAUSE: Duration = Duration::from_millis(500);

/// The pauses before a refresher that has failed is started again: each is twice as long as the one before.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The events that the main thread waits for.
pub(crate) enum Event {
    Signal(i32),
    First(Result<(), NoSet>),
    Endpoint(std::io::Error),
    /// No process uses the endpoint any more.
    Unused,
}

/// Why there is no first set yet.
pub(crate) struct NoSet {
    pub(crate) failure: CommandError,
    /// Whether a retry may help.
    pub(crate) may_pass: bool,
}

/// Makes the session of `exec`. The process must have one thread.
pub(crate) fn create(
    name: &str,
    options: &arguments::Session,
    sealed: bool,
) -> Result<SharedSession, CommandError> {
    // CMD uses the endpoint, and is passed the session.
    make(name, options, sealed, |builder| builder.name_is_optional().create())
}

/// Makes the session of `serve`, or takes over a session that a killed `serve` has left and that readers use.
pub(crate) fn create_or_take_over(
    name: &str,
    options: &arguments::Session,
    group: Option<u32>,
) -> Result<SharedSession, CommandError> {
    make(name, options, false, |builder| {
        let shared = group.map_or(builder.clone(), |gid| builder.group(gid));
        shared.create_or_take_over()
    })
}

fn make(
    name: &str,
    options: &arguments::Session,
    sealed: bool,
    make: impl FnOnce(SharedSessionBuilder) -> Result<SharedSession, Error>,
) -> Result<SharedSession, CommandError> {
    let source = sources::build(&options.source)?;
    let builder = {
        let builder = SharedSession::builder(name)
            .source(Arc::clone(&source))
            .advisory_window(ADVISORY)
            .mandatory_window(MANDATORY)
            .consumers_keep(options.consumers_keep)
            .wait_timeout(Duration::from_secs(options.deadline));
        #[cfg(feature = "fleet")]
        let builder = crate::fleet::join(builder, &options.fleet)?;
        match sealed {
            true => builder.refresh(Refresh::Eager).sealed(),
            // A thread of this process refreshes an eager session.
            false => builder,
        }
    };
    Ok(make(builder)?)
}

/// Waits for the first set, if there is to be one. Sends an event for it, and for each failure before it.
pub(crate) async fn fetch_first(sets: Option<&Sets>, events: &Sender<Event>) {
    if let Some(sets) = sets {
        while let Err(error) = sets.provide().await {
            // After a signal the main thread does not receive events any more.
            let _ = events.send(Event::First(Err(no_set(sets, &error))));
            // The session's back-off decides when the source is asked again.
            tokio::time::sleep(PAUSE).await;
        }
    }
    let _ = events.send(Event::First(Ok(())));
}

/// Why there is no set, and what to do.
fn no_set(sets: &Sets, error: &CredentialsError) -> NoSet {
    let status = sets.status();
    let last = status.as_ref().ok().and_then(|status| status.last_failure());
    let Some(failure) = last.map(|last| last.failure()) else {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        let text = cause.unwrap_or_else(|| error.to_string());
        return NoSet { failure: CommandError::new(UNAVAILABLE, text), may_pass: true };
    };
    let (may_pass, advice) = match failure.class() {
        SourceErrorClass::Terminal => (false, "check the permissions and the base credentials"),
        SourceErrorClass::Misconfigured => (false, "check the source options and the environment"),
        SourceErrorClass::Throttled => (true, "try again later"),
        // The text of the failure says what to do about it.
        _ if names_shortage(failure.message()) => (true, "then try again"),
        _ => (true, "check the network connection, and try again"),
    };
    let text = format!("no credentials ({}): {failure}; {advice}", failure.class());
    NoSet { failure: CommandError::new(UNAVAILABLE, text), may_pass }
}

/// Says that the sets do not live long enough for consumers that keep them, if that is so.
pub(crate) fn warn_of_consumers(session: &SharedSession) {
    let (Ok(status), Ok(Some(set))) = (session.status(), session.snapshot()) else { return };
    // Other warnings wait for the refresher, which may not be there yet.
    let is_short = set.lifetime() < SharedSession::life_for_consumers(status.consumers_keep());
    if let Some(warning) = status.consumers_warning().filter(|_| is_short) {
        tracing::warn!("--consumers-keep: {warning}");
    }
}

/// Refreshes the session in time, in a new thread, until the process ends.
pub(crate) fn keep_fresh(session: &SharedSession) -> Result<(), CommandError> {
    let session = session.clone();
    let work = move || {
        let run = || session.run_refresher(&shmcreds::StopHandle::new());
        keep_running(run, thread::sleep);
    };
    let thread = thread::Builder::new().name("refresher".into()).spawn(work);
    thread.map(drop).doing(THREAD)
}

/// Runs a refresher until it is told to end. One that fails is started again: what it lacked may be there later, for example
/// a thread. In the meantime a program that asks causes the refresh.
pub(crate) fn keep_running<E: Display>(
    mut run: impl FnMut() -> Result<(), E>,
    pause: impl Fn(Duration),
) {
    let mut next = SHORTEST_PAUSE;
    loop {
        let begun = Instant::now();
        let Err(error) = run() else { return };
        if begun.elapsed() > LONGEST_PAUSE {
            next = SHORTEST_PAUSE;
        }
        tracing::error!(%error, "no process refreshes in time at the moment; starting the refresher again in {next:?}");
        pause(next);
        next = (next * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[test]
    fn a_refresher_that_fails_is_started_again_after_longer_and_longer_pauses() {
        let (runs, pauses) = (Cell::new(0), RefCell::new(Vec::new()));
        let run = || {
            runs.set(runs.get() + 1);
            if runs.get() < 10 { Err("no thread") } else { Ok(()) }
        };
        keep_running(run, |pause| pauses.borrow_mut().push(pause.as_secs()));
        assert_eq!(*pauses.borrow(), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
