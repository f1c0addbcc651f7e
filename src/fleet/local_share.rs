//! The share of the budget that a host has while the store gives no answer: pure arithmetic.

use std::time::Duration;

use crate::clock::as_nanos;

/// A host makes a call this often, however many hosts there are.
const LONGEST: Duration = Duration::from_secs(60);

/// The nanoseconds between two calls of one host.
pub(super) fn interval(calls_per_second: f64, hosts: u32) -> u64 {
    let share = f64::from(hosts) / calls_per_second;
    as_nanos(Duration::try_from_secs_f64(share).map_or(LONGEST, |share| share.min(LONGEST)))
}

/// When the call after this one is allowed; or how long the caller must wait for this one. `next` is what the last call
/// noted, 0 for none.
pub(super) fn take(now: u64, next: u64, interval: u64) -> Result<u64, Duration> {
    // A later time was not noted by this code.
    let noted = next <= now.saturating_add(interval);
    match next > now && noted {
        true => Err(Duration::from_nanos(next - now)),
        false => Ok(now.saturating_add(interval)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_share_is_a_part_of_the_budget_and_a_call_a_minute_at_least() {
        assert_eq!(interval(300.0, 3000), 10 * SECOND);
        assert_eq!(interval(300.0, 1), SECOND / 300);
        assert_eq!(interval(300.0, 100_000), 60 * SECOND);
        assert_eq!(interval(0.001, u32::MAX), 60 * SECOND);
    }

    #[test]
    fn the_first_call_is_at_once_and_the_next_one_in_its_time() {
        let minute = 60 * SECOND;
        assert_eq!(take(SECOND, 0, minute), Ok(SECOND + minute));
        assert_eq!(take(2 * SECOND, SECOND + minute, minute), Err(Duration::from_secs(59)));
        assert_eq!(take(SECOND + minute, SECOND + minute, minute), Ok(SECOND + 2 * minute));
    }

    proptest! {
        #[test]
        fn nothing_in_the_segment_delays_a_call_by_more_than_the_interval(
            now in any::<u64>(), next in any::<u64>(), interval in 1u64..=60 * SECOND,
        ) {
            if let Err(wait) = take(now, next, interval) {
                prop_assert!(wait <= Duration::from_nanos(interval));
            }
        }
    }
}
