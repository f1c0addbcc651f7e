//! The budget: how many calls of STS the processes of a pool make together. A token bucket (GCRA) in one word.
//!
//! The word holds the time at which the next call is due (44 bits, in microseconds since boot) and how much slower than
//! its rate the pool calls at the moment (20 bits, in 1/1024; 0 is the full rate). Each call moves the time by the
//! interval. A call may be made up to one second before its time, so the calls of one second may be made at once. When STS
//! throttles, the interval doubles. Each call after that shortens it by 1/32.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

const SLOW_BITS: u32 = 20;
const SLOW_MASK: u64 = (1 << SLOW_BITS) - 1;
/// The slowness of the full rate, and the largest one: 64 times as slow.
const FULL: u64 = 1024;
const SLOWEST: u64 = 64 * FULL;
const SECOND: u64 = 1_000_000;

/// The rate of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) calls_per_second: u32,
}

/// What a reservation gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// The call may be made after this time.
    After(Duration),
    /// The call cannot be made in time. Another attempt may succeed after this time.
    Refused(Duration),
}

fn parts(word: u64) -> (u64, u64) {
    let slow = word & SLOW_MASK;
    // An invalid slowness counts as the nearest valid one.
    (word >> SLOW_BITS, if slow == 0 { FULL } else { slow.clamp(FULL, SLOWEST) })
}

fn word(due: u64, slow: u64) -> u64 {
    due << SLOW_BITS | if slow <= FULL { 0 } else { slow }
}

impl Budget {
    fn interval(self, slow: u64) -> u64 {
        (SECOND * slow / FULL / u64::from(self.calls_per_second)).max(1)
    }

    /// The time that is due for a call at `now`: what another program has written cannot stop the pool for longer than a
    /// full queue would.
    fn due(self, due: u64, slow: u64, now: u64) -> u64 {
        // At least one call may be made at once, however slow the pool is.
        let burst = SECOND.max(self.interval(slow));
        if due > now + LONGEST_QUEUE { now } else { due.max(now.saturating_sub(burst)) }
    }

    /// Reserves a call at `now` (nanoseconds since boot), if it can be made within `limit`.
    pub(crate) fn reserve(self, budget: &AtomicU64, now: u64, limit: Duration) -> Reserved {
        let now = now / 1000;
        let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX).min(LONGEST_QUEUE / 2);
        loop {
            // Relaxed, as the exchange: the word orders no other memory.
            let seen = budget.load(Ordering::Relaxed);
            let (due, slow) = parts(seen);
            let next = self.due(due, slow, now) + self.interval(slow);
            let wait = next.saturating_sub(now);
            if wait > limit.max(1) {
                return Reserved::Refused(Duration::from_micros(wait - limit));
            }
            let after = word(next, slow - (slow - FULL).div_ceil(32));
            let done = budget.compare_exchange(seen, after, Ordering::Relaxed, Ordering::Relaxed);
            if done.is_ok() {
                return Reserved::After(Duration::from_micros(wait));
            }
        }
    }

    /// Whether a call at `now` would use the part of the budget that is kept for first calls: the last half.
    pub(crate) fn is_scarce(self, budget: u64, now: u64) -> bool {
        let (due, slow) = parts(budget);
        let now = now / 1000;
        self.due(due, slow, now) + SECOND / 2 > now
    }

    /// How long a call that is reserved now would wait.
    pub(crate) fn queue(self, budget: u64, now: u64) -> Duration {
        let (due, slow) = parts(budget);
        let now = now / 1000;
        Duration::from_micros((self.due(due, slow, now) + self.interval(slow)).saturating_sub(now))
    }

    /// The part of the calls of one second that was made: 0 to 1.
    pub(crate) fn used(self, budget: u64, now: u64) -> f64 {
        let (due, slow) = parts(budget);
        let (now, burst) = (now / 1000, SECOND.max(self.interval(slow)));
        let used = (self.due(due, slow, now) + burst).saturating_sub(now);
        (used as f64 / burst as f64).min(1.0)
    }

    /// STS throttles: the pool calls half as often.
    pub(crate) fn slow_down(budget: &AtomicU64) {
        let slower = |seen| {
            let (due, slow) = parts(seen);
            Some(word(due, (slow * 2).min(SLOWEST)))
        };
        let _ = budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, slower);
    }
}

/// No queue is longer: nobody waits for more than half of it. A later time can only come from another program.
const LONGEST_QUEUE: u64 = 120 * SECOND;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_000_000_000_000;

    fn calls_within(budget: Budget, word: &AtomicU64, now: u64, limit: Duration) -> usize {
        let reserve = |_: &usize| matches!(budget.reserve(word, now, limit), Reserved::After(_));
        (0..100_000).take_while(reserve).count()
    }

    #[test]
    fn a_second_of_calls_at_once_and_then_the_rate() {
        let (budget, word) = (Budget { calls_per_second: 50 }, AtomicU64::new(0));
        assert_eq!(calls_within(budget, &word, NOW, Duration::ZERO), 50);
        assert_eq!(calls_within(budget, &word, NOW, Duration::from_secs(2)), 100);
        let Reserved::Refused(after) = budget.reserve(&word, NOW, Duration::from_secs(2)) else {
            panic!("there is room")
        };
        assert!(after <= Duration::from_millis(20), "{after:?}");
        let later = NOW + 3_000_000_000;
        assert_eq!(calls_within(budget, &word, later, Duration::ZERO), 50, "it fills again");
    }

    #[test]
    fn the_used_part_is_told() {
        let (budget, word) = (Budget { calls_per_second: 50 }, AtomicU64::new(0));
        let used = || budget.used(word.load(Ordering::Relaxed), NOW);
        assert_eq!(used(), 0.0);
        assert_eq!(calls_within(budget, &word, NOW, Duration::ZERO), 50);
        assert_eq!(used(), 1.0);
        let half = NOW + 500_000_000;
        let used = || budget.used(word.load(Ordering::Relaxed), half);
        assert!((used() - 0.5).abs() < 1e-6, "{}", used());
        calls_within(budget, &word, half, Duration::from_secs(9));
        assert_eq!(used(), 1.0);
    }

    #[test]
    fn a_throttled_pool_slows_down_and_recovers() {
        let (budget, word) = (Budget { calls_per_second: 50 }, AtomicU64::new(0));
        calls_within(budget, &word, NOW, Duration::ZERO);
        Budget::slow_down(&word);
        let slowness = || parts(word.load(Ordering::Relaxed)).1;
        assert_eq!(slowness(), 2 * FULL);
        budget.reserve(&word, NOW + 1_000_000_000, Duration::ZERO);
        assert_eq!(slowness(), 2 * FULL - FULL / 32, "each call brings it a step back");
        let slow = calls_within(budget, &word, NOW + 1_000_000_000, Duration::ZERO);
        assert!((25..45).contains(&slow), "{slow}");
        let mut now = NOW + 1_000_000_000;
        for _ in 0..20 {
            now += 1_000_000_000;
            calls_within(budget, &word, now, Duration::ZERO);
        }
        now += 1_000_000_000;
        assert_eq!(calls_within(budget, &word, now, Duration::ZERO), 50);
        (0..100).for_each(|_| Budget::slow_down(&word));
        now += 10_000_000_000;
        assert!(calls_within(budget, &word, now, Duration::ZERO) >= 1, "it never stops");
    }

    #[test]
    fn refreshes_leave_half_for_first_calls() {
        let (budget, word) = (Budget { calls_per_second: 50 }, AtomicU64::new(0));
        let scarce = || budget.is_scarce(word.load(Ordering::Relaxed), NOW);
        let before = (0..50).take_while(|_| {
            let room = !scarce();
            budget.reserve(&word, NOW, Duration::ZERO);
            room
        });
        assert_eq!(before.count(), 26, "with 25 calls, exactly half of it is left");
    }

    #[test]
    fn a_call_waits_for_those_before_it() {
        let (budget, word) = (Budget { calls_per_second: 50 }, AtomicU64::new(0));
        let milliseconds = Duration::from_millis;
        let queue = |word: &AtomicU64| budget.queue(word.load(Ordering::Relaxed), NOW);
        assert_eq!(queue(&word), Duration::ZERO);
        calls_within(budget, &word, NOW, Duration::ZERO);
        assert_eq!(queue(&word), milliseconds(20));
        let reserve = |limit| budget.reserve(&word, NOW, milliseconds(limit));
        assert_eq!(reserve(5), Reserved::Refused(milliseconds(15)));
        assert_eq!(reserve(2000), Reserved::After(milliseconds(20)));
        assert_eq!(reserve(2000), Reserved::After(milliseconds(40)));
        assert_eq!(queue(&word), milliseconds(60));
        // Nobody waits for more than a minute, whatever the limit.
        let hour = Duration::from_secs(3600);
        assert_eq!(2 + calls_within(budget, &word, NOW, hour), 60 * 50);
    }

    #[test]
    fn a_time_beyond_the_longest_queue_does_not_count() {
        let budget = Budget { calls_per_second: 50 };
        let reserve = |due| budget.reserve(&AtomicU64::new(word(due, 0)), NOW, Duration::ZERO);
        let longest = NOW / 1000 + LONGEST_QUEUE;
        assert_eq!(reserve(longest), Reserved::Refused(Duration::from_millis(120_020)));
        assert_eq!(reserve(longest + 1), Reserved::Refused(Duration::from_millis(20)));
    }

    proptest! {
        /// Whatever another program writes there, calls go on.
        #[test]
        fn a_forged_word_stops_no_pool(forged in any::<u64>(), rate in 1u32..10_000) {
            let (budget, word) = (Budget { calls_per_second: rate }, AtomicU64::new(forged));
            let outcome = budget.reserve(&word, NOW, Duration::from_secs(30));
            let Reserved::Refused(after) = outcome else { return Ok(()) };
            prop_assert!(after.as_micros() <= u128::from(LONGEST_QUEUE + 64 * SECOND));
        }
    }
}
