//! A clock that stands still until a test moves it.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use crate::sys::mapping::Mapping;

/// A clock that a test moves by hand, shared with every process forked afterwards.
///
/// Give it to [`SharedSessionBuilder::clock`](crate::SharedSessionBuilder::clock), and expiry and
/// refresh points come when the test says so. Limits of waiting (deadlines, time-outs of calls)
/// stay on the real clock.
#[derive(Clone, Debug)]
pub struct ManualClock {
    boot: Arc<Mapping>,
    wall_at_zero: SystemTime,
}

impl ManualClock {
    /// A clock that shows the present wall time and one hour since boot.
    ///
    /// # Errors
    /// When the kernel has no memory for the page that the processes share.
    pub fn new() -> io::Result<Self> {
        const START: Duration = Duration::from_secs(3600);
        let clock = ManualClock {
            boot: Arc::new(Mapping::anonymous(4096)?),
            wall_at_zero: SystemTime::now() - START,
        };
        clock.advance(START);
        Ok(clock)
    }

    /// Moves the clock forward, in every process that shares it.
    pub fn advance(&self, by: Duration) {
        // Relaxed: the time orders nothing but itself.
        self.boot.word(0).fetch_add(crate::clock::as_nanos(by), Ordering::Relaxed);
    }

    pub(crate) fn boot(&self) -> u64 {
        self.boot.word(0).load(Ordering::Relaxed)
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.wall_at_zero + Duration::from_nanos(self.boot())
    }
}
