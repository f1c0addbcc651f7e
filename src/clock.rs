//! The clocks. Tests can replace them.
//!
//! All points in time in the segment are on `CLOCK_BOOTTIME`, in nanoseconds. NTP steps do not change this clock, and it
//! runs while the machine is suspended. A read of it costs as much as a read of the wall clock. So readers first check a
//! *tick*, the coarse monotonic clock, at a fifth of the cost. They read the boot clock only when the tick has changed.
//! The result is at most one kernel tick (1 to 10 ms) old.

#[cfg(feature = "testing")]
mod manual;

use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, Timespec, clock_gettime};

#[cfg(feature = "testing")]
pub use manual::ManualClock;

/// The source of the time.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    /// The kernel.
    #[default]
    System,
    /// A clock that a test controls.
    #[cfg(feature = "testing")]
    Manual(ManualClock),
}

impl Clock {
    /// A cheap value that changes as time passes. Compare it only for equality.
    #[inline]
    pub(crate) fn tick(&self) -> u64 {
        match self {
            Clock::System => {
                let time = clock_gettime(ClockId::MonotonicCoarse);
                // Nanoseconds are less than 2^30. A product would take longer.
                (time.tv_sec as u64) << 30 | time.tv_nsec as u64
            }
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => clock.boot(),
        }
    }

    /// Nanoseconds since boot, including suspended time.
    #[inline]
    pub(crate) fn boot(&self) -> u64 {
        match self {
            Clock::System => nanos(clock_gettime(ClockId::Boottime)),
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => clock.boot(),
        }
    }

    /// How long to sleep at once to wake up after `limit`. A clock of a test wakes no sleeper, so with it sleepers must
    /// check the time often.
    pub(crate) fn longest_sleep(&self, limit: Duration) -> Duration {
        match self {
            Clock::System => limit,
            #[cfg(feature = "testing")]
            Clock::Manual(_) => limit.min(Duration::from_millis(2)),
        }
    }

    /// The wall clock, for people and for the expiry in the SDK.
    pub(crate) fn wall(&self) -> SystemTime {
        match self {
            Clock::System => SystemTime::now(),
            #[cfg(feature = "testing")]
            Clock::Manual(clock) => clock.wall(),
        }
    }
}

/// A point in time, with its clock.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    clock: Clock,
    boot: u64,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now(clock: &Clock) -> Self {
        // In this order: if the process is stopped in between, the elapsed time is too long and never too short.
        let boot = clock.boot();
        Moment { clock: clock.clone(), boot, wall: clock.wall() }
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.wall
    }

    /// The time since then, including suspended time. Steps of the wall clock do not change it.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.clock.boot().saturating_sub(self.boot))
    }
}

#[inline]
fn nanos(time: Timespec) -> u64 {
    // These clocks are never negative.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The end of a wait that begins now. A program may give any limit: one beyond what the clock can count is none.
pub(crate) fn after(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit).unwrap_or(now + Duration::from_secs(u32::MAX.into()))
}

/// A duration in nanoseconds. Saturates after 584 years.
pub(crate) fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
