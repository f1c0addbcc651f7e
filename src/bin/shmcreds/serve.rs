//! `serve`: a session or a pool of roles, and its endpoint, for processes that others start.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use nix::sys::signal::Signal;
use sd_notify::NotifyState;
use shmcreds::{SharedSession, endpoint::service::PATH};
use signal_hook::{
    consts::{SIGHUP, TERM_SIGNALS},
    iterator::Signals,
};

use crate::{
    arguments::Serve,
    command_error::{CommandError, Doing},
    endpoint::{Addresses, Endpoint},
    log, process_pair,
    role_book::RoleBook,
    role_grant::BY_NAME,
    role_pool, role_refresher,
    same_user::SameUser,
    session::{self, Event, THREAD},
    tls::Certificate,
    token::{Token, TokenFile, TokenPlace},
    unix_socket::Rules,
};

/// What `serve` does when it fails to listen to signals.
const SIGNALS: &str = "handling signals (sigaction)";

pub(crate) fn run(options: Serve) -> Result<ExitCode, CommandError> {
    log::learn_secrets(&options.session);
    match &options.roles {
        Some(path) => {
            let path = path.clone();
            roles(options, &path)
        }
        None => one_session(options),
    }
}

fn one_session(options: Serve) -> Result<ExitCode, CommandError> {
    let session = session::create_or_take_over(&options.name, &options.session, options.group)?;
    let signals = Signals::new(TERM_SIGNALS).doing(SIGNALS)?;
    if process_pair::forwarded().contains(&Signal::SIGHUP) {
        signals.add_signal(SIGHUP).doing(SIGNALS)?;
    }
    let endpoint = Endpoint::bind(options.addresses()?)?;
    let token = Token::of(&endpoint.token);
    let place = options.token_file.clone().map(|path| TokenPlace {
        path,
        group: options.group,
        owner: None,
    });
    let write = |place| TokenFile::write("--token-file", place, &token);
    let token_file = place.as_ref().map(write).transpose()?;
    let (sender, events) = channel();
    for url in endpoint.urls(PATH) {
        crate::print(&url)?;
    }
    let served = endpoint.serve(session.clone(), sender.clone());
    let socket_file = served.doing("starting the endpoint")?;
    if options.session.is_eager() {
        session::keep_fresh(&session)?;
    }
    listen(signals, sender)?;
    let outcome = wait(&events, || ready(&session), |_| false);
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    session.unlink();
    drop((token_file, socket_file));
    outcome
}

fn ready(session: &SharedSession) {
    tracing::info!(session = session.name(), "ready");
    // Without systemd this does nothing.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    session::warn_of_consumers(session);
}

fn roles(options: Serve, path: &std::path::Path) -> Result<ExitCode, CommandError> {
    // First, because it keeps another process from serving these roles.
    let same_user = SameUser::bind(&options.name)?;
    let signals = Signals::new(TERM_SIGNALS).doing(SIGNALS)?;
    signals.add_signal(SIGHUP).doing(SIGNALS)?;
    let endpoint = Endpoint::bind(options.addresses()?)?;
    let book = role_pool::create_or_continue(&options.name, &options.session, path)?;
    let pool = book.roles.clone();
    let (sender, events) = channel();
    for url in endpoint.urls(BY_NAME) {
        crate::print(&url)?;
    }
    let book = Arc::new(book);
    book.resume();
    let refresher = role_refresher::start(&options.session, &pool)?;
    let served = endpoint.serve_roles(Arc::clone(&book), same_user, None, sender.clone());
    let socket_file = served.doing("starting the endpoint")?;
    listen(signals, sender)?;
    let ready = || {
        tracing::info!(pool = pool.name(), "ready");
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    };
    let outcome = wait(&events, ready, |signal| signal == SIGHUP && reload(&book));
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    book.close();
    drop(refresher);
    pool.leave();
    drop(socket_file);
    outcome
}

/// Reads the roles file again.
fn reload(book: &Arc<RoleBook>) -> bool {
    let mut states = vec![NotifyState::Reloading];
    states.extend(NotifyState::monotonic_usec_now().ok());
    let _ = sd_notify::notify(&states);
    book.reload();
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    true
}

fn listen(mut signals: Signals, sender: Sender<Event>) -> Result<(), CommandError> {
    let work = move || {
        process_pair::unblock();
        for signal in signals.forever() {
            let _ = sender.send(Event::Signal(signal));
        }
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(work);
    thread.map(drop).doing(THREAD)
}

/// Waits until a signal ends the process that `handle` does not handle.
fn wait(
    events: &Receiver<Event>,
    ready: impl Fn(),
    handle: impl Fn(i32) -> bool,
) -> Result<ExitCode, CommandError> {
    let mut reported = false;
    for event in events {
        match event {
            Event::First(Ok(())) => ready(),
            // A sidecar survives an outage: it asks again. The log shows each failure.
            Event::First(Err(no_set)) => {
                if !reported {
                    no_set.failure.report();
                }
                reported = true;
            }
            Event::Endpoint(error) => return Err(error).doing("serving the endpoint"),
            Event::Signal(signal) if handle(signal) => {}
            Event::Signal(_) | Event::Unused => break,
        }
    }
    Ok(ExitCode::SUCCESS)
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
