//! Whether consumers that keep sets for some time may sign with expired keys.

use std::time::Duration;

use super::SharedSession;
use crate::refresh::policy;

/// The text of the warning, if there is reason for one. `life` is that of the newest set.
pub(super) fn warning(keep: Duration, life: Option<Duration>, in_time: bool) -> Option<String> {
    if keep.is_zero() {
        return None;
    }
    let seconds = keep.as_secs();
    let needed = policy::life_for(keep);
    if let Some(life) = life.filter(|life| *life < needed) {
        return Some(format!(
            "consumers keep a set for {seconds} s, and sets live for {} s: a consumer may sign with an expired key; let \
             the sets live for {} s or longer (duration of the role)",
            life.as_secs(),
            needed.as_secs(),
        ));
    }
    (!in_time).then(|| {
        format!(
            "consumers keep a set for {seconds} s, and no process refreshes in time: a consumer may get a set that \
             expires sooner; use Refresh::Eager, or let a process call run_refresher"
        )
    })
}

impl SharedSession {
    /// How long sets must live, so that consumers that keep one for `time` never sign with an expired key. See
    /// [`consumers_keep`](crate::SharedSessionBuilder::consumers_keep).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use shmcreds::SharedSession;
    /// const MINUTE: Duration = Duration::from_secs(60);
    /// assert_eq!(SharedSession::life_for_consumers(27 * MINUTE), 60 * MINUTE);
    /// ```
    pub fn life_for_consumers(time: Duration) -> Duration {
        policy::life_for(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_needs_a_reason() {
        const MINUTE: Duration = Duration::from_secs(60);
        let (keep, hour) = (15 * MINUTE, Some(60 * MINUTE));
        assert_eq!(warning(keep, hour, true), None);
        assert_eq!(warning(Duration::ZERO, Some(MINUTE), false), None);
        assert_eq!(warning(keep, None, true), None);
        assert!(warning(keep, hour, false).unwrap().contains("no process refreshes in time"));
        let short = warning(30 * MINUTE, hour, true).unwrap();
        assert!(short.contains("keep a set for 1800 s, and sets live for 3600 s"), "{short}");
        assert!(short.contains("live for 4000 s or longer"), "{short}");
        assert_eq!(warning(27 * MINUTE, hour, true), None);
    }
}
