//! When a set is refreshed: pure arithmetic. All points in time are nanoseconds on one clock. The caller draws all random
//! numbers. When a failed refresh is tried again: `backoff_delays.rs`.

use std::time::Duration;

use crate::clock::as_nanos;

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: u64 = 1_000_000_000;

/// A set that AWS rejects is not replaced earlier than this after its fetch. It limits how often reported rejections
/// can cause calls of the source.
pub(crate) const REJECTION_FLOOR: u64 = 5 * SECOND;

/// A smaller difference between the clocks is ignored: it comes from the network, or from `Date`, which has whole
/// seconds.
const SKEW_FLOOR: Duration = Duration::from_secs(3);

/// The longest lifetime of a set from STS: 36 hours.
const LONGEST_LIFE: Duration = Duration::from_secs(36 * 3600);

/// The refresh windows before expiry that the user sets, and how much of the time before them is used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Windows {
    pub(crate) advisory: Option<Duration>,
    pub(crate) mandatory: Option<Duration>,
    /// From 0 to 1.
    pub(crate) spread: Option<f64>,
    /// How long consumers keep a set: a set is refreshed at least that long before it expires.
    pub(crate) keep: Duration,
}

impl Windows {
    /// Checks the windows.
    ///
    /// # Errors
    /// A sentence that names the setting and the rule.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if let Some(spread) = self.spread.filter(|spread| !(0.0..=1.0).contains(spread)) {
            return Err(format!("refresh_spread: is {spread}; it must be from 0.0 to 1.0"));
        }
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
        Windows {
            advisory: self.advisory.or(others.advisory),
            mandatory: self.mandatory.or(others.mandatory),
            spread: self.spread.or(others.spread),
            keep: self.keep.max(others.keep),
        }
    }

    /// How long before expiry a set is refreshed at the latest.
    fn advisory(&self, lifetime: u64) -> u64 {
        let by_lifetime = match lifetime {
            _ if lifetime <= as_nanos(20 * MINUTE) => 5 * MINUTE,
            _ if lifetime < as_nanos(90 * MINUTE) => 15 * MINUTE,
            _ => 60 * MINUTE,
        };
        // A twentieth of the life is left to spread the refreshes.
        let longest = lifetime / 20 * 9;
        let window = match self.advisory {
            Some(window) => as_nanos(window).min(longest),
            None => as_nanos(by_lifetime).min(lifetime / 3),
        };
        window.max(as_nanos(self.keep).min(longest))
    }

    /// Never longer than an advisory window that the user has set.
    fn mandatory(&self, lifetime: u64) -> u64 {
        let longest = self.advisory.unwrap_or(Duration::MAX);
        let window = self.mandatory.unwrap_or(MINUTE.min(longest));
        as_nanos(window).min(lifetime / 10)
    }
}

/// How long a set must live, so that it can be refreshed `keep` before it expires: nine twentieths are the longest window.
pub(crate) fn life_for(keep: Duration) -> Duration {
    keep.saturating_mul(20) / 9
}

/// The points in time at which a set changes its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Points {
    pub(crate) advisory: u64,
    pub(crate) mandatory: u64,
    pub(crate) expires: u64,
}

impl Points {
    /// The points of a set that was fetched at `now` and lives for `lifetime`.
    ///
    /// Hosts that started together must not refresh together. So the advisory point is anywhere between the middle of
    /// the life and the beginning of the advisory window. `chance`, from 0 to 1, chooses it: 0 is the latest point.
    pub(crate) fn new(windows: &Windows, now: u64, lifetime: u64, chance: f64) -> Self {
        let expires = now.saturating_add(lifetime);
        let window = windows.advisory(lifetime);
        let room = (lifetime / 2).saturating_sub(window);
        let earlier = (room as f64 * windows.spread.unwrap_or(1.0) * chance) as u64;
        let mandatory = expires - windows.mandatory(lifetime);
        let advisory = (expires - window - earlier.min(room)).min(mandatory);
        Points { advisory, mandatory, expires }
    }
}

/// The rest of a set's life: by the wall clock of this machine, or by the server's `Date` if the two differ. The wall
/// clock is exact, `Date` has whole seconds.
pub(crate) fn life_left(by_wall: Duration, by_server: Option<Duration>) -> Duration {
    match by_server {
        Some(by_server) if by_server.abs_diff(by_wall) < SKEW_FLOOR => by_wall,
        // AWS issues no set with such a lifetime, so the server's clock is wrong.
        Some(by_server) if by_server > LONGEST_LIFE => by_server.min(by_wall),
        Some(by_server) => by_server,
        None => by_wall,
    }
}

/// A set that is not valid for long enough for a caller is left in place for this part of its life.
const EARLY_FLOOR: u64 = 8;

/// When a set that was fetched at `fetched` and expires at `expires` may be replaced by one that is valid for longer.
///
/// A source whose sets live for `L` gives a caller up to seven eighths of `L` at any time: a younger set has as much left.
/// For more than that a caller gets what is left, at least seven eighths. So callers cause at most eight calls in `L`.
pub(crate) fn may_be_replaced(fetched: u64, expires: u64) -> u64 {
    fetched.saturating_add(expires.saturating_sub(fetched) / EARLY_FLOOR)
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
            (90 * MIN, 30 * MIN, MIN),
            (720 * MIN, 60 * MIN, MIN),
            (3 * SECOND, SECOND, SECOND * 3 / 10),
        ] {
            let points = |chance| Points::new(&Windows::default(), 7, lifetime, chance);
            assert_eq!(points(0.0).expires - points(0.0).advisory, before, "{lifetime}");
            assert_eq!(points(0.0).expires - points(0.0).mandatory, mandatory, "{lifetime}");
            assert_eq!(points(1.0).advisory, 7 + lifetime / 2, "{lifetime}");
            let middle = (points(0.0).advisory + points(1.0).advisory) / 2;
            assert!(points(0.5).advisory.abs_diff(middle) <= 1, "{lifetime}");
        }
    }

    #[test]
    fn windows_of_the_user_take_precedence() {
        let seconds = |n| Some(Duration::from_secs(n));
        let own = Windows { advisory: seconds(9), keep: MINUTE, ..Windows::default() };
        let others = Windows {
            advisory: seconds(8),
            mandatory: seconds(7),
            spread: Some(0.5),
            keep: 2 * MINUTE,
        };
        let both = Windows { advisory: seconds(9), ..others };
        assert_eq!(own.or(others), both);
        assert_eq!(Windows::default().or(own), own);
    }

    #[test]
    fn a_wrong_clock_does_not_change_what_is_left() {
        let seconds = Duration::from_secs;
        let left = |wall, server: Option<u64>| {
            life_left(seconds(wall), server.map(Duration::from_secs)).as_secs()
        };
        assert_eq!(left(3600, None), 3600);
        // A small difference comes from the network.
        assert_eq!(left(3600, Some(3602)), 3600);
        assert_eq!(left(3600, Some(3598)), 3600);
        assert_eq!(left(3600, Some(3603)), 3603);
        assert_eq!(left(60, Some(3600)), 3600);
        // No set lives longer than 36 hours: the server's clock is wrong.
        assert_eq!(left(60, Some(36 * 3600)), 36 * 3600);
        assert_eq!(left(60, Some(36 * 3600 + 1)), 60);
        assert_eq!(left(40 * 3600, Some(37 * 3600)), 37 * 3600);
    }

    #[test]
    fn a_rejection_causes_no_call_for_5_s() {
        assert_eq!(REJECTION_FLOOR, 5_000_000_000);
    }

    #[test]
    fn the_spread_takes_its_part_of_the_room() {
        let advisory = |spread, window: Option<u64>, chance| {
            let advisory = window.map(|minutes| MINUTE * minutes as u32);
            let windows = Windows { advisory, spread, ..Windows::default() };
            Points::new(&windows, 0, 60 * MIN, chance).advisory as f64 / MIN as f64
        };
        assert_eq!(advisory(Some(0.0), None, 1.0), 45.0);
        assert_eq!(advisory(Some(0.5), None, 1.0), 37.5);
        assert_eq!(advisory(Some(1.0), None, 1.0), 30.0);
        // A window of the user's is the latest point.
        assert_eq!(advisory(None, Some(20), 0.0), 40.0);
        assert_eq!(advisory(None, Some(20), 1.0), 30.0);
        // A long one leaves room for a spread.
        assert_eq!(advisory(None, Some(50), 0.0), 33.0);
        assert_eq!(advisory(None, Some(50), 1.0), 30.0);
    }

    #[test]
    fn wrong_windows_are_refused_by_name() {
        let seconds = |window: Option<u64>| window.map(Duration::from_secs);
        let windows =
            |a, m| Windows { advisory: seconds(a), mandatory: seconds(m), ..Windows::default() };
        for (advisory, mandatory) in [(Some(60), Some(60)), (None, Some(9999)), (Some(1), None)] {
            assert_eq!(windows(advisory, mandatory).validate(), Ok(()));
        }
        let problem = |a, m| windows(a, m).validate().unwrap_err();
        assert!(problem(Some(59), Some(60)).contains("shorter than the mandatory"));
        assert!(problem(Some(59), Some(0)).starts_with("mandatory_window: is zero"));
        assert!(problem(Some(0), None).starts_with("advisory_window: is zero"));
        for spread in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let problem = Windows { spread: Some(spread), ..windows(None, None) }.validate();
            let expected = format!("refresh_spread: is {spread}; it must be from 0.0 to 1.0");
            assert_eq!(problem, Err(expected));
        }
        for spread in [0.0, 0.3, 1.0] {
            assert_eq!(Windows { spread: Some(spread), ..windows(None, None) }.validate(), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn points_are_ordered_and_leave_half_the_life(
            lifetime in 1u64..50_000 * SECOND, chance in 0.0f64..=1.0,
            advisory in prop::option::of(1u64..9_000), mandatory in prop::option::of(1u64..9_000),
            spread in prop::option::of(0.0f64..=1.0), keep in 0u64..9_000,
        ) {
            let [advisory, mandatory] = [advisory, mandatory].map(|w| w.map(Duration::from_secs));
            let keep = Duration::from_secs(keep);
            let windows = Windows { advisory, mandatory, spread, keep };
            let latest = Points::new(&windows, 1000, lifetime, 0.0).advisory;
            let points = Points::new(&windows, 1000, lifetime, chance);
            prop_assert!(points.advisory >= 1000 + lifetime / 2);
            prop_assert!(points.advisory <= latest);
            prop_assert!(points.advisory <= points.mandatory);
            prop_assert!(points.mandatory <= points.expires);
            if lifetime >= as_nanos(life_for(keep)) + 20 {
                prop_assert!(points.expires - points.advisory >= as_nanos(keep));
            }
        }
    }
}
