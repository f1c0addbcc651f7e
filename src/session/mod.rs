//! The session: what programs hold.

mod asking;
mod async_waiters;
mod asynchronous;
mod builder;
mod consumers;
mod creator;
mod electing;
mod eviction;
mod fleet_status;
mod group;
mod handover;
mod held_role;
mod inner;
mod lasting;
mod leave;
mod look;
mod passed;
mod pool;
mod pool_refresher;
mod pool_rules;
mod pool_succession;
mod process_session;
mod provider;
mod read;
mod reader;
mod refresher_start;
mod refreshing;
mod registry;
mod report_rejection;
mod request;
mod role;
mod service;
mod shared_pool;
mod snapshot;
mod status;
mod status_text;
mod succession;
mod term;
mod timing;
mod unplaced;
mod unreachable;
mod wait;

mod whose;

use std::{fmt, process::Command, sync::Arc, time::Duration};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};

pub use builder::{Refresh, SharedSessionBuilder};
pub use electing::Election;
pub use fleet_status::{FleetRole, FleetStatus, FleetStoreState};
#[doc(hidden)]
pub use handover::run_refresher_program;
pub(crate) use held_role::HeldRole;
pub(crate) use inner::Inner;
pub use look::SetSnapshot;
pub(crate) use pool_rules::Rules;
pub use reader::Reader;
pub(crate) use shared_pool::{MOST_ROLES, PoolTerms, SharedPool};
pub use status::{LastFailure, LeaseHolder, State, Status};
pub use term::Term;

use self::{process_session::ProcessSession, timing::Limit, wait::Need};
use crate::{error::Error, refresh::stop_handle::StopHandle, segment::Segment};

/// One set of temporary credentials, shared by all processes that hold the session.
///
/// Made by [`create`](SharedSessionBuilder::create) in the parent, before it forks, and by
/// [`attach`](Self::attach) in its workers. Clones are cheap and share everything. The session
/// ends, and its names disappear, when the process that created it drops its last handle; forked
/// children that drop theirs change nothing. With
/// [`removed_by_last_user`](SharedSessionBuilder::removed_by_last_user) it ends with the last process that uses it.
///
/// # Errors of all methods that give credentials
/// None as long as there is a set that has not expired. Otherwise:
///
/// | kind | when |
/// | --- | --- |
/// | [`SourceTerminal`](crate::ErrorKind::SourceTerminal), [`SourceTransient`](crate::ErrorKind::SourceTransient), [`SourceThrottled`](crate::ErrorKind::SourceThrottled), [`SourceMisconfigured`](crate::ErrorKind::SourceMisconfigured) | the source failed: every process gets what it said, while the shared back-off lasts |
/// | [`Timeout`](crate::ErrorKind::Timeout) | no valid set came within the [wait timeout](SharedSessionBuilder::wait_timeout) |
/// | [`NoSource`](crate::ErrorKind::NoSource) | this process may only read, or only [`elect`](Self::elect) lets it ask the source, and no other process refreshed in time |
/// | [`DescriptorClosed`](crate::ErrorKind::DescriptorClosed) | other code of this process closed a descriptor of the session, and it cannot be opened again |
/// | [`System`](crate::ErrorKind::System) | the kernel refuses a thread or a descriptor |
/// | [`BadChecksum`](crate::ErrorKind::BadChecksum) | another program damaged the segment, and this process may only read it |
///
/// ```
/// # use std::time::{Duration, SystemTime};
/// # use aws_credential_types::Credentials;
/// use shmcreds::{Provider, SharedSession};
///
/// # let name = format!("doc-session-{}", std::process::id());
/// # let name = name.as_str();
/// # let make = || async {
/// #     let hour = SystemTime::now() + Duration::from_secs(3600);
/// #     Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "doc")
/// # };
/// let session = SharedSession::builder(name).source(Provider::new("doc", make)).create()?;
/// // In a worker, after fork:
/// let worker = SharedSession::attach(name)?;
/// assert_eq!(worker.credentials()?.access_key_id(), session.credentials()?.access_key_id());
/// assert_eq!(worker.status()?.source_calls(), 1);
/// # Ok::<(), shmcreds::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedSession {
    inner: Arc<Inner>,
    /// One for all clones: each new one would be a partition of its own in an identity cache.
    provider: SharedCredentialsProvider,
}

impl SharedSession {
    fn new(shared: Arc<ProcessSession>, segment: Arc<Segment>) -> Self {
        let inner = Arc::new(Inner::new(shared, segment));
        SharedSession { provider: provider::of(Arc::clone(&inner)), inner }
    }

    /// Starts to describe the session `name`: 1 to 64 ASCII letters, digits, `.`, `_` or `-`, the
    /// first a letter or digit. Nothing is checked or made yet.
    pub fn builder(name: impl Into<String>) -> SharedSessionBuilder {
        SharedSessionBuilder::new(name.into())
    }

    /// The session `name` that a parent of this process created, or another process of the same
    /// user. A forked child has the parent's source and can be elected; a process that only knows
    /// the name can read (give it a source by [`SharedSessionBuilder::attach`]).
    ///
    /// # Errors
    /// [`Absent`](crate::ErrorKind::Absent), [`ForeignOwner`](crate::ErrorKind::ForeignOwner),
    /// [`InsecureMode`](crate::ErrorKind::InsecureMode), [`NotAFile`](crate::ErrorKind::NotAFile),
    /// [`TooSmall`](crate::ErrorKind::TooSmall), [`Uninitialized`](crate::ErrorKind::Uninitialized) after half a
    /// second, [`WrongMagic`](crate::ErrorKind::WrongMagic), [`WrongVersion`](crate::ErrorKind::WrongVersion),
    /// [`BadChecksum`](crate::ErrorKind::BadChecksum), [`InvalidInput`](crate::ErrorKind::InvalidInput);
    /// [`Unsupported`](crate::ErrorKind::Unsupported) in another time namespace than the creator's;
    /// [`DescriptorClosed`](crate::ErrorKind::DescriptorClosed) where other code of this process closed what it inherited.
    pub fn attach(name: impl AsRef<str>) -> Result<Self, Error> {
        SharedSession::builder(name.as_ref()).attach()
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.inner.shared.name.as_str()
    }

    /// The current credentials. Nothing shared is written while the set is fresh, and no system call is
    /// made but by the first read of a set in each thread, which keeps its copy out of core dumps. In the advisory window
    /// the set comes at once, and one process refreshes in the background; in the last minute it may come
    /// after a short wait. Blocks only when there is nothing valid.
    ///
    /// # Errors
    /// See [`SharedSession`].
    // Always: a call of its own saves registers to the stack, and the locked instruction of the clone waits until these
    // stores are in the cache. That is most of what the read adds to the clone.
    #[inline(always)]
    pub fn credentials(&self) -> Result<Credentials, Error> {
        match self.inner.quick() {
            Some(current) => current.credentials(),
            None => self.inner.credentials(),
        }
    }

    /// As [`credentials`](Self::credentials), but waits at most `limit`: for a caller that must look at something else
    /// meanwhile, such as a signal or an event loop. It may call again.
    ///
    /// | at the limit | |
    /// | --- | --- |
    /// | this process makes the call of the source | the call goes on on its thread, and publishes its set for all processes |
    /// | another process makes it | nothing changes for that process |
    /// | there is a valid set, and a better one is waited for | the valid set is returned |
    ///
    /// With a limit of zero it never waits, but starts the call where this process is elected for it.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use aws_credential_types::Credentials;
    /// # use shmcreds::{ErrorKind, Provider, SharedSession};
    /// # let make = || async {
    /// #     let hour = SystemTime::now() + Duration::from_secs(3600);
    /// #     Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "doc")
    /// # };
    /// # let name = format!("doc-within-{}", std::process::id());
    /// # let session = SharedSession::builder(name).source(Provider::new("doc", make)).create()?;
    /// let credentials = loop {
    ///     match session.credentials_within(Duration::from_millis(100)) {
    ///         Err(error) if error.kind() == ErrorKind::Timeout => { /* look at signals, go on */ }
    ///         outcome => break outcome?,
    ///     }
    /// };
    /// # assert_eq!(credentials.access_key_id(), "ASIAEXAMPLE");
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    ///
    /// # Errors
    /// See [`SharedSession`]. [`Timeout`](crate::ErrorKind::Timeout) names `limit`; in a process without a source it is
    /// [`NoSource`](crate::ErrorKind::NoSource).
    pub fn credentials_within(&self, limit: Duration) -> Result<Credentials, Error> {
        match self.inner.quick() {
            Some(current) => current.credentials(),
            None => self.inner.credentials_by(Limit::of_call(limit)),
        }
    }

    /// The newest set as it is now: credentials, generation, expiry and state as one value; `None` when there has been
    /// no set. It neither waits nor starts a call, whatever the state: for a program that decides itself when to wait.
    ///
    /// The set may have expired, or AWS may have rejected it: see [`SetSnapshot::state`] and
    /// [`SetSnapshot::is_rejected`].
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use aws_credential_types::Credentials;
    /// # use shmcreds::{Provider, SharedSession};
    /// # let make = || async {
    /// #     let hour = SystemTime::now() + Duration::from_secs(3600);
    /// #     Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "doc")
    /// # };
    /// # let name = format!("doc-snapshot-{}", std::process::id());
    /// # let session = SharedSession::builder(name).source(Provider::new("doc", make)).create()?;
    /// assert!(session.snapshot()?.is_none());
    /// session.credentials()?;
    /// let set = session.snapshot()?.expect("there is one now");
    /// assert_eq!((set.generation(), set.is_valid()), (1, true));
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`BadChecksum`](crate::ErrorKind::BadChecksum) when another program damaged the segment and this process may only
    /// read it.
    pub fn snapshot(&self) -> Result<Option<SetSnapshot>, Error> {
        self.inner.latest().look().map_err(|fault| self.inner.fault("snapshot", fault))
    }

    /// A handle for one thread that lends the credentials: the fastest way to read them often.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.inner))
    }

    /// Waits for a set that is newer than the current one. This process fetches it, or the process that is elected.
    /// Honours the back-off after a failure.
    ///
    /// # Errors
    /// The source's error, [`Timeout`](crate::ErrorKind::Timeout) or [`NoSource`](crate::ErrorKind::NoSource);
    /// the set that was there stays.
    pub fn refresh(&self) -> Result<Credentials, Error> {
        let refresh = |inner: &Arc<Inner>| {
            let generation = inner.segment.view().published().generation();
            inner.requests()?.request_refresh(generation);
            inner.wait(Need::After(generation), inner.limit())
        };
        self.inner
            .on_latest(refresh)
            .map(|snapshot| snapshot.credentials.clone())
            .map_err(|fault| self.inner.fault("refresh", fault))
    }

    /// Says that AWS rejected `access_key_id`. If it is the current one, the next caller that needs
    /// credentials gets newer ones, or the dedicated refresher fetches them; true for the first who
    /// says so. A key that has been replaced already changes nothing. A set younger than 5 s stays
    /// until it is as old as that: what AWS rejects at once, it would reject again.
    ///
    /// # Errors
    /// [`System`](crate::ErrorKind::System) when the segment cannot be written.
    pub fn invalidate(&self, access_key_id: &str) -> Result<bool, Error> {
        self.inner
            .latest()
            .invalidate(access_key_id)
            .map_err(|fault| self.inner.fault("invalidate", fault))
    }

    /// Refreshes this session's set in time, in this thread, until [`stop`](StopHandle::stop) is called. While
    /// another process refreshes, it waits, and takes over at once when that process dies. For a sidecar, a
    /// systemd unit, or a server that cannot have an eager session's own process.
    ///
    /// ```no_run
    /// # let session = shmcreds::SharedSession::attach("web")?;
    /// let stop = shmcreds::StopHandle::new();
    /// let refresher = session.clone();
    /// let thread = std::thread::spawn({
    ///     let stop = stop.clone();
    ///     move || refresher.run_refresher(&stop)
    /// });
    /// // … until the service ends:
    /// stop.stop();
    /// thread.join().expect("it does not panic")?;
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NoSource`](crate::ErrorKind::NoSource) when this process has none;
    /// [`System`](crate::ErrorKind::System) when the kernel refuses a lock, a mapping or a thread. A failure of
    /// the source is none: the status shows it, and the refresher tries again.
    pub fn run_refresher(&self, stop: &StopHandle) -> Result<(), Error> {
        let inner = self.inner.latest();
        inner.run_refresher(stop).map_err(|fault| inner.fault("run_refresher", fault))
    }

    /// Lets the program that `command` starts [`attach`](Self::attach) to this session, and all that
    /// program starts in turn. Only a session without a name needs it, a [sealed](SharedSessionBuilder::sealed) one or
    /// one [in memory files](SharedSessionBuilder::directory): its descriptors go along, named in the environment variable
    /// `SHMCREDS_SESSIONS`. The program counts as a user of the session until it ends.
    ///
    /// ```no_run
    /// # let session = shmcreds::SharedSession::attach("web")?;
    /// let mut worker = std::process::Command::new("/usr/local/bin/worker");
    /// session.pass_to(&mut worker)?;
    /// worker.spawn().expect("it starts");
    /// // In the worker: SharedSession::attach("web")
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`System`](crate::ErrorKind::System) when the kernel gives no descriptor.
    pub fn pass_to(&self, command: &mut Command) -> Result<(), Error> {
        let (shared, segment) = (&self.inner.shared, &self.inner.segment);
        if segment.path().is_some() {
            return Ok(());
        }
        passed::pass(&shared.name, segment, &shared.election_lock, command)
            .map_err(|fault| self.inner.fault("pass_to", fault))
    }

    /// The names of this user's sessions, in order: of all directories in which they may be. Sessions that killed
    /// processes have left are among them; sealed sessions have no name.
    ///
    /// # Errors
    /// What the kernel says when a directory cannot be read. No directory is no session.
    pub fn list() -> std::io::Result<Vec<String>> {
        registry::list()
    }

    /// Removes what killed processes have left of a session.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a wrong name, [`Absent`](crate::ErrorKind::Absent) where there
    /// is nothing, [`InUse`](crate::ErrorKind::InUse) with the pid of a live process that uses it.
    pub fn remove(name: &str) -> Result<(), Error> {
        registry::remove(name).map_err(|fault| fault.during("remove", name))
    }

    /// Removes the session's name, in the process that created it. After that no process can attach by the name.
    /// Processes that have the session keep it.
    ///
    /// The drop of the creator's last handle does the same. If your process ends while other threads have handles,
    /// call this before.
    pub fn unlink(&self) {
        self.inner.shared.unlink();
    }

    /// Says that this process does not use the session any more, although it still has handles: in statics, in other
    /// threads, or inherited by fork. A process that drops all its handles need not call it.
    ///
    /// | in | why |
    /// | --- | --- |
    /// | a forked child that has nothing to do with the session | otherwise the child keeps the session in use: its name, and the dedicated refresher of an eager session, as long as the child lives |
    /// | a process that ends | if it is the last user of a session that is [removed by its last user](SharedSessionBuilder::removed_by_last_user), this removes the names |
    ///
    /// The handles go on as long as the process lives, but nobody else waits for them. A later [`attach`](Self::attach)
    /// makes this process a user again, if the session is still there. What concerns one process concerns no other: a
    /// child that leaves takes nothing from its parent.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use aws_credential_types::Credentials;
    /// # use shmcreds::{Provider, SharedSession};
    /// # let make = || async {
    /// #     let hour = SystemTime::now() + Duration::from_secs(3600);
    /// #     Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "doc")
    /// # };
    /// # let name = format!("doc-leave-{}", std::process::id());
    /// # let session = SharedSession::builder(name).source(Provider::new("doc", make)).create()?;
    /// // In a child, after fork:
    /// session.leave();
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    pub fn leave(&self) {
        self.inner.latest().shared.leave();
    }

    /// The state of the session. It is cheap, takes no lock and does not delay other processes.
    ///
    /// # Errors
    /// [`BadChecksum`](crate::ErrorKind::BadChecksum) when the segment was damaged.
    pub fn status(&self) -> Result<Status, Error> {
        Status::of(&self.inner.latest()).map_err(|fault| self.inner.fault("status", fault))
    }

    /// The directories that can hold files with secrets, in their order.
    #[doc(hidden)]
    pub fn memory_directories() -> Vec<std::path::PathBuf> {
        let places = crate::segment::Places::new(None, false);
        let usable = |places: crate::segment::Places| -> Vec<std::path::PathBuf> {
            places.directories().filter(|path| places.check(path).is_ok()).map(Into::into).collect()
        };
        places.map(usable).unwrap_or_default()
    }

    pub(crate) fn provider(&self) -> &SharedCredentialsProvider {
        &self.provider
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl fmt::Debug for SharedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.inner, f)
    }
}
