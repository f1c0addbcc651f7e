//! When a failed refresh is tried again: pure arithmetic. All points in time are nanoseconds on one clock. The caller draws
//! all random numbers.

use std::time::Duration;

use crate::{clock::as_nanos, source::SourceErrorClass};

const SECOND: u64 = 1_000_000_000;

/// The longest delay after a failure.
const LONGEST: u64 = 300 * SECOND;
const LONGEST_WITHOUT_A_SET: u64 = 5 * SECOND;
/// The longest delay after failures of a role of a pool that another attempt cannot mend by itself.
const LONGEST_OF_A_ROLE: u64 = 600 * SECOND;
/// The same when the source throttles. A shorter delay would keep the source busy with calls that it refuses.
const LONGEST_THROTTLED_WITHOUT_A_SET: u64 = 60 * SECOND;
/// The longest `Retry-After` that counts.
const LONGEST_RETRY_AFTER: u64 = 60 * SECOND;

/// A failed call of the source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedCall {
    pub(crate) class: SourceErrorClass,
    /// The number of failures in a row, including this one.
    pub(crate) in_a_row: u64,
    /// What the server said in `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
}

/// When the source may be asked again after a failed call. `expires` is the expiry of the current set, 0 without one.
/// `chance` is from 0 to 1.
pub(crate) fn next_attempt(failed: FailedCall, now: u64, expires: u64, chance: f64) -> u64 {
    let left = expires.saturating_sub(now);
    let longest = match failed.class {
        // Another attempt cannot help by itself, but an administrator may fix the role in the meantime.
        SourceErrorClass::Terminal | SourceErrorClass::Misconfigured => {
            let delay = if left == 0 { LONGEST_WITHOUT_A_SET } else { LONGEST };
            return now + delay.min(left.max(LONGEST_WITHOUT_A_SET));
        }
        SourceErrorClass::Throttled if left == 0 => LONGEST_THROTTLED_WITHOUT_A_SET,
        SourceErrorClass::Throttled | SourceErrorClass::Transient => LONGEST,
    };
    let limit = match left {
        0 if failed.class == SourceErrorClass::Throttled => LONGEST_THROTTLED_WITHOUT_A_SET,
        0 => LONGEST_WITHOUT_A_SET,
        // Another attempt comes before the set expires.
        left => (left / 2).max(SECOND / 2),
    };
    let ceiling = (SECOND << failed.in_a_row.saturating_sub(1).min(16)).min(longest);
    // Full jitter, but never at once: that prevents bursts of calls.
    let delay = ((ceiling as f64 * chance) as u64).max(SECOND / 10).min(limit);
    // The random delay is added, because the server may have told all hosts the same.
    let limit = if left == 0 { LONGEST_RETRY_AFTER } else { limit.min(LONGEST_RETRY_AFTER) };
    let asked_for = failed.retry_after.map_or(0, as_nanos).min(limit);
    now + asked_for + delay
}

/// As [`next_attempt`], for a role of a pool. What an administrator must mend is tried again after 5 s, and then after
/// twice as long each time, up to 10 minutes: a pool may have many such roles.
pub(crate) fn next_attempt_of_role(failed: FailedCall, now: u64, expires: u64, chance: f64) -> u64 {
    match failed.class {
        SourceErrorClass::Terminal | SourceErrorClass::Misconfigured => {
            let steps = failed.in_a_row.saturating_sub(1).min(16);
            let delay = (LONGEST_WITHOUT_A_SET << steps).min(LONGEST_OF_A_ROLE);
            let left = expires.saturating_sub(now);
            // Another attempt comes before the set expires.
            let limit = if left == 0 { delay } else { left.max(LONGEST_WITHOUT_A_SET) };
            now + delay.min(limit)
        }
        SourceErrorClass::Throttled | SourceErrorClass::Transient => {
            next_attempt(failed, now, expires, chance)
        }
    }
}

/// When the source may be asked again after a process died during its call, as failure number `in_a_row`. With
/// `at_once` there is no delay after the first death. `expires` and `chance` are as in [`next_attempt`].
///
/// Processes that live shorter than a call must not make one call each. So the delay doubles, and only half of it is
/// random. But the set must not expire meanwhile. So the delay is at most half of its remaining lifetime.
pub(crate) fn next_attempt_after_death(
    in_a_row: u64,
    at_once: bool,
    now: u64,
    expires: u64,
    chance: f64,
) -> u64 {
    if in_a_row <= 1 && at_once {
        return now;
    }
    let ceiling = (SECOND << in_a_row.saturating_sub(1).min(16)).min(LONGEST);
    let delay = ceiling / 2 + (ceiling as f64 * 0.5 * chance) as u64;
    let limit = match expires.saturating_sub(now) {
        0 => LONGEST_WITHOUT_A_SET,
        left => (left / 2).max(SECOND / 2),
    };
    now + delay.min(limit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn failures_have_these_delays() {
        use SourceErrorClass::{Misconfigured, Terminal, Throttled, Transient};
        let seconds = |class, in_a_row, left| {
            delay(FailedCall { class, in_a_row, retry_after: None }, left * SECOND, 1.0)
        };
        for class in [Terminal, Misconfigured] {
            assert_eq!(seconds(class, 1, 0), 5.0);
            assert_eq!(seconds(class, 1, 3), 5.0);
            assert_eq!(seconds(class, 9, 100), 100.0);
            assert_eq!(seconds(class, 1, 9000), 300.0);
        }
        for class in [Throttled, Transient] {
            assert_eq!(seconds(class, 9, 100), 50.0);
            assert_eq!(seconds(class, 9, 9000), 256.0);
            assert_eq!(seconds(class, 10, 9000), 300.0);
            // A set that is about to expire: not at once.
            let failed = FailedCall { class, in_a_row: 9, retry_after: None };
            assert_eq!(delay(failed, SECOND / 10, 1.0), 0.5);
        }
        // The random number chooses from what the limit leaves.
        let failed = FailedCall { class: Throttled, in_a_row: 99, retry_after: None };
        assert_eq!(delay(failed, 0, 0.5), 30.0);
    }

    #[test]
    fn failures_of_a_role_have_these_delays() {
        use SourceErrorClass::{Misconfigured, Terminal, Throttled, Transient};
        let seconds = |class, in_a_row, left: u64| {
            let failed = FailedCall { class, in_a_row, retry_after: None };
            let next = next_attempt_of_role(failed, SECOND, SECOND + left * SECOND, 1.0);
            (next - SECOND) as f64 / SECOND as f64
        };
        for class in [Terminal, Misconfigured] {
            let delays = [1, 2, 7, 8, 99].map(|in_a_row| seconds(class, in_a_row, 0));
            assert_eq!(delays, [5.0, 10.0, 320.0, 600.0, 600.0], "{class}");
            // Beside a set, another attempt comes before it expires.
            assert_eq!(seconds(class, 99, 100), 100.0, "{class}");
            assert_eq!(seconds(class, 99, 3), 5.0, "{class}");
        }
        assert_eq!((seconds(Throttled, 99, 0), seconds(Transient, 99, 0)), (60.0, 5.0));
    }

    #[test]
    fn deaths_have_these_delays() {
        let seconds = |in_a_row, left: u64, chance| {
            let next =
                next_attempt_after_death(in_a_row, false, SECOND, SECOND + left * SECOND, chance);
            (next - SECOND) as f64 / SECOND as f64
        };
        assert_eq!((seconds(1, 9000, 0.0), seconds(1, 9000, 1.0)), (0.5, 1.0));
        assert_eq!((seconds(5, 9000, 0.0), seconds(5, 9000, 1.0)), (8.0, 16.0));
        assert_eq!((seconds(99, 9000, 0.0), seconds(99, 9000, 1.0)), (150.0, 300.0));
        assert_eq!(seconds(99, 0, 1.0), 5.0);
        assert_eq!(seconds(99, 20, 1.0), 10.0);
        // A set that is about to expire: not at once.
        let soon = next_attempt_after_death(99, false, SECOND, SECOND + SECOND / 10, 1.0);
        assert_eq!(soon - SECOND, SECOND / 2);
    }

    fn delay(failed: FailedCall, left: u64, chance: f64) -> f64 {
        (next_attempt(failed, SECOND, SECOND + left, chance) - SECOND) as f64 / SECOND as f64
    }

    #[test]
    fn a_throttled_source_is_left_alone_longer_without_a_set() {
        let delays = |class| {
            [1, 3, 6, 7, 100]
                .map(|in_a_row| delay(FailedCall { class, in_a_row, retry_after: None }, 0, 1.0))
        };
        assert_eq!(delays(SourceErrorClass::Throttled), [1.0, 4.0, 32.0, 60.0, 60.0]);
        assert_eq!(delays(SourceErrorClass::Transient), [1.0, 4.0, 5.0, 5.0, 5.0]);
    }

    #[test]
    fn a_retry_after_counts_within_its_limits() {
        use SourceErrorClass::{Misconfigured, Terminal, Throttled, Transient};
        let said = |class, seconds, left| {
            let retry_after = Some(Duration::from_secs(seconds));
            let failed = FailedCall { class, in_a_row: 2, retry_after };
            [0.0, 1.0].map(|chance| delay(failed, left, chance))
        };
        for class in [Throttled, Transient] {
            assert_eq!(said(class, 0, 0), [0.1, 2.0], "{class}");
            // The random delay is added: other hosts were told the same.
            assert_eq!(said(class, 20, 0), [20.1, 22.0], "{class}");
            assert_eq!(said(class, 1_000_000, 0), [60.1, 62.0], "{class}");
            // Beside a set at most half of what is left of it.
            assert_eq!(said(class, 20, 30 * SECOND), [15.1, 17.0], "{class}");
            assert_eq!(said(class, 20, 600 * SECOND), [20.1, 22.0], "{class}");
        }
        for class in [Terminal, Misconfigured] {
            assert_eq!(said(class, 20, 0), [5.0, 5.0], "{class}");
        }
    }

    proptest! {
        #[test]
        fn deaths_are_rarer_each_time_and_leave_time_for_another_attempt(
            row in 2u64..100, left in 0u64..40_000 * SECOND, chance in 0.0f64..=1.0,
        ) {
            let now = 500 * SECOND;
            let next = |row, at_once| next_attempt_after_death(row, at_once, now, now + left, chance);
            prop_assert_eq!(next(1, true), now);
            prop_assert!(next(1, false) >= now + SECOND / 2);
            let delay = next(row, true) - now;
            let longest = if left == 0 { 5 * SECOND } else { (left / 2).max(SECOND / 2) };
            prop_assert!(delay <= longest.min(300 * SECOND));
            prop_assert!(delay >= longest.min((SECOND / 2) << (row - 1).min(16)).min(150 * SECOND));
        }

        #[test]
        fn attempts_stay_within_their_limits(
            row in 1u64..100, left in 0u64..1000 * SECOND, chance in 0.0f64..=1.0,
            class in prop::sample::select(&SourceErrorClass::ALL[..]),
            retry_after in prop::option::of(0u64..=u64::MAX),
        ) {
            let retry_after = retry_after.map(Duration::from_nanos);
            let (now, failed) = (500 * SECOND, FailedCall { class, in_a_row: row, retry_after });
            let delay = next_attempt(failed, now, now + left, chance) - now;
            let random = FailedCall { retry_after: None, ..failed };
            let random = next_attempt(random, now, now + left, chance) - now;
            prop_assert!(delay >= random && random >= SECOND / 10);
            let longest = match class {
                SourceErrorClass::Throttled if left == 0 => 60 * SECOND,
                _ if left == 0 => 5 * SECOND,
                _ => 300 * SECOND,
            };
            prop_assert!(random <= longest && delay <= random + 60 * SECOND);
            // Another attempt comes before the set expires.
            if left > SECOND * 2 && matches!(class, SourceErrorClass::Throttled | SourceErrorClass::Transient) {
                prop_assert!(random <= left / 2 && delay <= left);
            }
        }
    }
}
