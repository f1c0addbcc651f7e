//! A clock that stands still until a test moves it.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use crate::sys::mapping::WriteMapping;

/// A clock that a test moves by hand, shared with every process forked afterwards.
///
/// Give it to [`SharedSessionBuilder::clock`](crate::SharedSessionBuilder::clock), and expiry and
/// refresh points come when the test says so. Limits of waiting (deadlines, time-outs of calls)
/// stay on the real clock.
#[derive(Clone, Debug)]
pub struct ManualClock {
    /// Nanoseconds since boot, and at byte 8 the seconds that the wall clock was stepped by.
    words: Arc<WriteMapping>,
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
            words: Arc::new(WriteMapping::anonymous(4096)?),
            wall_at_zero: SystemTime::now() - START,
        };
        clock.advance(START);
        Ok(clock)
    }

    /// Moves the clock forward, in every process that shares it.
    pub fn advance(&self, by: Duration) {
        // Relaxed: the time orders nothing but itself.
        self.words.word(0).fetch_add(crate::clock::as_nanos(by), Ordering::Relaxed);
    }

    /// Steps the wall clock alone by so many seconds, back when negative, in every process that
    /// shares it: as somebody who sets the time does. Expiry and refresh points do not move.
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
        // Relaxed, as above. The word holds a two's complement, so that it wraps to either side.
        self.words.word(8).fetch_add(seconds as u64, Ordering::Relaxed);
    }

    pub(crate) fn boot(&self) -> u64 {
        self.words.word(0).load(Ordering::Relaxed)
    }

    pub(crate) fn wall(&self) -> SystemTime {
        let even = self.wall_at_zero + Duration::from_nanos(self.boot());
        let stepped = self.words.word(8).load(Ordering::Relaxed) as i64;
        let step = Duration::from_secs(stepped.unsigned_abs());
        if stepped < 0 { even - step } else { even + step }
    }
}
