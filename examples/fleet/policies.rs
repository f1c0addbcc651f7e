//! The policy of `shmcreds`, and the former one.

use std::time::Duration;

use shmcreds::{SourceErrorClass, testing::policy};

pub trait Policy {
    fn name(&self) -> &'static str;

    /// How long after its fetch a set that lives for `life` is refreshed.
    fn refresh_after(&self, life: Duration, chance: f64) -> Duration;

    /// How long after a failed call the source is asked again.
    fn next_attempt(
        &self,
        class: SourceErrorClass,
        in_a_row: u64,
        left: Duration,
        chance: f64,
    ) -> Duration;

    /// Whether a host asks the next Region when one fails.
    fn uses_regions(&self) -> bool;
}

/// The functions that sessions call.
pub struct New {
    /// `refresh_spread`.
    pub spread: f64,
}

impl Policy for New {
    fn name(&self) -> &'static str {
        "new"
    }

    fn refresh_after(&self, life: Duration, chance: f64) -> Duration {
        policy::refresh_after(self.spread, life, chance)
    }

    fn next_attempt(
        &self,
        class: SourceErrorClass,
        in_a_row: u64,
        left: Duration,
        chance: f64,
    ) -> Duration {
        policy::next_attempt(class, in_a_row, None, left, chance)
    }

    fn uses_regions(&self) -> bool {
        true
    }
}

/// The former policy: it refreshes 15 minutes before expiry, later by up to a tenth of that. Throttled hosts without a set try
/// again after 5 s at most. For sets of 20 to 90 minutes.
pub struct Former;

impl Policy for Former {
    fn name(&self) -> &'static str {
        "former"
    }

    fn refresh_after(&self, life: Duration, chance: f64) -> Duration {
        let window = (life / 2).min(Duration::from_secs(15 * 60));
        life - window + window.mul_f64(0.1 * chance)
    }

    fn next_attempt(
        &self,
        _class: SourceErrorClass,
        in_a_row: u64,
        left: Duration,
        chance: f64,
    ) -> Duration {
        let ceiling = Duration::from_secs(1 << in_a_row.saturating_sub(1).min(16));
        let ceiling = ceiling.min(Duration::from_secs(300));
        let delay = ceiling.mul_f64(chance).max(Duration::from_millis(100));
        delay.min(left.max(Duration::from_secs(5)))
    }

    fn uses_regions(&self) -> bool {
        false
    }
}
