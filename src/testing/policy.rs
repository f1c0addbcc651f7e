//! The arithmetic of refreshes, for simulations. Every call is that of a session.

use std::time::Duration;

pub use crate::source::FailedRegions;
use crate::{
    SourceErrorClass,
    clock::as_nanos,
    refresh::{
        backoff_delays::{self, FailedCall},
        policy::{self, Points, Windows},
    },
};

/// How long after its fetch a set that lives for `lifetime` is refreshed. `spread` is that of
/// [`refresh_spread`](crate::SharedSessionBuilder::refresh_spread). `chance`, from 0 to 1, is drawn by the caller.
pub fn refresh_after(spread: f64, lifetime: Duration, chance: f64) -> Duration {
    let windows = Windows { spread: Some(spread), ..Windows::default() };
    Duration::from_nanos(Points::new(&windows, 0, as_nanos(lifetime), chance).advisory)
}

/// How long after a failed call the source is asked again. `left` is what is left of the current set, zero without one.
pub fn next_attempt(
    class: SourceErrorClass,
    in_a_row: u64,
    retry_after: Option<Duration>,
    left: Duration,
    chance: f64,
) -> Duration {
    let failed = FailedCall { class, in_a_row, retry_after };
    Duration::from_nanos(backoff_delays::next_attempt(failed, 0, as_nanos(left), chance))
}

/// What is left of a set by the wall clock of this machine and by the server's `Date`, put together.
pub fn life_left(by_wall: Duration, by_server: Option<Duration>) -> Duration {
    policy::life_left(by_wall, by_server)
}
