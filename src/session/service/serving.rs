//! The loop of the refresher.

use std::time::Duration;

use tracing::info;

use super::state::Serving;
use crate::{error::Fault, refresh::predecessor, session::request::MOST};

/// The lease of the refresher. It waits for no call, so it shows soon that it hangs.
const LEASE: Duration = Duration::from_secs(12);
/// The rest of the lease at which it is renewed.
const RENEWAL: Duration = Duration::from_secs(6);

impl Serving<'_> {
    /// Serves until it is stopped or loses the election. Its calls have ended when it returns.
    pub(super) fn run(mut self, is_stopped: &dyn Fn() -> bool) -> Result<(), Fault> {
        let served = self.serve(is_stopped);
        self.running.drain().for_each(|(_, call)| call.wait());
        self.elected.resign();
        served
    }

    fn serve(&mut self, is_stopped: &dyn Fn() -> bool) -> Result<(), Fault> {
        let clock = &self.terms.clock;
        let job = self.terms.job(self.terms.base.clone());
        self.elected.mark_thread();
        predecessor::complete(&mut self.elected, &job);
        // Its first lease was that of a call.
        self.elected.renew(clock.boot(), LEASE)?;
        // What was asked of the refresher before this one is lost: who waits asks again.
        self.elected.view().announce();
        let made = self.pool.segment.pool().map_or(0, |pool| pool.made());
        if let Some(pool) = self.elected.view().pool() {
            pool.announce_all(made);
        }
        let mut buffer = vec![0; MOST];
        while !is_stopped() {
            if !self.keeps_election()? {
                info!(session = job.session, "stopped for too long; another process is elected");
                break;
            }
            let has_more = self.receive(&mut buffer)?;
            self.end_calls();
            let pause = self.start_calls();
            let pause = if has_more { Duration::ZERO } else { pause.min(RENEWAL) };
            self.inbox.wait(clock.longest_sleep(pause))?;
        }
        Ok(())
    }

    fn keeps_election(&mut self) -> Result<bool, Fault> {
        let now = self.terms.clock.boot();
        let left = Duration::from_nanos(self.elected.lease_end().saturating_sub(now));
        Ok(self.elected.holds() && (left > RENEWAL || self.elected.renew(now, LEASE)?))
    }
}
