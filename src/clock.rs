//! Time, injected.
//!
//! Every point in time that the segment holds is on `CLOCK_BOOTTIME`, in nanoseconds: no NTP step
//! moves it, and it goes on while the machine sleeps. It costs as much as the wall clock, so reads
//! look at a *tick* first, the coarse monotonic clock at a fifth of the price, and ask for the
//! boot time only when the tick has moved: an answer is at most one kernel tick (1 to 10 ms) old.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Where the time comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    /// The kernel.
    #[default]
    System,
    /// A test.
    #[cfg(feature = "testing")]
    Manual(crate::testing::ManualClock),
}

impl Clock {
    /// A value that changes when time has passed; cheap, and comparable for equality only.
    #[inline]
    pub(crate) fn tick(&self) -> u64 {
        match self {
            Clock::System => nanos(clock_gettime(ClockId::MonotonicCoarse)),
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => clock.boot(),
        }
    }

    /// Nanoseconds since boot, time asleep included.
    #[inline]
    pub(crate) fn boot(&self) -> u64 {
        match self {
            Clock::System => nanos(clock_gettime(ClockId::Boottime)),
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => clock.boot(),
        }
    }

    /// How long a sleeper may sleep that wants to wake after `limit`: a test's clock wakes nobody.
    pub(crate) fn longest_sleep(&self, limit: Duration) -> Duration {
        match self {
            Clock::System => limit,
            #[cfg(feature = "testing")]
            Clock::Manual(_) => limit.min(Duration::from_millis(2)),
        }
    }

    /// The wall clock, for people and for what the SDK calls expiry.
    pub(crate) fn wall(&self) -> SystemTime {
        match self {
            Clock::System => SystemTime::now(),
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => clock.wall(),
        }
    }
}

/// A moment, by the clock that showed it.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    clock: Clock,
    boot: u64,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now(clock: &Clock) -> Self {
        // In this order: to a process that is stopped in between more seems to have passed, and not less.
        let boot = clock.boot();
        Moment { clock: clock.clone(), boot, wall: clock.wall() }
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.wall
    }

    /// How long ago it was. No step of the wall clock changes it, and time asleep counts.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.clock.boot().saturating_sub(self.boot))
    }
}

#[inline]
fn nanos(time: Timespec) -> u64 {
    // Neither clock is ever negative.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A duration in the unit of the segment; saturates after 584 years.
pub(crate) fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
