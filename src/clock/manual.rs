//! A clock that stays the same until a test moves it.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use crate::sys::mapping::WriteMapping;

/// A clock that a test moves. Processes that are forked later share it.
///
/// Pass it to [`SharedSessionBuilder::clock`](crate::SharedSessionBuilder::clock). Then the test controls when a set
/// expires or is refreshed. Timeouts of waits and of calls use the real clock.
#[derive(Clone, Debug)]
pub struct ManualClock {
    /// Nanoseconds since boot, and at byte 8 the steps of the wall clock in seconds.
    words: Arc<WriteMapping>,
    wall_at_zero: SystemTime,
}

impl ManualClock {
    /// A clock with the current wall time, one hour after boot.
    ///
    /// # Errors
    /// When the kernel has no memory for the shared page.
    pub fn new() -> io::Result<Self> {
        const START: Duration = Duration::from_secs(3600);
        let clock = ManualClock {
            words: Arc::new(WriteMapping::anonymous(4096)?),
            wall_at_zero: SystemTime::now() - START,
        };
        clock.advance(START);
        Ok(clock)
    }

    /// Moves the clock forward, in every process that shares it.
    pub fn advance(&self, by: Duration) {
        let by = super::as_nanos(by);
        let advanced = |now: u64| Some(now.saturating_add(by));
        // Relaxed: the time orders no other memory.
        let _ = self.words.word(0).fetch_update(Ordering::Relaxed, Ordering::Relaxed, advanced);
    }

    /// Steps only the wall clock by `seconds`, in every process that shares it, as an administrator who sets the time
    /// does. A negative number steps it back. Expiry and refresh points do not change.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use shmcreds::testing::ManualClock;
    /// # fn main() -> std::io::Result<()> {
    /// let clock = ManualClock::new()?;
    /// clock.step_wall(-20 * 60);
    /// clock.advance(Duration::from_secs(1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn step_wall(&self, seconds: i64) {
        // Relaxed, as above. The word holds a two's complement number, so the addition also works for negative steps.
        self.words.word(8).fetch_add(seconds as u64, Ordering::Relaxed);
    }

    pub(crate) fn boot(&self) -> u64 {
        self.words.word(0).load(Ordering::Relaxed)
    }

    /// The time on the wall clock. It stays where it would be without the steps, if no clock could show the time.
    pub fn wall(&self) -> SystemTime {
        let even = self.wall_at_zero + Duration::from_nanos(self.boot());
        let stepped = self.words.word(8).load(Ordering::Relaxed) as i64;
        let step = Duration::from_secs(stepped.unsigned_abs());
        let wall = if stepped < 0 { even.checked_sub(step) } else { even.checked_add(step) };
        wall.unwrap_or(even)
    }
}
