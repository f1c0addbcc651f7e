//! Which Regions have failed lately.
//!
//! The segment keeps this for all processes. The source, which knows no segment, finds it in a variable of its task.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

tokio::task_local! {
    /// The word of the session that the fetch in progress is for.
    static FAILED: Arc<AtomicU64>;
}

/// Runs a fetch that reads and changes `failed`.
pub(crate) async fn with_failed_regions<T>(
    failed: Arc<AtomicU64>,
    fetch: impl Future<Output = T>,
) -> T {
    FAILED.scope(failed, fetch).await
}

/// The Regions that have failed, as the current fetch knows them. None outside a session.
pub(super) fn failed() -> FailedRegions {
    // Relaxed, here and in `note`: one task uses the word.
    FAILED.try_with(|word| FailedRegions(word.load(Ordering::Relaxed))).unwrap_or_default()
}

/// Stores them for the next fetch.
pub(super) fn note(failed: FailedRegions) {
    // Outside a session there is no next fetch.
    let _ = FAILED.try_with(|word| word.store(failed.0, Ordering::Relaxed));
}

/// How long a Region that failed is asked last, in milliseconds. It is longer than the longest back-off: all attempts of
/// one outage see it.
const WHILE: u64 = 600_000;

/// The Regions of a list that have failed lately, as one word. Bits 0 to 15 are the Regions, in the order of the list.
/// The other bits are when this is over, in milliseconds since boot. It is a hint: any word is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailedRegions(u64);

impl FailedRegions {
    /// The most Regions that a list may have.
    pub const MOST: usize = 16;

    /// The order in which `count` Regions are asked at `now`, in milliseconds since boot: that of the list, those that
    /// have failed last.
    pub fn order(self, count: usize, now: u64) -> impl Iterator<Item = usize> {
        let failed = self.bits(now);
        let part = move |last: bool| (0..count).filter(move |&i| (failed & bit(i) != 0) == last);
        part(false).chain(part(true))
    }

    /// Notes that a Region failed at `now`.
    #[must_use]
    pub fn with(self, region: usize, now: u64) -> Self {
        FailedRegions((self.bits(now) | bit(region)) | now.saturating_add(WHILE) << Self::MOST)
    }

    /// Notes that a Region gave a set.
    #[must_use]
    pub fn without(self, region: usize) -> Self {
        FailedRegions(self.0 & !bit(region))
    }

    /// The Regions that are asked last at `now`. An end that is too far away was not written by this code.
    fn bits(self, now: u64) -> u64 {
        let end = self.0 >> Self::MOST;
        let counts = end > now && end <= now.saturating_add(WHILE);
        if counts { self.0 & 0xffff } else { 0 }
    }
}

fn bit(region: usize) -> u64 {
    if region < FailedRegions::MOST { 1 << region } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(failed: FailedRegions, now: u64) -> Vec<usize> {
        failed.order(3, now).collect()
    }

    #[test]
    fn a_region_that_failed_is_asked_last_for_a_while() {
        let none = FailedRegions::default();
        assert_eq!(order(none, 5), [0, 1, 2]);
        let first = none.with(0, 1_000);
        assert_eq!(order(first, 1_000), [1, 2, 0]);
        assert_eq!(order(first, 1_000 + WHILE - 1), [1, 2, 0]);
        assert_eq!(order(first, 1_000 + WHILE), [0, 1, 2]);
        let two = first.with(2, 2_000);
        assert_eq!(order(two, 2_000), [1, 0, 2]);
        assert_eq!(order(two.without(0), 2_000), [0, 1, 2]);
        // What is over does not come back.
        assert_eq!(order(first.with(1, 1_000 + WHILE), 1_000 + WHILE), [0, 2, 1]);
    }

    proptest! {
        /// Whatever the segment holds, each Region is asked once.
        #[test]
        fn any_word_gives_each_region_once(word in any::<u64>(), count in 0usize..=16, now in any::<u64>()) {
            let mut found: Vec<usize> = FailedRegions(word).order(count, now).collect();
            found.sort_unstable();
            prop_assert_eq!(found, (0..count).collect::<Vec<_>>());
        }
    }
}
