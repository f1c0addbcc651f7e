//! `serve`: a session and its endpoint, for processes that somebody else starts.

use std::{
    fs, io::Write, os::unix::fs::OpenOptionsExt, path::Path, process::ExitCode,
    sync::mpsc::channel, thread,
};

use sd_notify::NotifyState;
use shmcreds::SharedSession;
use signal_hook::{consts::TERM_SIGNALS, iterator::Signals};

use crate::{
    arguments::Serve,
    endpoint::Endpoint,
    failure::Failure,
    session::{self, Event},
};

pub(crate) fn run(options: Serve) -> Result<ExitCode, Failure> {
    let session = session::create(&options.name, &options.session, false)?;
    let endpoint = Endpoint::bind(options.listen)?;
    let mut signals = Signals::new(TERM_SIGNALS)?;
    if let Some(path) = &options.token_file {
        write_token(path, &endpoint.token)?;
    }
    let (sender, events) = channel();
    println!("{}", endpoint.url());
    endpoint.serve(session.clone(), sender.clone())?;
    if options.session.is_eager() {
        session::keep_fresh(&session);
    }
    thread::spawn(move || {
        for signal in signals.forever() {
            let _ = sender.send(Event::Signal(signal));
        }
    });
    let mut outcome = Ok(ExitCode::SUCCESS);
    for event in events {
        match event {
            Event::First(Ok(())) => {
                ready(&session);
                continue;
            }
            // A sidecar outlives an outage: it is asked again, and says so.
            Event::First(Err(failure)) => {
                failure.report();
                continue;
            }
            Event::Endpoint(error) => outcome = Err(error.into()),
            Event::Signal(_) => {}
        }
        break;
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    session.unlink();
    if let Some(path) = &options.token_file {
        // Somebody may have removed it.
        let _ = fs::remove_file(path);
    }
    outcome
}

fn ready(session: &SharedSession) {
    tracing::info!(session = session.name(), "ready");
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// Writes the token, without a newline at its end, for this user only; in one step, so that nobody reads
/// a half of it.
fn write_token(path: &Path, token: &str) -> Result<(), Failure> {
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(token.as_bytes())?;
    fs::rename(&draft, path)?;
    Ok(())
}
