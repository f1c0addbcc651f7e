//! Sets that tell when they were made, and whether they are whole.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use nix::time::{ClockId, clock_gettime};
use shmcreds::{SourceError, SourceErrorClass, Provider};

/// How long the source may take: with five seconds more, this is the lease of an election.
const TIMEOUT: Duration = Duration::from_secs(1);
/// More than a lease.
pub const LEASE_AND_MORE: Duration = Duration::from_secs(10);

/// Whether the source fails in this process.
static FAILS: AtomicBool = AtomicBool::new(false);

/// From now on the source fails in this process.
pub fn fail() {
    FAILS.store(true, Ordering::Relaxed);
}

/// How many sets this process has made.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// How many sets were made since the last call, in this process.
pub fn take_count() -> usize {
    MADE.swap(0, Ordering::Relaxed)
}

/// A source that answers at once.
pub fn source() -> Provider {
    let answer = || async {
        match FAILS.load(Ordering::Relaxed) {
            true => Err(SourceError::new(SourceErrorClass::Transient, "refused").with_code("Refused")),
            false => Ok(make()),
        }
    };
    Provider::from_fn("every-instruction", answer).timeout(TIMEOUT)
}

fn make() -> Credentials {
    MADE.fetch_add(1, Ordering::Relaxed);
    // One clock for all processes: a set that was made later has a larger number.
    let made = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
            + u64::try_from(time.tv_nsec()).unwrap_or(0)
    });
    let hour = SystemTime::now() + Duration::from_secs(3600);
    Credentials::new(id(made), secret(made), Some(token(made)), Some(hour), "made")
}

fn id(made: u64) -> String {
    format!("ASIA{made:016}")
}

fn secret(made: u64) -> String {
    format!("secret-of-{made:016}-{made:016}")
}

fn token(made: u64) -> String {
    format!("token-of-{made:016};").repeat(8)
}

/// When the set was made.
///
/// # Errors
/// When its fields are not those of one set.
pub fn made_at(set: &Credentials) -> Result<u64, String> {
    let torn = || format!("the set {} is torn", set.access_key_id());
    let number = set.access_key_id().strip_prefix("ASIA").and_then(|text| text.parse().ok());
    let made: u64 = number.ok_or_else(torn)?;
    let whole = set.access_key_id() == id(made)
        && set.secret_access_key() == secret(made)
        && set.session_token() == Some(&token(made));
    if whole { Ok(made) } else { Err(torn()) }
}
