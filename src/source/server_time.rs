//! The time of a server, and when it was read.

mod interceptor;

use std::{future::Future, time::SystemTime};

use aws_smithy_types::{DateTime, date_time::Format};

use crate::clock::{Clock, Moment};

pub(super) use interceptor::ServerTime;

tokio::task_local! {
    /// The clock of the session for which the current fetch runs.
    static CLOCK: Clock;
}

/// Runs a fetch with the session's clock.
pub(crate) async fn by_clock<T>(clock: Clock, fetch: impl Future<Output = T>) -> T {
    CLOCK.scope(clock, fetch).await
}

fn now() -> Moment {
    // A source can also be asked without a session.
    CLOCK.try_with(Moment::now).unwrap_or_else(|_| Moment::now(&Clock::default()))
}

/// The time of the session's clock, in milliseconds since boot.
pub(super) fn milliseconds() -> u64 {
    CLOCK.try_with(Clock::boot).unwrap_or_else(|_| Clock::default().boot()) / 1_000_000
}

/// When a server was asked, and when its answer arrived. It read its clock in between.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) asked: Moment,
    pub(crate) answered: Moment,
}

impl Exchange {
    /// An exchange that took no time.
    pub(crate) fn now(clock: &Clock) -> Self {
        let now = Moment::now(clock);
        Exchange { asked: now.clone(), answered: now }
    }
}

/// A request that is about to be sent.
#[derive(Debug)]
pub(super) struct Asked(Moment);

impl Asked {
    pub(super) fn now() -> Self {
        Asked(now())
    }

    /// The headers of the answer have arrived, with its date if there is one.
    pub(super) fn answered(self, date: Option<SystemTime>) -> Seen {
        Seen { date, exchange: Exchange { asked: self.0, answered: now() } }
    }
}

/// A server's time, and when it was read.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) date: Option<SystemTime>,
    pub(super) exchange: Exchange,
}

/// The time in a `Date` header.
pub(super) fn parse(date: &str) -> Option<SystemTime> {
    DateTime::from_str(date, Format::HttpDate).ok()?.try_into().ok()
}
