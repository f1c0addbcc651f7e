//! When a set is refreshed, and when a failed refresh is tried again: pure arithmetic. All points in time are
//! nanoseconds on one clock. The caller draws all random numbers.

use std::time::Duration;

use crate::{clock::as_nanos, source::SourceErrorClass};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: u64 = 1_000_000_000;

/// A set that AWS rejects is not replaced earlier than this after its fetch. It limits how often reported rejections
/// can cause calls of the source.
pub(crate) const REJECTION_FLOOR: u64 = 5 * SECOND;

/// The longest delay after a failure.
const LONGEST: u64 = 300 * SECOND;
const LONGEST_WITHOUT_A_SET: u64 = 5 * SECOND;

/// The refresh windows before expiry that the user sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) advisory: Option<Duration>,
    pub(crate) mandatory: Option<Duration>,
}

impl Windows {
    /// Checks the windows.
    ///
    /// # Errors
    /// A sentence that names the window and the rule.
    pub(crate) fn validate(&self) -> Result<(), String> {
        match (self.advisory, self.mandatory) {
            (_, Some(Duration::ZERO)) => Err("mandatory_window: is zero; it must be longer".into()),
            (Some(Duration::ZERO), _) => Err("advisory_window: is zero; it must be longer".into()),
            (Some(advisory), Some(mandatory)) if advisory < mandatory => Err(format!(
                "advisory_window: is {advisory:?}, shorter than the mandatory window ({mandatory:?}); it must be \
                 at least as long"
            )),
            _ => Ok(()),
        }
    }

    /// These windows, with those of `others` where the user has set none.
    pub(crate) fn or(self, others: Self) -> Self {
        let (advisory, mandatory) = (self.advisory, self.mandatory);
        Windows {
            advisory: advisory.or(others.advisory),
            mandatory: mandatory.or(others.mandatory),
        }
    }

    fn advisory(&self, lifetime: u64) -> u64 {
        let window = match self.advisory {
            Some(advisory) => advisory,
            None if lifetime <= as_nanos(20 * MINUTE) => 5 * MINUTE,
            None if lifetime < as_nanos(90 * MINUTE) => 15 * MINUTE,
            None => 60 * MINUTE,
        };
        as_nanos(window)
    }

    /// Never longer than an advisory window that the user has set.
    fn mandatory(&self, lifetime: u64) -> u64 {
        let longest = self.advisory.unwrap_or(Duration::MAX);
        let window = self.mandatory.unwrap_or(MINUTE.min(longest));
        as_nanos(window).min(lifetime / 10)
    }
}

/// The points in time at which a set changes its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Points {
    pub(crate) advisory: u64,
    pub(crate) mandatory: u64,
    pub(crate) expires: u64,
}

impl Points {
    /// The points of a set that was fetched at `now` and lives for `lifetime`. `chance`, from 0 to 1, shortens the
    /// advisory window by up to a tenth. The window never opens in the first half of the lifetime.
    pub(crate) fn new(windows: &Windows, now: u64, lifetime: u64, chance: f64) -> Self {
        let expires = now.saturating_add(lifetime);
        let window = windows.advisory(lifetime).min(lifetime / 2);
        let jitter = (window as f64 * 0.1 * chance) as u64;
        let mandatory = expires - windows.mandatory(lifetime);
        let advisory = (expires - (window - jitter)).min(mandatory);
        Points { advisory, mandatory, expires }
    }
}

/// When the source may be asked again after failure number `in_a_row`. `expires` is the expiry of the current set, 0
/// without one. `chance` is from 0 to 1.
pub(crate) fn next_attempt(
    class: SourceErrorClass,
    in_a_row: u64,
    now: u64,
    expires: u64,
    chance: f64,
) -> u64 {
    let delay = match class {
        SourceErrorClass::Terminal | SourceErrorClass::Misconfigured if expires <= now => {
            LONGEST_WITHOUT_A_SET
        }
        // Another attempt cannot help by itself, but an administrator may fix the role in the meantime.
        SourceErrorClass::Terminal | SourceErrorClass::Misconfigured => LONGEST,
        SourceErrorClass::Transient | SourceErrorClass::Throttled => {
            let ceiling = (SECOND << in_a_row.saturating_sub(1).min(16)).min(LONGEST);
            // Full jitter, but never at once: that prevents bursts of calls.
            ((ceiling as f64 * chance) as u64).max(SECOND / 10)
        }
    };
    // No longer than the current set lives, or than the limit without a set.
    let limit = expires.max(now + LONGEST_WITHOUT_A_SET);
    (now + delay).min(limit)
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

    const MIN: u64 = 60 * SECOND;

    #[test]
    fn windows_follow_the_lifetime() {
        for (lifetime, before, mandatory) in [
            (15 * MIN, 5 * MIN, MIN),
            (20 * MIN, 5 * MIN, MIN),
            (60 * MIN, 15 * MIN, MIN),
            (90 * MIN, 45 * MIN, MIN),
            (720 * MIN, 60 * MIN, MIN),
            (2 * SECOND, SECOND, SECOND / 5),
        ] {
            let points = Points::new(&Windows::default(), 7, lifetime, 0.0);
            assert_eq!(points.expires - points.advisory, before, "{lifetime}");
            assert_eq!(points.expires - points.mandatory, mandatory, "{lifetime}");
        }
    }

    #[test]
    fn wrong_windows_are_refused_by_name() {
        let seconds = |window: Option<u64>| window.map(Duration::from_secs);
        let windows = |a, m| Windows { advisory: seconds(a), mandatory: seconds(m) };
        for (advisory, mandatory) in [(Some(60), Some(60)), (None, Some(9999)), (Some(1), None)] {
            assert_eq!(windows(advisory, mandatory).validate(), Ok(()));
        }
        let problem = |a, m| windows(a, m).validate().unwrap_err();
        assert!(problem(Some(59), Some(60)).contains("shorter than the mandatory"));
        assert!(problem(Some(59), Some(0)).starts_with("mandatory_window: is zero"));
        assert!(problem(Some(0), None).starts_with("advisory_window: is zero"));
    }

    proptest! {
        #[test]
        fn points_are_ordered_and_leave_half_the_life(
            lifetime in 1u64..50_000 * SECOND, chance in 0.0f64..=1.0,
            advisory in prop::option::of(1u64..9_000), mandatory in prop::option::of(1u64..9_000),
        ) {
            let [advisory, mandatory] = [advisory, mandatory].map(|w| w.map(Duration::from_secs));
            let windows = Windows { advisory, mandatory };
            let points = Points::new(&windows, 1000, lifetime, chance);
            prop_assert!(points.advisory >= 1000 + lifetime / 2);
            prop_assert!(points.advisory <= points.mandatory);
            prop_assert!(points.mandatory <= points.expires);
        }

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
            row in 1u64..100, expires in 0u64..1000 * SECOND, chance in 0.0f64..=1.0,
            class in prop::sample::select(&SourceErrorClass::ALL[..]),
        ) {
            let now = 500 * SECOND;
            let next = next_attempt(class, row, now, expires, chance);
            prop_assert!(next > now && next <= now + 300 * SECOND);
            prop_assert!(next <= expires.max(now + 5 * SECOND));
        }
    }
}
