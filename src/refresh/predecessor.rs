//! What an elected process does first, if the process that was elected before it died or hung.

use tracing::{info, warn};

use super::{election::Elected, fetch::Job, publish};
use crate::segment::Counter;

/// Completes what the predecessor left undone. It may have died between a publication and the wake, so this wakes all
/// waiters. It may have died during its call, so this publishes a failed attempt, which has a back-off of its own. Each
/// elected process calls this first.
pub(crate) fn complete(elected: &mut Elected, job: &Job) {
    let takeover = std::mem::take(&mut elected.takeover);
    let (view, session) = (elected.view(), job.session.as_str());
    if takeover {
        view.count(Counter::Takeovers);
        view.announce();
        info!(session, "took over from a refresher that died or hung");
    }
    let Some(attempt) = view.attempt() else { return };
    // The predecessor may have published a set before it died.
    if attempt.generation == view.reader().published().generation() {
        let died = publish::death(elected, elected.predecessor, job.eager, &job.clock);
        if let Err(fault) = died {
            warn!(session, "could not publish a refresher's death: {}", fault.message);
        }
    }
    view.end_attempt(attempt.ticket);
}
