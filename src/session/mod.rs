//! The session: what programs hold.

mod asynchronous;
mod builder;
mod passed;
mod reader;
mod registry;
mod snapshot;
mod status;
mod status_text;
mod succession;
mod wait;
pub(crate) mod waiters;

use std::{
    fmt,
    panic::resume_unwind,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use aws_credential_types::{
    Credentials,
    provider::{SharedCredentialsProvider, error::CredentialsError},
};
use tokio::runtime::Handle;

pub use builder::{Refresh, SharedSessionBuilder};
pub use reader::Reader;
pub use status::{LastFailure, Refresher, State, Status};

use self::{
    registry::ProcessSession,
    snapshot::{Current, Phase, Snapshot},
    wait::Need,
    waiters::Waiters,
};
use crate::{
    error::{Error, ErrorKind, Fault},
    refresh::{
        backoff::Backoff,
        dedicated,
        election::{self, Elected, Outcome},
        fetch::{self, FetchHandle, Job, Recipe},
        publish,
        refresh_loop::RefreshLoop,
        stop_handle::StopHandle,
    },
    sdk,
    segment::{EntryWriter, Segment},
    source::{self, Identity},
};

/// How long a caller in the mandatory window waits for the refresh in flight.
const MANDATORY_PATIENCE: Duration = Duration::from_secs(1);
/// How often `create()` looks for the first set between two attempts of its refresher.
const FIRST_SET_PERIOD: Duration = Duration::from_millis(20);
/// How often a process looks, in the advisory window, whether somebody refreshes. Nanoseconds.
const PROBE_INTERVAL: u64 = 50_000_000;

/// One set of temporary credentials, shared by all processes that hold the session.
///
/// Made by [`create`](SharedSessionBuilder::create) in the parent, before it forks, and by
/// [`attach`](Self::attach) in its workers. Clones are cheap and share everything. The session
/// ends, and its names disappear, when the process that created it drops its last handle; forked
/// children that drop theirs change nothing.
///
/// # Errors of all methods that give credentials
/// None as long as there is a set that has not expired. Otherwise
/// [`SourceTerminal`](ErrorKind::SourceTerminal), [`SourceTransient`](ErrorKind::SourceTransient),
/// [`SourceThrottled`](ErrorKind::SourceThrottled) or
/// [`SourceMisconfigured`](ErrorKind::SourceMisconfigured) with what the source said (for every process,
/// while the shared back-off lasts), [`Timeout`](ErrorKind::Timeout) at the deadline,
/// [`NoSource`](ErrorKind::NoSource) when this process may only read and nobody else refreshed in time,
/// [`System`](ErrorKind::System) when the kernel refuses a thread or a descriptor,
/// [`BadChecksum`](ErrorKind::BadChecksum) when somebody has damaged the segment and this process may only
/// read it.
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
        SharedSession { provider: sdk::provider(Arc::clone(&inner)), inner }
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
    /// [`Absent`](ErrorKind::Absent), [`ForeignOwner`](ErrorKind::ForeignOwner),
    /// [`InsecureMode`](ErrorKind::InsecureMode), [`NotAFile`](ErrorKind::NotAFile),
    /// [`TooSmall`](ErrorKind::TooSmall), [`Uninitialized`](ErrorKind::Uninitialized) after half a
    /// second, [`WrongMagic`](ErrorKind::WrongMagic), [`WrongVersion`](ErrorKind::WrongVersion),
    /// [`BadChecksum`](ErrorKind::BadChecksum), [`InvalidInput`](ErrorKind::InvalidInput).
    pub fn attach(name: impl AsRef<str>) -> Result<Self, Error> {
        SharedSession::builder(name.as_ref()).attach()
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.inner.shared.name.as_str()
    }

    /// The current credentials. Nothing shared is written while the set is fresh, and no system call is
    /// made but by the first read of a set, which keeps its copy out of core dumps. In the advisory window
    /// the set comes at once, and one process refreshes in the background; in the last minute it may come
    /// after a short wait. Blocks only when there is nothing valid.
    ///
    /// # Errors
    /// See [`SharedSession`].
    #[inline]
    pub fn credentials(&self) -> Result<Credentials, Error> {
        match self.inner.quick() {
            Some(current) => current.credentials(),
            None => self.inner.credentials(),
        }
    }

    /// A handle for one thread that lends the credentials: the fastest way to read them often.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.inner))
    }

    /// Waits for a set newer than the current one, fetched by this process or by whoever is at it.
    /// Honours the back-off after a failure.
    ///
    /// # Errors
    /// The source's error, [`Timeout`](ErrorKind::Timeout) or [`NoSource`](ErrorKind::NoSource);
    /// the set that was there stays.
    pub fn refresh(&self) -> Result<Credentials, Error> {
        let refresh = |inner: &Arc<Inner>| {
            let generation = inner.segment.view().published().generation();
            inner.shared.election_lock.requests().request_refresh(generation);
            inner.wait(Need::After(generation), inner.shared.wait_timeout)
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
    /// [`System`](ErrorKind::System) when the segment cannot be written.
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
    /// [`NoSource`](ErrorKind::NoSource) when this process has none;
    /// [`System`](ErrorKind::System) when the kernel refuses a lock, a mapping or a thread. A failure of
    /// the source is none: it stands in the status and is tried again.
    pub fn run_refresher(&self, stop: &StopHandle) -> Result<(), Error> {
        let inner = self.inner.latest();
        inner.run_refresher(stop).map_err(|fault| inner.fault("run_refresher", fault))
    }

    /// Lets the program that `command` starts [`attach`](Self::attach) to this session, and all that
    /// program starts in turn. Only a [sealed](SharedSessionBuilder::sealed) session needs it: it has no
    /// name that others could find, so its descriptors go along, named in the environment variable
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
    /// [`System`](ErrorKind::System) when the kernel gives no descriptor.
    pub fn pass_to(&self, command: &mut Command) -> Result<(), Error> {
        let (shared, segment) = (&self.inner.shared, &self.inner.segment);
        if !segment.header.sealed {
            return Ok(());
        }
        passed::pass(&shared.name, segment, &shared.election_lock, command)
            .map_err(|fault| self.inner.fault("pass_to", fault))
    }

    /// The names of this user's sessions, in order. Sessions that killed processes have left are among them;
    /// sealed sessions have no name.
    ///
    /// # Errors
    /// What the kernel says when the directory of shared memory cannot be read. No directory is no session.
    pub fn list() -> std::io::Result<Vec<String>> {
        registry::list()
    }

    /// Removes what killed processes have left of a session.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a wrong name, [`Absent`](ErrorKind::Absent) where there
    /// is nothing, [`InUse`](ErrorKind::InUse) with the pid of a live process that uses it.
    pub fn remove(name: &str) -> Result<(), Error> {
        registry::remove(name).map_err(|fault| fault.during("remove", name))
    }

    /// Removes the session's name, in the process that created it: nobody can attach by it any more, and who
    /// has the session keeps it. Happens by itself when the creator's last handle is dropped; a process
    /// that ends with handles in other threads calls it before.
    pub fn unlink(&self) {
        self.inner.shared.unlink();
    }

    /// How the session is. Cheap, takes no lock and disturbs nobody.
    ///
    /// # Errors
    /// [`BadChecksum`](ErrorKind::BadChecksum) when the segment was damaged.
    pub fn status(&self) -> Result<Status, Error> {
        Status::of(&self.inner.latest()).map_err(|fault| self.inner.fault("status", fault))
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

/// What all clones of a handle share.
pub(crate) struct Inner {
    shared: Arc<ProcessSession>,
    segment: Arc<Segment>,
    /// The newest set that this process has decoded.
    snapshot: ArcSwapOption<Snapshot>,
    /// When this process next looks whether somebody refreshes.
    next_probe: AtomicU64,
    waiters: Waiters,
    /// The session that took this one's place when this one had been ended.
    successor: ArcSwapOption<Inner>,
}

impl Inner {
    fn new(shared: Arc<ProcessSession>, segment: Arc<Segment>) -> Self {
        Inner {
            shared,
            segment,
            snapshot: ArcSwapOption::empty(),
            next_probe: AtomicU64::new(0),
            waiters: Waiters::default(),
            successor: ArcSwapOption::empty(),
        }
    }

    /// The set, if that takes no looking around: the way of nearly all reads.
    #[inline]
    pub(crate) fn quick(&self) -> Option<Current> {
        let known = self.snapshot.load();
        let snapshot = known.as_ref()?;
        let current = self.is_current(snapshot) && snapshot.is_verified(self.shared.clock.tick());
        current.then_some(Current(known))
    }

    /// The generation of the set that this process gave last from here; that of the newest before the first.
    fn generation_given(&self) -> u64 {
        let given = self.snapshot.load();
        let version = given.as_ref().map(|snapshot| snapshot.life.version);
        version.unwrap_or_else(|| self.segment.published()).generation()
    }

    /// Relaxed: a later version may be missed by the time that stores take to arrive.
    #[inline]
    fn is_current(&self, snapshot: &Snapshot) -> bool {
        self.segment.published() == snapshot.life.version
    }

    /// The credentials, after whatever it takes.
    #[cold]
    pub(crate) fn credentials(self: &Arc<Self>) -> Result<Credentials, Error> {
        if self.has_successor()
            && let Some(current) = self.latest().quick()
        {
            return current.credentials();
        }
        self.obtain()
            .map(|snapshot| snapshot.credentials.clone())
            .map_err(|fault| self.fault("credentials", fault))
    }

    /// The set to use now; waits if it has to.
    fn obtain(self: &Arc<Self>) -> Result<Arc<Snapshot>, Fault> {
        self.on_latest(|inner| inner.obtain_here())
    }

    fn obtain_here(&self) -> Result<Arc<Snapshot>, Fault> {
        match self.without_waiting()? {
            Ok(snapshot) => Ok(snapshot),
            Err(Some(snapshot)) => self.wait_for_newer(snapshot),
            Err(None) => self.wait(Need::Valid, self.shared.wait_timeout),
        }
    }

    /// The credentials if no waiting is needed, although something may have to be started.
    #[cold]
    pub(crate) fn at_once(self: &Arc<Self>) -> Option<Credentials> {
        self.current()
            .ok()?
            .without_waiting()
            .ok()?
            .ok()
            .map(|snapshot| snapshot.credentials.clone())
    }

    /// The set, or, where waiting would do good, the set that is there until then.
    fn without_waiting(&self) -> Result<Result<Arc<Snapshot>, Option<Arc<Snapshot>>>, Fault> {
        let tick = self.shared.clock.tick();
        let now = self.shared.clock.boot();
        let Some(snapshot) = self.newest()? else { return Ok(Err(None)) };
        match snapshot.life.phase(now) {
            Phase::Fresh => {}
            Phase::Mandatory if snapshot.life.is_rejected_too_soon(now) => {}
            Phase::Mandatory if !snapshot.was_waited_for() => return Ok(Err(Some(snapshot))),
            Phase::Advisory | Phase::Mandatory if self.refresh_in_background(now) => {
                return Ok(Err(Some(snapshot)));
            }
            Phase::Advisory | Phase::Mandatory => {}
            Phase::Expired => return Ok(Err(None)),
        }
        snapshot.verify(tick);
        Ok(Ok(snapshot))
    }

    /// Waits a while for a better set than `snapshot`, once, and then takes that: no error while it
    /// is valid. Where it expires meanwhile, the wait is for a valid one, as if there had been none.
    fn wait_for_newer(&self, snapshot: Arc<Snapshot>) -> Result<Arc<Snapshot>, Fault> {
        let life = snapshot.life;
        let generation = life.version.generation();
        let mandatory = life.phase(self.shared.clock.boot()) != Phase::Advisory;
        let (need, limit) = match mandatory && !snapshot.was_waited_for() {
            true if life.version.is_rejected() => {
                (Need::Better(generation), self.shared.wait_timeout)
            }
            true => (Need::Better(generation), MANDATORY_PATIENCE),
            false => (Need::Own(generation), self.shared.wait_timeout),
        };
        let waited = self.wait(need, limit);
        waited.or_else(|fault| {
            snapshot.set_waited_for();
            if snapshot.life.phase(self.shared.clock.boot()) != Phase::Expired {
                return Ok(snapshot);
            }
            match fault.kind {
                ErrorKind::Timeout | ErrorKind::NoSource => {
                    self.wait(Need::Valid, self.shared.wait_timeout)
                }
                _ => Err(fault),
            }
        })
    }

    /// The credentials that are there, if they are valid: where no better ones can be waited for.
    pub(crate) fn unexpired(self: &Arc<Self>) -> Option<Credentials> {
        let snapshot = self.latest().newest().ok()??;
        let valid = snapshot.life.phase(self.shared.clock.boot()) != Phase::Expired;
        valid.then(|| {
            snapshot.set_waited_for();
            snapshot.credentials.clone()
        })
    }

    /// The newest set, decoded once per process. A damaged one counts as none where another can be
    /// fetched; whoever is in charge of the refresh is told.
    fn newest(&self) -> Result<Option<Arc<Snapshot>>, Fault> {
        let known = self.snapshot.load_full();
        if let Some(snapshot) = known.filter(|snapshot| self.is_current(snapshot)) {
            return Ok(Some(snapshot));
        }
        let read = match Snapshot::read(self.segment.view()) {
            Err(fault) if fault.kind == ErrorKind::BadChecksum && self.recipe().is_some() => {
                self.shared.election_lock.requests().notify();
                None
            }
            read => read?.map(Arc::new),
        };
        self.snapshot.store(read.clone());
        Ok(read)
    }

    /// See [`testing::decode_newest`](crate::testing::decode_newest).
    #[cfg(feature = "testing")]
    pub(crate) fn decode_newest(&self) -> Result<Option<usize>, Error> {
        snapshot::newest(self.segment.view(), |_, record| record.session_token.len())
            .map_err(|fault| self.fault("decode_newest", fault))
    }

    /// Sees to it that somebody refreshes, without waiting for it; true if the caller is to wait for a refresh of
    /// its own, because a process has died in its call: this one may live no longer. Failing to is no failure of
    /// the caller, who has a valid set; the next one tries again.
    fn refresh_in_background(&self, now: u64) -> bool {
        let next = self.next_probe.load(Ordering::Relaxed);
        if now < next {
            return false;
        }
        // Relaxed: two threads that both pass here are kept apart by the election lock.
        self.next_probe.store(now.saturating_add(PROBE_INTERVAL), Ordering::Relaxed);
        let wait = self.start_in_background(now).unwrap_or_else(|fault| {
            tracing::warn!(session = %self.shared.name, "cannot refresh: {}", fault.message);
            false
        });
        if wait {
            // The thread that waits in an async caller's place looks again.
            self.next_probe.store(0, Ordering::Relaxed);
        }
        wait
    }

    fn start_in_background(&self, now: u64) -> Result<bool, Fault> {
        let Some(recipe) = self.recipe() else { return Ok(false) };
        let view = self.segment.view();
        let generation = view.published().generation();
        let election_lock = &self.shared.election_lock;
        let standing = Backoff::read(view);
        if standing.as_ref().is_some_and(|standing| standing.forbids(now))
            || election::holder(view, election_lock.locks(), now)?.is_some()
        {
            return Ok(false);
        }
        if standing.is_some_and(|standing| standing.died) {
            return Ok(true);
        }
        let Some(guard) = election_lock.try_lock_election(&self.segment) else { return Ok(false) };
        let writable = self.segment.writable()?;
        if let Outcome::Won(mut elected) = election::stand(guard, writable, now, recipe.lease())? {
            if view.published().generation() != generation {
                elected.resign();
                return Ok(false);
            }
            let job = self.job(recipe);
            fetch::succeed(&mut elected, &job);
            match Backoff::read(view) {
                Some(standing) if standing.forbids(now) => elected.resign(),
                Some(standing) if standing.died => {
                    elected.resign();
                    return Ok(true);
                }
                _ => drop(self.start(elected, recipe, job)?),
            }
        }
        Ok(false)
    }

    /// Starts the work of the elected. In an eager session it goes on for good: what the dedicated
    /// process did, this one does from now on, on a thread. Not where the user may want to fork.
    fn start(
        &self,
        elected: Elected,
        recipe: &Recipe,
        job: Job,
    ) -> Result<Option<FetchHandle>, Fault> {
        if !self.segment.header.eager || self.shared.is_creator() {
            return fetch::start(elected, job).map(Some);
        }
        let stop = StopHandle::new();
        self.refresh_loop(recipe, &stop).start(elected)?;
        self.shared.keep_refresher(stop);
        Ok(None)
    }

    fn job(&self, recipe: &Recipe) -> Job {
        let (session, clock) = (self.shared.name.as_str().to_owned(), self.shared.clock.clone());
        Job { session, eager: self.segment.header.eager, recipe: recipe.clone(), clock }
    }

    fn refresh_loop(&self, recipe: &Recipe, stop: &StopHandle) -> RefreshLoop {
        let (segment, lock) = (Arc::clone(&self.segment), Arc::clone(&self.shared.election_lock));
        RefreshLoop::new(segment, lock, self.job(recipe), stop.clone())
    }

    fn run_refresher(&self, stop: &StopHandle) -> Result<(), Fault> {
        let Some(recipe) = self.recipe() else {
            let text = "this process has no source to ask, or may not write; attach with one";
            return Err(Fault::new(ErrorKind::NoSource, text));
        };
        let refresh_loop = self.refresh_loop(recipe, stop);
        // Where an async runtime is entered, it lets nobody block or make another.
        if Handle::try_current().is_err() {
            return refresh_loop.run();
        }
        let events = tracing::dispatcher::get_default(Clone::clone);
        let work = || tracing::dispatcher::with_default(&events, || refresh_loop.run());
        thread::scope(|scope| {
            let thread =
                thread::Builder::new().name("shmcreds-refresh".into()).spawn_scoped(scope, work);
            let thread = thread.map_err(|e| Fault::system("starting the refresher's thread", e))?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// How to refresh; `None` where this process may not.
    fn recipe(&self) -> Option<&Recipe> {
        self.shared.recipe.as_ref().filter(|_| self.segment.is_writable())
    }

    /// Forks the dedicated refresher and waits for its first set. `writer` is what alone can write a
    /// sealed segment: this process has it no longer afterwards.
    fn start_dedicated(&self, writer: Option<EntryWriter>) -> Result<(), Fault> {
        let Some(recipe) = &self.shared.recipe else { return Ok(()) };
        let ProcessSession { name, election_lock, wait_timeout, .. } = &*self.shared;
        let (locks, job, forget) = (election_lock.locks(), self.job(recipe), registry::forget);
        election_lock.requests().without(|| {
            dedicated::spawn(name, &self.segment, locks, writer, job, forget, *wait_timeout)
        })?;
        self.wait_for_first_set(*wait_timeout)
    }

    /// Waits for the set that a dedicated refresher fetches. That tries again after a failure that may pass,
    /// by its back-off: such a failure ends the wait at the deadline only.
    fn wait_for_first_set(&self, deadline: Duration) -> Result<(), Fault> {
        use ErrorKind::{SourceThrottled, SourceTransient, Timeout};
        let (began, mut failed) = (Instant::now(), None);
        loop {
            let left = deadline.saturating_sub(began.elapsed());
            match self.wait(Need::Valid, left) {
                Err(fault) if matches!(fault.kind, SourceThrottled | SourceTransient) => {
                    if left.is_zero() {
                        return Err(fault);
                    }
                    failed = Some(fault);
                    thread::sleep(FIRST_SET_PERIOD.min(left));
                }
                Err(fault) if fault.kind == Timeout => return Err(failed.unwrap_or(fault)),
                outcome => return outcome.map(drop),
            }
        }
    }

    fn invalidate(&self, access_key_id: &str) -> Result<bool, Fault> {
        let Some(snapshot) = self.newest()? else { return Ok(false) };
        if snapshot.credentials.access_key_id() != access_key_id {
            return Ok(false);
        }
        let requests = self.shared.election_lock.requests();
        if !self.segment.is_writable() {
            return Ok(requests.report_rejection(snapshot.life.version.generation()));
        }
        let writable = self.segment.writable()?;
        let session = self.shared.name.as_str();
        let marked = publish::rejection(&writable, snapshot.life.version, session);
        if marked {
            writable.announce();
            requests.notify();
        }
        Ok(marked)
    }

    /// Says that AWS rejected `access_key_id`; true if there is, or will be, another one to try with.
    pub(crate) fn replace_rejected(self: &Arc<Self>, access_key_id: &str) -> bool {
        let latest = self.latest();
        if let Err(fault) = latest.invalidate(access_key_id) {
            tracing::warn!(session = %self.shared.name, "cannot invalidate: {}", fault.message);
        }
        let now = self.shared.clock.boot();
        let newest = latest.newest().ok().flatten();
        newest.is_some_and(|snapshot| {
            snapshot.credentials.access_key_id() != access_key_id
                || !snapshot.life.is_rejected_too_soon(now)
        })
    }

    /// Asks STS whose `credentials` these are; without any, who the source is.
    pub(crate) async fn identify(
        &self,
        credentials: Option<Credentials>,
    ) -> Result<Identity, Error> {
        let operation = if credentials.is_some() { "identity" } else { "source_identity" };
        let answer = match (&self.shared.recipe, credentials) {
            (Some(recipe), credentials) => recipe.source.identify(credentials).await,
            (None, Some(credentials)) => source::identity_by_environment(credentials).await,
            (None, None) => {
                let fault = Fault::new(ErrorKind::NoSource, "this process has no source to ask");
                return Err(self.fault(operation, fault));
            }
        };
        answer.map_err(|failure| {
            let fault = Fault::new(failure.class().into(), failure.to_string());
            self.fault(operation, fault.caused_by(failure))
        })
    }

    /// The error of a wait for credentials, as one of asking whose they are.
    pub(crate) fn unidentified(&self, error: CredentialsError) -> Error {
        let cause = std::error::Error::source(&error);
        let own = cause.and_then(|cause| cause.downcast_ref::<Arc<Error>>());
        let kind = own.map_or(ErrorKind::Timeout, |own| own.kind());
        let text = own.map_or_else(|| error.to_string(), ToString::to_string);
        self.fault("identity", Fault::new(kind, text).caused_by(error))
    }

    pub(crate) fn wait_timeout(&self) -> Duration {
        self.shared.wait_timeout
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    fn fault(&self, operation: &'static str, fault: Fault) -> Error {
        fault.during(operation, self.shared.name.as_str())
    }

    pub(crate) fn no_thread(&self, error: std::io::Error) -> Error {
        self.fault("credentials", Fault::system("starting the waiting thread", error))
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSession")
            .field("name", &self.shared.name.as_str())
            .field("generation", &self.segment.view().published().generation())
            .finish_non_exhaustive()
    }
}

/// The segment's words make no sense: only another program can have written them.
fn damaged(what: &str) -> Fault {
    Fault::new(ErrorKind::BadChecksum, format!("{what} in the segment fails its checksum"))
}
