//! The description of a session, before it is made or opened.

mod consumers;
mod fleet;
mod make;
mod sharing;

pub(super) use make::{ForPool, in_memory_files};

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    SharedSession,
    group::Sharing,
    registry,
    timing::{RACE_LIMIT, RACE_PAUSE},
};
use crate::{
    clock::Clock,
    error::{Error, ErrorKind, Fault},
    refresh::{gate::Gate, policy::Windows},
    segment,
    source::Source,
    sys::random,
};

/// Describes a session; made by [`SharedSession::builder`].
///
/// Everything is checked by [`create`](Self::create) and [`attach`](Self::attach), before anything
/// is made.
#[derive(Clone)]
pub struct SharedSessionBuilder {
    name: String,
    source: Option<Arc<dyn Source>>,
    windows: Windows,
    start_spread: Duration,
    consumers_keep: Duration,
    refresh: Refresh,
    sealed: bool,
    secret: bool,
    directory: Option<PathBuf>,
    disk: bool,
    name_is_optional: bool,
    last_user_removes: bool,
    /// With whom the session is shared, or whose session this process reads.
    sharing: Sharing,
    refresher_program: Option<PathBuf>,
    wait_timeout: Option<Duration>,
    gate: Option<Arc<dyn Gate>>,
    clock: Option<Clock>,
}

/// Who refreshes the set of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refresh {
    /// The first caller after the refresh point is elected, and refreshes in the background. Nothing runs in
    /// between.
    #[default]
    Deferred,
    /// A dedicated process, which [`create`](SharedSessionBuilder::create) forks. It fetches the first set and each
    /// later set in time, so that no reader waits.
    ///
    /// It is not a child of the server, has none of its descriptors, and gets no Ctrl-C of the terminal. It ends with
    /// the last process that uses the session. If it dies, the first worker that notices continues its work. Its
    /// parent is a small process that only waits. It removes the session's name after the last user has ended.
    Eager,
}

impl SharedSessionBuilder {
    pub(super) fn new(name: String) -> Self {
        let windows = Windows::default();
        SharedSessionBuilder {
            name,
            source: None,
            windows,
            start_spread: Duration::ZERO,
            consumers_keep: Duration::ZERO,
            refresh: Refresh::default(),
            sealed: false,
            secret: false,
            directory: None,
            disk: false,
            name_is_optional: false,
            last_user_removes: false,
            sharing: Sharing::default(),
            refresher_program: None,
            wait_timeout: None,
            gate: None,
            clock: None,
        }
    }

    /// Where new sets come from: [`AssumeRole`](crate::AssumeRole),
    /// [`Provider`](crate::Provider), or a [`Source`] of your own.
    pub fn source(mut self, source: impl Source) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// How long before expiry a set is refreshed in the background at the latest. By default 5 minutes for sets that
    /// live up to 20 minutes, 15 minutes for sets that live less than 90 minutes, and 60 minutes for others, but at most
    /// a third of the life. A window that is set counts up to nine twentieths of the life. A set is never refreshed in
    /// the first half of its life. See [`refresh_spread`](Self::refresh_spread) for how much earlier a set is refreshed.
    pub fn advisory_window(mut self, window: Duration) -> Self {
        self.windows.advisory = Some(window);
        self
    }

    /// How long before expiry a caller waits a moment for the new set. One minute by default; at most the advisory
    /// window, and at most a tenth of the set's life.
    pub fn mandatory_window(mut self, window: Duration) -> Self {
        self.windows.mandatory = Some(window);
        self
    }

    /// Which part of the time between the middle of a set's life and the advisory window is used to spread refreshes:
    /// from 0.0 to 1.0, 1.0 by default. The publisher of a set draws the point at which it is refreshed from this part,
    /// once, for all processes. So hosts that started together do not call the source together. With 0.0 each set is
    /// refreshed at the beginning of the [advisory window](Self::advisory_window).
    pub fn refresh_spread(mut self, part: f64) -> Self {
        self.windows.spread = Some(part);
        self
    }

    /// How long an eager session waits before its first call of the source: any time up to `limit`, drawn once by
    /// [`create`](Self::create). Zero by default; at most an hour. It is for many hosts that start together.
    ///
    /// [`create`](Self::create) takes that much longer: it still returns with the first set, and its
    /// [wait timeout](Self::wait_timeout) begins when the wait is over. A process that attaches meanwhile waits for the
    /// first set as always, at most for its own wait timeout. No request ends the wait early, because every host has
    /// processes that ask at once. If the refresher dies during the wait, a worker that takes over calls the source at
    /// once.
    pub fn start_spread(mut self, limit: Duration) -> Self {
        self.start_spread = limit;
        self
    }

    /// Who refreshes: [`Deferred`](Refresh::Deferred) by default. The process that creates the session decides. A process
    /// that attaches cannot change it.
    pub fn refresh(mut self, refresh: Refresh) -> Self {
        self.refresh = refresh;
        self
    }

    /// Keeps the session in memory that has no name, and that only the dedicated refresher can write. It needs
    /// [`Refresh::Eager`].
    ///
    /// Workers inherit the session by fork. They can only read it, and the kernel enforces this, also after a worker has
    /// changed its uid. A program that a worker starts can attach if the worker
    /// [passes](SharedSession::pass_to) the session to it. No other process can attach. Nothing is left in `/dev/shm`.
    ///
    /// If the refresher dies, its parent starts it again: no worker could take its place.
    pub fn sealed(mut self) -> Self {
        self.sealed = true;
        self
    }

    /// Keeps the sets of a [sealed](Self::sealed) session in secret memory (`memfd_secret`). The kernel removes this memory
    /// from its own address space. No debugger and no `/proc/PID/mem` can read it, and it is never swapped out.
    ///
    /// Secret memory cannot be sealed. A hostile worker can overwrite the sets, but it cannot forge the state of the
    /// session. The memory counts against `RLIMIT_MEMLOCK` of each process, with 52 KiB. A process that has read a set has
    /// its own copy in ordinary memory.
    pub fn secret_memory(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Lets the last process that uses the session remove its names. By default the process that created it does so
    /// when it drops its last handle, and processes that come later get a new session. For processes of equal rank that
    /// come and go, with [`attach_or_create`](Self::attach_or_create): as long as one of them uses the session, each
    /// newcomer finds it, with its set. The process that creates the session decides. A process that attaches cannot change
    /// it.
    ///
    /// A process is a user from when it creates the session, attaches to it or inherits it by fork, until it drops its last
    /// handle, calls [`leave`](SharedSession::leave) or ends. A last user that ends without any of these (`_exit`,
    /// SIGKILL) leaves the names in `/dev/shm`. The next process that creates a session of this kind, of whatever name,
    /// removes them.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use aws_credential_types::Credentials;
    /// # use shmcreds::{Provider, SharedSession};
    /// # let make = || async {
    /// #     let hour = SystemTime::now() + Duration::from_secs(3600);
    /// #     Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "doc")
    /// # };
    /// # let name = format!("doc-last-user-{}", std::process::id());
    /// # let name = name.as_str();
    /// let builder = SharedSession::builder(name).source(Provider::new("doc", make));
    /// let session = builder.removed_by_last_user().attach_or_create()?;
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    pub fn removed_by_last_user(mut self) -> Self {
        self.last_user_removes = true;
        self
    }

    /// The directory of the session's files: an absolute path, on a tmpfs. It must belong to this user or to root, and
    /// others must not be able to replace files in it. No part of the path may be a symbolic link. Processes that attach
    /// give the same directory.
    ///
    /// By default it is that of the environment variable `SHMCREDS_DIR`. Without it, the creator takes the first of these
    /// that can hold the session: `/dev/shm`, `$XDG_RUNTIME_DIR`, `/run/user/UID`. [`attach`](Self::attach) looks at all of
    /// them. If none can hold it, [`create`](Self::create) keeps the session in memory files: processes that inherit the
    /// session use it as always, and others cannot attach.
    pub fn directory(mut self, path: impl AsRef<Path>) -> Self {
        self.directory = Some(path.as_ref().to_owned());
        self
    }

    /// Allows a directory on a disk. Then the credentials are in a file on that disk, where they may stay after they were
    /// deleted: in backups, snapshots and free blocks. [`Status::disk`](crate::Status::disk) tells that it happened. The
    /// environment variable `SHMCREDS_DANGEROUS_SECRETS_ON_DISK=yes` does the same.
    pub fn dangerously_keep_secrets_on_disk(mut self) -> Self {
        self.disk = true;
        self
    }

    /// [`create`](Self::create) may use memory files also where a directory of the default order is on a disk: nobody
    /// attaches by the name.
    #[doc(hidden)]
    pub fn name_is_optional(mut self) -> Self {
        self.name_is_optional = true;
        self
    }

    /// The program that is the dedicated refresher of an eager session: `shmcreds`, of the same version as this library.
    /// Then [`create`](Self::create) also works in a process with several threads, the refresher keeps nothing of the
    /// creator's memory, and it has its own name in `ps`. The recipe and the environment are handed over in memory, never
    /// in arguments or in variables that others could read in `/proc`.
    ///
    /// | | the refresher is |
    /// | --- | --- |
    /// | a program is given, and the source can be handed over | that program |
    /// | none is given, or the source cannot be handed over; the process has one thread | forked from this process |
    /// | none is given, the source can be handed over; several threads | the program `shmcreds` that is found in `PATH`; else [`Multithreaded`](ErrorKind::Multithreaded) |
    /// | the source cannot be handed over; several threads | an error: `Multithreaded` |
    ///
    /// A source that has closures of this program cannot be handed over: [`Provider::new`](crate::Provider::new),
    /// [`AssumeRole::mfa`](crate::AssumeRole::mfa), or one of your own. Nor can a [sealed](Self::sealed) session: only a
    /// forked process can have the mapping that writes it.
    pub fn refresher_program(mut self, path: impl Into<PathBuf>) -> Self {
        self.refresher_program = Some(path.into());
        self
    }

    /// How long a caller waits when there is nothing valid. 30 s by default.
    pub fn wait_timeout(mut self, limit: Duration) -> Self {
        self.wait_timeout = Some(limit);
        self
    }

    /// Replaces the kernel's clock.
    #[cfg(feature = "testing")]
    pub fn clock(mut self, clock: &crate::testing::ManualClock) -> Self {
        self.clock = Some(Clock::Manual(clock.clone()));
        self
    }

    /// Makes the session. Call it before `fork`: it leaves no thread, socket or child process of this process behind.
    ///
    /// A deferred session fetches nothing here. The first caller that needs credentials fetches them. An eager session has
    /// its first set when this returns. A transient failure of the source is retried until the
    /// [wait timeout](Self::wait_timeout).
    ///
    /// A segment that killed processes have left is replaced.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a wrong name, source or setting;
    /// [`InUse`](ErrorKind::InUse) with the pid of a live process that uses the name;
    /// [`NoSpace`](ErrorKind::NoSpace) when there is no memory for the session;
    /// [`Misconfigured`](ErrorKind::Misconfigured) when its directory is on a disk, or cannot be used;
    /// [`ForeignOwner`](ErrorKind::ForeignOwner), [`InsecureMode`](ErrorKind::InsecureMode) or
    /// [`NotAFile`](ErrorKind::NotAFile) when something else has the name. For an eager session also
    /// [`Multithreaded`](ErrorKind::Multithreaded), for secret memory
    /// [`Unsupported`](ErrorKind::Unsupported), and the errors of [`SharedSession`] for its first
    /// set.
    pub fn create(self) -> Result<SharedSession, Error> {
        let name = self.name.clone();
        self.make(segment::CREATION_LIMIT, make::Fallback::MemoryFiles)
            .map_err(|fault| fault.during("create", &name))
    }

    /// Opens the session. If no process uses a session of that name, makes it. It is for programs that cannot say which of
    /// them starts first. If several processes race, one makes the session and the others open it. A segment that killed
    /// processes have left is replaced.
    ///
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use aws_credential_types::Credentials;
    /// # use shmcreds::{Provider, SharedSession};
    /// # let make = || async {
    /// #     let hour = SystemTime::now() + Duration::from_secs(3600);
    /// #     Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "doc")
    /// # };
    /// # let name = format!("doc-attach-or-create-{}", std::process::id());
    /// # let name = name.as_str();
    /// let open = || SharedSession::builder(name).source(Provider::new("doc", make)).attach_or_create();
    /// let (first, second) = (open()?, open()?);
    /// assert_eq!(first.credentials()?.access_key_id(), second.credentials()?.access_key_id());
    /// # Ok::<(), shmcreds::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`create`](Self::create), without [`InUse`](ErrorKind::InUse), and those of
    /// [`attach`](Self::attach), without [`Absent`](ErrorKind::Absent). Processes find each other by the name, so
    /// [`NoSpace`](ErrorKind::NoSpace) when there is no directory for it.
    pub fn attach_or_create(self) -> Result<SharedSession, Error> {
        let make = || self.clone().make(Duration::ZERO, make::Fallback::None);
        let open = || self.clone().open(registry::attach_now);
        made_or_opened(make, open).map_err(|fault| fault.during("attach_or_create", &self.name))
    }

    /// Creates the session. If a session with this name and source exists, its owner has died and no process is
    /// elected, takes that session over. Its readers continue to use it.
    ///
    /// # Errors
    /// Those of [`create`](Self::create), and [`WrongSource`](ErrorKind::WrongSource) when the session that is there
    /// has another source.
    #[doc(hidden)]
    pub fn create_or_take_over(self) -> Result<SharedSession, Error> {
        let (name, again) = (self.name.clone(), self.clone());
        let made = self.make(segment::CREATION_LIMIT, make::Fallback::None).or_else(|fault| {
            match fault.kind {
                ErrorKind::InUse if !again.sealed => again.take_over(fault),
                _ => Err(fault),
            }
        });
        made.map_err(|fault| fault.during("create", &name))
    }

    /// Opens the session with these settings, as [`SharedSession::attach`] does. A process that was forked inherits the
    /// settings that are not set here. With a source, this process can be elected to refresh.
    ///
    /// # Errors
    /// Those of [`SharedSession::attach`], and [`WrongSource`](ErrorKind::WrongSource) when the
    /// session has another source than this one.
    pub fn attach(self) -> Result<SharedSession, Error> {
        let name = self.name.clone();
        self.open(registry::attach).map_err(|fault| fault.during("attach", &name))
    }
}

/// Makes a session or a pool, or opens the one that is in use, until one of both succeeds.
pub(super) fn made_or_opened<T>(
    make: impl Fn() -> Result<T, Fault>,
    open: impl Fn() -> Result<T, Fault>,
) -> Result<T, Fault> {
    let end = Instant::now() + RACE_LIMIT;
    loop {
        let outcome = make().or_else(|fault| match fault.kind {
            ErrorKind::InUse => open(),
            _ => Err(fault),
        });
        match outcome {
            // The one that was in use has ended since, or is being replaced.
            Err(fault)
                if matches!(fault.kind, ErrorKind::Absent | ErrorKind::Uninitialized)
                    && Instant::now() < end =>
            {
                // Of many processes that look at once, each hides the session from the others for a moment.
                let chance = random::fraction().unwrap_or(0.5);
                thread::sleep(RACE_PAUSE.mul_f64(0.5 + chance));
            }
            outcome => return outcome,
        }
    }
}

impl fmt::Debug for SharedSessionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSessionBuilder")
            .field("name", &self.name)
            .field("source", &self.source)
            .field("windows", &self.windows)
            .field("start_spread", &self.start_spread)
            .field("consumers_keep", &self.consumers_keep)
            .field("refresh", &self.refresh)
            .field("sealed", &self.sealed)
            .field("secret_memory", &self.secret)
            .field("directory", &self.directory)
            .field("removed_by_last_user", &self.last_user_removes)
            .field("sharing", &self.sharing)
            .field("refresher_program", &self.refresher_program)
            .field("wait_timeout", &self.wait_timeout)
            .field("fleet", &self.gate)
            .finish_non_exhaustive()
    }
}
