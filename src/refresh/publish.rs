//! Publishes the source's answer: a set or a failure.

use std::time::{SystemTime, UNIX_EPOCH};

use tracing::info;

use super::{
    backoff_delays::{self, FailedCall},
    election::Elected,
    policy::{self, Points, Windows},
    slots::{FAILURES, SETS, release_others, store},
};
use crate::{
    clock::{Clock, as_nanos},
    error::Fault,
    fault_point::{FaultPoint, hit},
    segment::{
        Counter, Entry, EntryWriter,
        pool::{Budget, PoolCounter},
        record::{FailureRecord, Words},
        set_record::SetRecord,
    },
    seqlock::{HEAD as SLOT_HEAD, Version},
    source::{Exchange, Fetched, KeysOf, SourceError, SourceErrorClass, signing_keys},
    sys::random,
};

/// The newest versions when the source was asked. A process may publish only while they are still the newest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Basis {
    set: Version,
    failure: Version,
}

impl Basis {
    pub(crate) fn of(elected: &Elected) -> Self {
        let entry = elected.view().reader();
        Basis { set: entry.sets().version(), failure: entry.failures().version() }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.set.generation()
    }
}

/// Publishes a new set and returns its generation. `None` when another process published first. The ARN of the role is for
/// the status of a pool.
///
/// # Errors
/// When the set is incomplete or expired, or cannot be written. The class says whether another attempt may help.
pub(crate) fn set(
    elected: &Elected,
    basis: Basis,
    fetched: &Fetched,
    (windows, role_arn): (&Windows, Option<&str>),
    clock: &Clock,
) -> Result<Option<u64>, SourceError> {
    let credentials = &fetched.credentials;
    // Read this clock before the lifetime is computed: time that passes in between makes the set expire earlier, not
    // later.
    let now = clock.boot();
    let lifetime = lifetime(fetched, clock)?;
    let points = Points::new(windows, now, lifetime, random::fraction().map_err(unwritten)?);
    signing_keys(credentials)
        .map_err(|problem| SourceError::new(SourceErrorClass::Terminal, unusable(&problem)))?;
    let account = credentials.account_id().map_or("", |id| id.as_str());
    let record = SetRecord {
        fetched_boot: now,
        advisory_boot: points.advisory,
        mandatory_boot: points.mandatory,
        expires_boot: points.expires,
        expires_unix: unix(clock.wall()).saturating_add(lifetime),
        access_key_id: present("AccessKeyId", credentials.access_key_id())?,
        secret_access_key: present("SecretAccessKey", credentials.secret_access_key())?,
        session_token: credentials.session_token().unwrap_or_default(),
        account_id: account,
        role_arn: role_arn.unwrap_or_default(),
    };
    let mut words = Words::default();
    record
        .encode(elected.view().reader().key(), &mut words)
        .map_err(|problem| SourceError::too_large(unusable(&problem)))?;
    let was_short = elected.is_longer_requested(basis.generation());
    let announce = || {
        hit(FaultPoint::Exchanged);
        elected.view().count(Counter::Publications);
        if was_short {
            elected.view().count(Counter::EarlyRefreshes);
        }
        elected.view().announce();
        hit(FaultPoint::Announced);
    };
    let sets = elected.view().sets();
    let version = store(elected, sets, &SETS, basis.set, &words, announce).map_err(unwritten)?;
    if let Some(version) = version {
        release_others(elected, version).map_err(unwritten)?;
    }
    Ok(version.map(|version| version.generation()))
}

fn unusable(problem: &str) -> String {
    format!("the source's set cannot be used: {problem}")
}

fn unwritten(fault: Fault) -> SourceError {
    SourceError::new(SourceErrorClass::Transient, fault.message)
}

fn present<'a>(field: &str, value: &'a str) -> Result<&'a str, SourceError> {
    if value.is_empty() {
        let problem = format!("{field} is empty");
        return Err(SourceError::new(SourceErrorClass::Transient, unusable(&problem)));
    }
    Ok(value)
}

/// The remaining lifetime of the set, in nanoseconds.
///
/// The local wall clock counts, or the server's `Date` if the two differ.
///
/// `Date` may be as old as the request: an answer may wait unread for some time. So all time since the request is
/// subtracted. The boot clock measures it: it runs while the process or the machine is suspended, and cannot be set.
fn lifetime(fetched: &Fetched, clock: &Clock) -> Result<u64, SourceError> {
    let Some(expiry) = fetched.credentials.expiry() else {
        let origin = fetched.credentials.get_property::<KeysOf>();
        let problem = origin.map_or_else(
            || "it has no expiry; only temporary credentials can be shared".to_owned(),
            |KeysOf(origin)| format!("{origin}; only temporary credentials can be shared"),
        );
        return Err(SourceError::of_known_text(
            SourceErrorClass::Misconfigured,
            unusable(&problem),
        ));
    };
    let exchange = fetched.exchange.clone().unwrap_or_else(|| Exchange::now(clock));
    let left = |from: SystemTime, passed| {
        expiry.duration_since(from).unwrap_or_default().saturating_sub(passed)
    };
    let by_wall = left(exchange.answered.wall(), exchange.answered.elapsed());
    let by_server = fetched.server_time.map(|date| left(date, exchange.asked.elapsed()));
    let left = policy::life_left(by_wall, by_server);
    if left.is_zero() {
        // The SDK reads a missing expiry as 1970.
        let problem = match expiry > UNIX_EPOCH {
            true => "it has expired already",
            false => "its expiry is missing",
        };
        return Err(SourceError::new(SourceErrorClass::Transient, unusable(problem)));
    }
    Ok(as_nanos(left))
}

/// Publishes a failure, with the time of the next attempt for all processes.
pub(crate) fn failure(
    elected: &Elected,
    basis: Basis,
    failure: &SourceError,
    clock: &Clock,
) -> Result<(), Fault> {
    let class = failure.class();
    let pool = elected.view().pool();
    let next = |in_a_row, now, expires| {
        let failed = FailedCall { class, in_a_row, retry_after: failure.retry_after() };
        match pool {
            Some(_) => {
                Ok(backoff_delays::next_attempt_of_role(failed, now, expires, random::fraction()?))
            }
            None => Ok(backoff_delays::next_attempt(failed, now, expires, random::fraction()?)),
        }
    };
    if let Some(pool) = pool.filter(|_| class == SourceErrorClass::Throttled) {
        pool.count(PoolCounter::Throttles);
        Budget::slow_down(pool.budget());
    }
    let count = || elected.view().count_failure(class_word(class));
    note(elected, basis, failure, class_word(class), clock, next, count)
}

/// Publishes that process `pid` died or hung during its call. It counts as a failed attempt for all processes, but not
/// as a failure of the source. With `at_once` there is no delay after the first one.
pub(crate) fn death(
    elected: &Elected,
    pid: u32,
    at_once: bool,
    clock: &Clock,
) -> Result<(), Fault> {
    let text = format!(
        "process {pid} ended or hung while it asked the source; if processes live shorter than a call, let a \
         long-lived process refresh the session: Refresh::Eager, or run_refresher"
    );
    let failure = SourceError::new(SourceErrorClass::Transient, text).with_code(DIED_CODE);
    let next = |row, now, expires| {
        let at_once = at_once || expires <= now;
        let chance = random::fraction()?;
        Ok(backoff_delays::next_attempt_after_death(row, at_once, now, expires, chance))
    };
    note(elected, Basis::of(elected), &failure, DIED, clock, next, || ())
}

/// Publishes a failure record and wakes all sleepers, unless another process published one first. `next` computes when the
/// source is asked again, from the number of failures in a row, the current time and the expiry of the current set. `count`
/// counts the failure before the sleepers wake.
fn note(
    elected: &Elected,
    basis: Basis,
    failure: &SourceError,
    class: u64,
    clock: &Clock,
    next: impl FnOnce(u64, u64, u64) -> Result<u64, Fault>,
    count: impl FnOnce(),
) -> Result<(), Fault> {
    let view = elected.view();
    let now = clock.boot();
    let mut words = Words::default();
    let in_a_row = match view.reader().failures().read(&mut words) {
        Some(_) => FailureRecord::decode(&words, view.reader().key())
            .filter(|last| last.generation == basis.generation())
            .map_or(1, |last| last.in_a_row.saturating_add(1)),
        None => 1,
    };
    let record = FailureRecord {
        generation: basis.generation(),
        at_boot: now,
        at_unix: unix(clock.wall()),
        next_attempt_boot: next(in_a_row, now, expiry(view.reader()))?,
        in_a_row,
        class,
        http_status: failure.http_status().map_or(0, u64::from),
        code: failure.code().unwrap_or_default(),
        request_id: failure.request_id().unwrap_or_default(),
        message: failure.message(),
    };
    record.encode(view.reader().key(), view.reader().failure_slot_words() - SLOT_HEAD, &mut words);
    let announce = || {
        count();
        view.announce();
    };
    store(elected, view.failures(), &FAILURES, basis.failure, &words, announce).map(drop)
}

/// Marks the set of `version` as rejected. True for the first call, if the set is still the newest.
pub(crate) fn rejection(view: &EntryWriter, version: Version, session: &str) -> bool {
    let marked = view.sets().mark_rejected(version);
    if marked {
        info!(session, generation = version.generation(), "invalidated");
        view.count(Counter::Rejections);
    }
    marked
}

/// The class of a death during a call. It is not a class of the source, and not counted with them.
pub(crate) const DIED: u64 = SourceErrorClass::ALL.len() as u64;
/// The error code of such a failure.
const DIED_CODE: &str = "RefresherDied";

/// The class as stored in the segment.
fn class_word(class: SourceErrorClass) -> u64 {
    SourceErrorClass::ALL.iter().position(|one| *one == class).unwrap_or(0) as u64
}

/// The class for a word of the segment. An unknown word, from a later version, counts as transient.
pub(crate) fn class_of(word: u64) -> SourceErrorClass {
    let place = usize::try_from(word).unwrap_or(usize::MAX);
    SourceErrorClass::ALL.get(place).copied().unwrap_or(SourceErrorClass::Transient)
}

/// The expiry of the newest set; 0 when there is none.
fn expiry(entry: Entry<'_>) -> u64 {
    let mut words = Words::default();
    let found = entry.sets().read(&mut words).and_then(|_| SetRecord::decode(&words, entry.key()));
    found.map_or(0, |record| record.expires_boot)
}

/// The generation of the newest set, and its expiry in nanoseconds since 1970. Both are 0 when there is none.
pub(super) fn newest(entry: Entry<'_>) -> (u64, u64) {
    let mut words = Words::default();
    let Some(version) = entry.sets().read(&mut words) else { return (0, 0) };
    let record = SetRecord::decode(&words, entry.key());
    let expires = record.map_or(0, |record| record.expires_unix);
    (version.generation(), expires)
}

/// Takes the entry of a pool from its role: there is no set and no failure any more, and the entry is free. False when
/// another process has published a set in the meantime, or the entry belongs to another role.
pub(crate) fn eviction(elected: &Elected) -> Result<bool, Fault> {
    let view = elected.view();
    let (Some(pool), Some(key)) = (view.pool(), view.reader().key()) else { return Ok(false) };
    let Ok(version) = view.sets().retire(view.reader().published()) else { return Ok(false) };
    hit(FaultPoint::PoolRetired);
    release_others(elected, version)?;
    let removed = pool.lock(elected.locks())?.remove(view.index(), key);
    view.announce();
    Ok(removed)
}

/// Nanoseconds since 1970; 0 before.
fn unix(time: SystemTime) -> u64 {
    as_nanos(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}
