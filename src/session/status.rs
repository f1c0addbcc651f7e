//! How a session is.

use std::{
    path::{Path, PathBuf},
    process,
    time::{Duration, SystemTime},
};

use super::{
    Inner, Refresh, consumers,
    fleet_status::FleetStatus,
    snapshot::{self, Life, Phase},
};
use crate::{
    clock::as_nanos,
    error::Fault,
    refresh::{backoff::Backoff, election},
    segment::{Counter, layout},
    source::{SourceError, SourceErrorClass, tail},
};

type Counters = [u64; layout::COUNTERS];

/// The state of the newest set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// There has been no set yet.
    Empty,
    /// Nothing is to be done.
    Fresh,
    /// Somebody should refresh in the background.
    Advisory,
    /// The set is about to expire, or AWS rejected it.
    Mandatory,
    /// The set has expired.
    Expired,
}

impl State {
    /// All of them, in the order of a set's life.
    pub fn all() -> impl Iterator<Item = State> {
        [State::Empty, State::Fresh, State::Advisory, State::Mandatory, State::Expired].into_iter()
    }

    /// The state in one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Empty => "empty",
            State::Fresh => "fresh",
            State::Advisory => "advisory",
            State::Mandatory => "mandatory",
            State::Expired => "expired",
        }
    }
}

/// The newest failure of the source, if no set came after it.
#[derive(Clone, Debug)]
pub struct LastFailure {
    failure: SourceError,
    at: SystemTime,
    next_attempt_in: Duration,
    in_a_row: u64,
}

impl LastFailure {
    /// What the source said.
    pub fn failure(&self) -> &SourceError {
        &self.failure
    }

    /// When, on the wall clock of that moment.
    pub fn at(&self) -> SystemTime {
        self.at
    }

    /// The time until the next attempt is allowed. Zero if it is allowed now.
    pub fn next_attempt_in(&self) -> Duration {
        self.next_attempt_in
    }

    /// How many failures in a row, this one included.
    pub fn in_a_row(&self) -> u64 {
        self.in_a_row
    }
}

/// The process that is elected to refresh: for one call, or for good in an eager session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseHolder {
    pid: u32,
    elected_for: Duration,
    alive: bool,
    visible: bool,
    lease_left: Duration,
}

impl LeaseHolder {
    /// Its pid, as it sees itself: in its own pid namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How long ago it was elected.
    pub fn elected_for(&self) -> Duration {
        self.elected_for
    }

    /// Whether the process lives. A dead one is replaced as soon as a process needs a refresh. See
    /// [`is_visible`](Self::is_visible) for a process that this one cannot see.
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// Whether this process can see it. If not, it is in another pid namespace: then only its lock tells that it lives,
    /// and other processes wait until the lock is free or the lease is over. A reader of a
    /// [group](crate::SharedSessionBuilder::group) does not see the lock either: for it the process lives as long as its
    /// lease.
    pub fn is_visible(&self) -> bool {
        self.visible
    }

    /// How long its lease holds; zero for one that hangs, which is replaced, too.
    pub fn lease_left(&self) -> Duration {
        self.lease_left
    }
}

/// How a session was at one moment; made by
/// [`SharedSession::status`](crate::SharedSession::status). Holds no secret.
#[derive(Clone, Debug)]
pub struct Status {
    state: State,
    generation: u64,
    clock_skew: Option<f64>,
    access_key_tail: Option<String>,
    role_arn: Option<String>,
    expires_in: Duration,
    refresh_in: Duration,
    age: Option<Duration>,
    refresher: Option<LeaseHolder>,
    eager: bool,
    failure: Option<LastFailure>,
    counters: Counters,
    fleet: Option<FleetStatus>,
    source: String,
    locked_in_ram: bool,
    directory: Option<PathBuf>,
    disk: Option<String>,
    consumers_keep: Duration,
    consumers_warning: Option<String>,
}

impl Status {
    pub(super) fn of(inner: &Inner) -> Result<Self, Fault> {
        let view = inner.segment.view();
        let now = inner.shared.clock.boot();
        // The keys stay in the copy, which is wiped: a status is not asked for them.
        let set = snapshot::newest(view, |life, record| {
            let tail = tail(record.access_key_id);
            (life, record.expires_unix, tail, record.role_arn.to_owned())
        });
        let set = match set {
            // The set of the role that has the entry now.
            Err(_) if inner.was_taken() => None,
            set => set?,
        };
        let life = set.as_ref().map(|(life, ..)| *life);
        let wall = inner.shared.clock.wall();
        let skew = |(life, expires_unix, ..): &(Life, u64, String, String)| {
            skew_seconds(*expires_unix, life.points.expires, wall, now)
        };
        let left = |point: u64| Duration::from_nanos(point.saturating_sub(now));
        let refresher = refresher(inner, now)?;
        let keep = inner.segment.header.kept();
        let in_time = refresher.is_some_and(|one| one.is_alive());
        Ok(Status {
            state: life.map_or(State::Empty, |life| life.phase(now).into()),
            generation: life.map_or(0, |life| life.version.generation()),
            clock_skew: set.as_ref().and_then(skew),
            role_arn: set.as_ref().map(|(.., arn)| arn.clone()).filter(|arn| !arn.is_empty()),
            access_key_tail: set.map(|(_, _, tail, _)| tail),
            expires_in: life.map_or(Duration::ZERO, |life| left(life.points.expires)),
            refresh_in: life.map_or(Duration::ZERO, |life| left(life.points.advisory)),
            age: life.map(|life| Duration::from_nanos(now.saturating_sub(life.fetched))),
            refresher,
            eager: inner.segment.header.eager,
            failure: failure(inner, now),
            counters: view.counters(),
            fleet: FleetStatus::of(view, now),
            source: inner.source_text(),
            locked_in_ram: inner.segment.is_locked_in_ram(),
            directory: inner.segment.path().and_then(|path| Some(Path::new(path).parent()?.into())),
            disk: inner.segment.disk(),
            consumers_keep: keep,
            consumers_warning: consumers::warning(keep, life.map(|life| life.length()), in_time),
        })
    }

    /// The state of the newest set.
    pub fn state(&self) -> State {
        self.state
    }

    /// How many sets have been published.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The last four characters of the access key id.
    pub fn access_key_tail(&self) -> Option<&str> {
        self.access_key_tail.as_deref()
    }

    /// The ARN of the role, in a pool whose role has had a set.
    pub(crate) fn role_arn(&self) -> Option<&str> {
        self.role_arn.as_deref()
    }

    /// What the sets come from, in one line: what the source says of itself, without a secret.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How long the set is valid; zero without one.
    pub fn expires_in(&self) -> Duration {
        self.expires_in
    }

    /// When the set is due to be refreshed; zero when it is now.
    pub fn refresh_in(&self) -> Duration {
        self.refresh_in
    }

    /// How many seconds the wall clock of this host is behind the clock by which the set expires: that of the server, or
    /// of this host when the set was fetched. Negative if it is ahead. AWS refuses requests that are signed with a clock
    /// that is wrong by some minutes. A difference of less than 3 s from the server is not noticed. `None` without a set.
    pub fn clock_skew_seconds(&self) -> Option<f64> {
        self.clock_skew
    }

    /// How long ago the set was fetched.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }

    /// The process that is elected to refresh; `None` when the last one has resigned.
    pub fn lease_holder(&self) -> Option<&LeaseHolder> {
        self.refresher.as_ref()
    }

    /// Who refreshes, as the creator decided.
    pub fn mode(&self) -> Refresh {
        if self.eager { Refresh::Eager } else { Refresh::Deferred }
    }

    /// The newest failure of the source, if no set came after it.
    pub fn last_failure(&self) -> Option<&LastFailure> {
        self.failure.as_ref()
    }

    /// How often the source was asked, by all processes together.
    pub fn source_calls(&self) -> u64 {
        self.counters[Counter::SourceCalls as usize]
    }

    /// How many sets were published.
    pub fn published(&self) -> u64 {
        self.counters[Counter::Publications as usize]
    }

    /// How often the source failed.
    pub fn failed(&self) -> u64 {
        // Another program may have written any number there.
        let counts = self.counters[layout::FAILURE_COUNTERS].iter();
        counts.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The failures by their class.
    pub fn failed_by_class(&self) -> impl Iterator<Item = (SourceErrorClass, u64)> {
        let counts = self.counters[layout::FAILURE_COUNTERS].iter().copied();
        SourceErrorClass::ALL.into_iter().zip(counts)
    }

    /// How often a process took over from one that died or hung while it refreshed.
    pub fn takeovers(&self) -> u64 {
        self.counters[Counter::Takeovers as usize]
    }

    /// How many sets were rejected by [`SharedSession::invalidate`](crate::SharedSession::invalidate).
    pub fn invalidations(&self) -> u64 {
        self.counters[Counter::Rejections as usize]
    }

    /// How many sets were replaced early because a caller needed one that is valid for longer: see
    /// [`credentials_valid_for`](crate::SharedSession::credentials_valid_for).
    pub fn early_refreshes(&self) -> u64 {
        self.counters[Counter::EarlyRefreshes as usize]
    }

    /// What the session knows of its fleet. `None` without a fleet, and before its store was asked for the first time.
    pub fn fleet(&self) -> Option<&FleetStatus> {
        self.fleet.as_ref()
    }

    /// Whether this process keeps the segment from being swapped out; false where `RLIMIT_MEMLOCK`
    /// forbids it.
    pub fn locked_in_ram(&self) -> bool {
        self.locked_in_ram
    }

    /// How long consumers keep a set, as the creator of the session said:
    /// [`consumers_keep`](crate::SharedSessionBuilder::consumers_keep). Zero if nothing was said.
    pub fn consumers_keep(&self) -> Duration {
        self.consumers_keep
    }

    /// Why consumers that keep a set for that long may sign with an expired key, and what to do. `None` if they do not.
    pub fn consumers_warning(&self) -> Option<&str> {
        self.consumers_warning.as_deref()
    }

    /// The directory of the session's files. `None` for a session in memory files, which only processes that inherited it
    /// can use: a sealed one, or one for which there was no [directory](crate::SharedSessionBuilder::directory).
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// The type and mount point of the session's file system, when it is not memory: then the credentials are on that
    /// disk. Only [`dangerously_keep_secrets_on_disk`](crate::SharedSessionBuilder::dangerously_keep_secrets_on_disk) makes
    /// that possible.
    pub fn disk(&self) -> Option<&str> {
        self.disk.as_deref()
    }
}

fn refresher(inner: &Inner, now: u64) -> Result<Option<LeaseHolder>, Fault> {
    let (view, election_lock) = (inner.segment.view(), &inner.shared.election_lock);
    let locks = (!inner.segment.is_foreign()).then(|| election_lock.locks());
    let Some(last) = election::last(view, locks, now)? else { return Ok(None) };
    // A process does not see its own locks.
    let own = last.pid == process::id() && election_lock.is_taken();
    Ok(Some(LeaseHolder {
        pid: last.pid,
        elected_for: Duration::from_nanos(now.saturating_sub(last.since)),
        alive: last.alive || own,
        visible: last.visible || own,
        lease_left: Duration::from_nanos(last.lease_end.saturating_sub(now)),
    }))
}

impl From<Phase> for State {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Fresh => State::Fresh,
            Phase::Advisory => State::Advisory,
            Phase::Mandatory => State::Mandatory,
            Phase::Expired => State::Expired,
        }
    }
}

/// By how many seconds the wall clock is behind. The boot clock has counted correctly since the set was fetched.
fn skew_seconds(expires_unix: u64, expires_boot: u64, wall: SystemTime, boot: u64) -> Option<f64> {
    let wall = as_nanos(wall.duration_since(SystemTime::UNIX_EPOCH).ok()?);
    let right = i128::from(expires_unix) - i128::from(expires_boot) + i128::from(boot);
    Some((right - i128::from(wall)) as f64 / 1e9)
}

fn failure(inner: &Inner, now: u64) -> Option<LastFailure> {
    let backoff = Backoff::read(inner.segment.view())?;
    Some(LastFailure {
        at: backoff.at,
        next_attempt_in: backoff.next_attempt_in(now),
        in_a_row: backoff.in_a_row,
        failure: backoff.failure,
    })
}
