//! How long the session waits, and how often it looks.

use std::time::Duration;

/// How long a caller waits when nothing valid is there, unless the user says otherwise.
pub(super) const DEFAULT_WAIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a caller in the mandatory window waits for the refresh in flight.
pub(super) const MANDATORY_WAIT: Duration = Duration::from_secs(1);
/// How often a process looks, in the advisory window, whether another one refreshes. Nanoseconds.
pub(super) const PROBE_INTERVAL: u64 = 50_000_000;
/// How often a process without a source looks. It has no election lock and watches no process, so a refresher that
/// dies between publishing and waking does not wake it.
pub(super) const READER_INTERVAL: Duration = Duration::from_secs(1);
/// How often `create()` looks for the first set between two attempts of its refresher.
pub(super) const FIRST_SET_INTERVAL: Duration = Duration::from_millis(20);
/// How long `attach_or_create` tries again while other processes end sessions of that name and make new ones.
pub(super) const RACE_LIMIT: Duration = Duration::from_secs(2);
/// How often a thread that waits for the next set looks whether its caller still does.
pub(super) const CALLER_INTERVAL: Duration = Duration::from_secs(1);
