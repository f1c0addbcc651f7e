//! Waits while another process is elected.

use std::{sync::Arc, time::Duration};

use super::{
    election::{self, Holder},
    election_lock::ElectionGuard,
};
use crate::{error::Fault, segment::Segment, sys::death_watch::Watch};

/// Sleeps until an event after `event`, at most `limit`. The death of the holder and the end of its lease are no events,
/// so a watch counts an event for them.
///
/// # Errors
/// `System` when the kernel gives no thread for the watch.
pub(crate) fn sleep(
    segment: &Arc<Segment>,
    guard: &ElectionGuard,
    holder: Holder,
    now: u64,
    event: u32,
    limit: Duration,
) -> Result<(), Fault> {
    let view = segment.view();
    let lease = Duration::from_nanos(holder.lease_end.saturating_sub(now));
    let still = || matches!(election::holder(view, guard.locks(), now), Ok(Some(h)) if h == holder);
    let announcer = Arc::clone(segment);
    let watch = Watch::new(holder.pid, lease, still, move || announcer.announce())
        .map_err(|error| Fault::system("watching the refresher", error))?;
    // `None`: the holder has changed, so the caller checks the election again at once.
    if watch.is_some() {
        view.sleep(event, segment.slice(limit));
    }
    Ok(())
}
