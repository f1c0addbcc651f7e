//! What the session itself tells, as live lines: sets, failures and takeovers, of all processes.
//! A refresher of its own prints nothing, and of several processes only one is to print an event.

use shmcreds::{SharedSession, Status};

use crate::say;

/// What has been printed already.
pub struct Watch<'a> {
    json: bool,
    session: &'a SharedSession,
    generation: u64,
    failed: u64,
    takeovers: u64,
}

impl<'a> Watch<'a> {
    pub fn new(json: bool, session: &'a SharedSession) -> Self {
        Watch { json, session, generation: 0, failed: 0, takeovers: 0 }
    }

    /// Prints what is new since the last look.
    pub fn look(&mut self) {
        // A segment that was damaged shows in the answers of the workers.
        let Ok(status) = self.session.status() else { return };
        self.takeovers(&status);
        self.failures(&status);
        self.sets(&status);
    }

    fn takeovers(&mut self, status: &Status) {
        let takeovers = status.takeovers();
        if std::mem::replace(&mut self.takeovers, takeovers) == takeovers {
            return;
        }
        // Who was elected for one call may be done with it, or dead, too.
        let successor = match status.lease_holder().filter(|refresher| refresher.is_alive()) {
            Some(refresher) => format!("process {}", refresher.pid()),
            None => "another process".to_owned(),
        };
        say!(self.json, "takeover {takeovers}: a refresher died or hung, {successor} took over");
    }

    fn failures(&mut self, status: &Status) {
        let failed = status.failed();
        if std::mem::replace(&mut self.failed, failed) == failed {
            return;
        }
        match status.last_failure() {
            Some(last) => {
                let (failure, times) = (last.failure(), last.in_a_row());
                let next = last.next_attempt_in().as_secs_f64();
                say!(
                    self.json,
                    "refresh failed ({}, {times} in a row): {failure}; next attempt in {next:.1} s",
                    failure.class()
                );
            }
            None => say!(self.json, "refresh failed, and then came a set"),
        }
    }

    fn sets(&mut self, status: &Status) {
        let generation = status.generation();
        if std::mem::replace(&mut self.generation, generation) == generation {
            return;
        }
        let tail = status.access_key_tail().unwrap_or_default();
        let valid = status.expires_in().as_secs_f64();
        say!(self.json, "set {generation} published: …{tail}, valid for another {valid:.0} s");
    }
}
