//! `serve`: a session and its endpoint, for processes that others start.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::channel,
    thread,
};

use nix::{
    sys::signal::Signal,
    unistd::{Gid, fchown},
};
use sd_notify::NotifyState;
use shmcreds::SharedSession;
use signal_hook::{
    consts::{SIGHUP, TERM_SIGNALS},
    iterator::Signals,
};

use crate::{
    arguments::Serve,
    command_error::{CANNOT_CREATE, CommandError, Doing},
    endpoint::{Addresses, Endpoint},
    errno::told,
    log, process_pair,
    session::{self, Event},
    tls::Certificate,
    unix_socket::Rules,
};

/// What `serve` does when it fails to listen to signals.
const SIGNALS: &str = "handling signals (sigaction)";

pub(crate) fn run(options: Serve) -> Result<ExitCode, CommandError> {
    log::learn_secrets(&options.session);
    let session = session::create_or_take_over(&options.name, &options.session, options.group)?;
    let mut signals = Signals::new(TERM_SIGNALS).doing(SIGNALS)?;
    if process_pair::forwarded().contains(&Signal::SIGHUP) {
        signals.add_signal(SIGHUP).doing(SIGNALS)?;
    }
    let endpoint = Endpoint::bind(options.addresses()?)?;
    let write = |path: &Path| TokenFile::write(path, &endpoint.token, options.group);
    let token_file = options.token_file.as_deref().map(write).transpose()?;
    let (sender, events) = channel();
    for url in endpoint.urls() {
        crate::print(&url)?;
    }
    let served = endpoint.serve(session.clone(), sender.clone());
    let socket_file = served.doing("starting the endpoint")?;
    if options.session.is_eager() {
        session::keep_fresh(&session);
    }
    thread::spawn(move || {
        for signal in signals.forever() {
            let _ = sender.send(Event::Signal(signal));
        }
    });
    let mut outcome = Ok(ExitCode::SUCCESS);
    let mut reported = false;
    for event in events {
        match event {
            Event::First(Ok(())) => {
                ready(&session);
                session::warn_of_consumers(&session);
                continue;
            }
            // A sidecar survives an outage: it asks again. The log shows each failure.
            Event::First(Err(no_set)) => {
                if !reported {
                    no_set.failure.report();
                }
                reported = true;
                continue;
            }
            Event::Endpoint(error) => outcome = Err(error).doing("serving the endpoint"),
            Event::Signal(_) | Event::Unused => {}
        }
        break;
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    session.unlink();
    drop((token_file, socket_file));
    outcome
}

fn ready(session: &SharedSession) {
    tracing::info!(session = session.name(), "ready");
    // Without systemd this does nothing.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

impl Serve {
    /// The addresses of the endpoint, with the certificate that they need.
    fn addresses(&self) -> Result<Addresses, CommandError> {
        let certificate = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Certificate::read(certificate, key)?),
            _ => None,
        };
        let rules = Rules { uids: self.allow_uid.clone(), gids: self.allow_gid.clone() };
        Ok(Addresses {
            plain: self.listen.clone(),
            tls: self.listen_tls.clone(),
            certificate,
            unix: self.unix.clone().map(|path| (path, rules)),
        })
    }
}

/// The file with the token. Dropping this removes the file.
struct TokenFile {
    path: PathBuf,
    token: String,
}

impl TokenFile {
    /// Writes the token without a newline, readable for this user and the members of `group` only. It is written in one
    /// step, so that no reader sees a part of it.
    fn write(path: &Path, token: &str, group: Option<u32>) -> Result<Self, CommandError> {
        let draft = [path.as_os_str(), ".new".as_ref()].into_iter().collect::<OsString>();
        let write = || {
            let _ = fs::remove_file(&draft);
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
            if let Some(gid) = group {
                fchown(&file, None, Some(Gid::from_raw(gid)))?;
                file.set_permissions(Permissions::from_mode(0o640))?;
            }
            file.write_all(token.as_bytes())?;
            fs::rename(&draft, path)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&draft);
            let text = format!("--token-file {}: {}", path.display(), told(&error));
            CommandError::new(CANNOT_CREATE, text)
        })?;
        Ok(TokenFile { path: path.to_owned(), token: token.to_owned() })
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        // Another `serve` may have written its own token meanwhile.
        if fs::read_to_string(&self.path).is_ok_and(|written| written == self.token) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
