//! An endpoint on a thread of this process.

use std::{
    ffi::OsString,
    fmt, io,
    mem::forget,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread::{self, JoinHandle},
};

use nix::sys::socket::{Shutdown, shutdown};
use tokio::sync::oneshot;

use super::{
    environment::{self, Files},
    http,
    memory_files::MemoryFiles,
    random,
    service::{Clients, PATH, Service, Shared},
};
use crate::{
    error::{Error, Fault},
    session::SharedSession,
    source::Profile,
    sys::process_token::ProcessToken,
};

impl SharedSession {
    /// Serves the session on 127.0.0.1, for the libraries with a credentials chain of their own that this program, or a
    /// program that it starts, uses. With the feature `endpoint`.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use aws_credential_types::Credentials;
    /// # use shmcreds::{Provider, SharedSession};
    /// # let session = SharedSession::builder(&format!("doc-endpoint-{}", std::process::id()))
    /// #     .source(Provider::new("example", || async {
    /// #         let hour = SystemTime::now() + Duration::from_secs(3600);
    /// #         Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "example")
    /// #     }))
    /// #     .create()?;
    /// let endpoint = session.endpoint()?;
    ///
    /// // Every SDK in this program finds the endpoint, and nothing that would take precedence over it.
    /// let mut program = std::process::Command::new("true");
    /// endpoint.apply_to(&mut program);
    /// program.status().unwrap();
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    ///
    /// A thread of this process serves, until the handle is dropped or the process ends. So a process that forks workers
    /// must not have it while it forks: call this in each worker, after the fork, or use `shmcreds exec` or
    /// `shmcreds serve`. A forked child can ask the endpoint of its parent. Its copy of the handle does nothing.
    ///
    /// # Errors
    /// [`System`](crate::ErrorKind::System) when the kernel gives no socket or no thread.
    pub fn endpoint(&self) -> Result<Endpoint, Error> {
        Endpoint::start(self).map_err(|fault| fault.during("endpoint", self.name()))
    }
}

/// The endpoint of a session, on 127.0.0.1: see [`SharedSession::endpoint`]. It ends when this is dropped.
pub struct Endpoint {
    url: String,
    token: String,
    token_file: Option<PathBuf>,
    config_file: Option<PathBuf>,
    files: Option<MemoryFiles>,
    listener: TcpListener,
    /// Whether this is the process that serves. A forked child is not.
    process: ProcessToken,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Endpoint {
    fn start(session: &SharedSession) -> Result<Self, Fault> {
        let failed = |what| move |error: io::Error| Fault::system(what, error);
        let listener = http::bind((Ipv4Addr::LOCALHOST, 0).into())
            .map_err(failed("listening on 127.0.0.1"))?;
        let address = listener.local_addr().map_err(failed("reading an address"))?;
        let token = random::token().map_err(failed("drawing a token (getrandom)"))?;
        let serving = serve(session, &listener, address, token.clone())
            .map_err(failed("starting the endpoint"))?;
        // A client may need neither file, and some hosts have no directory for them.
        let files = MemoryFiles::create().ok();
        let write = |name, text: &str| files.as_ref()?.write(name, text).ok();
        Ok(Endpoint {
            url: format!("http://{address}{PATH}"),
            token_file: write("token-", &token),
            config_file: write("config-", &Profile::selected().without_credentials()),
            token,
            files,
            listener,
            process: ProcessToken::current(),
            serving: Some(serving),
        })
    }

    /// The address, for `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token that a client must show, for `AWS_CONTAINER_AUTHORIZATION_TOKEN`.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A file with the token, for `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`. It is in memory, and goes with this handle.
    /// Only this user can read it. If this user is root, every user can who knows its random name: a program of root may
    /// change its user. `None` where no directory can hold secrets.
    #[must_use]
    pub fn token_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    /// The variables to set, with their values: the address, both forms of the token, config files without
    /// credentials, and the addresses that must not go through a proxy. Variables with keys, roles and profiles take
    /// precedence and must not be there: [`apply_to`](Self::apply_to) removes them.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, OsString)> {
        let files =
            Files { token: self.token_file.as_deref(), config: self.config_file.as_deref() };
        environment::variables(&self.url, &self.token, files)
    }

    /// Lets a program find the endpoint, and nothing that takes precedence over it.
    pub fn apply_to(&self, command: &mut Command) {
        for name in environment::CLEARED {
            command.env_remove(name);
        }
        command.envs(self.variables());
    }
}

/// Serves on a new thread, until the sender sends or is dropped.
fn serve(
    session: &SharedSession,
    listener: &TcpListener,
    address: SocketAddr,
    token: String,
) -> io::Result<(oneshot::Sender<()>, JoinHandle<()>)> {
    let runtime = http::runtime()?;
    let listener = listener.try_clone()?;
    let shared = Shared::new(session.clone(), token);
    let service = Arc::new(Service::new(shared, Clients::Local(vec![address])));
    let (stop, stopped) = oneshot::channel();
    let serve = async move {
        let listener = http::Plain::new(listener, true)?;
        tokio::select! {
            served = http::serve(listener, http::connections_of_a_library(), service) => served,
            _ = stopped => Ok(()),
        }
    };
    let thread = thread::Builder::new().name("shmcreds-http".into());
    let thread = thread.spawn(move || {
        if let Err(error) = runtime.block_on(serve) {
            tracing::error!(%error, "the endpoint ended");
        }
        // A fetch that a client has started may go on.
        runtime.shutdown_background();
    })?;
    Ok((stop, thread))
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let serving = self.serving.take();
        if self.process != ProcessToken::current() {
            // The parent serves. Its thread is not here, and it may have held locks.
            forget(serving);
            return;
        }
        if let Some((stop, thread)) = serving {
            drop(stop);
            // It cannot panic, and its end is what counts.
            let _ = thread.join();
        }
        // Forked children may have the socket, too. It must not accept connections that nobody serves.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(files) = &self.files {
            files.remove();
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).finish_non_exhaustive()
    }
}
