//! One process, many threads and runtimes: what callers see.

mod failures;
mod reads;
mod secrets;
mod sessions;
mod sets;
#[path = "../support/mod.rs"]
mod support;
mod times;

use std::time::Duration;

use shmcreds::{
    SharedSession,
    testing::{LocalSts, ManualClock},
};
use support::{name, role, until};

const MINUTE: Duration = Duration::from_secs(60);

fn session(sts: &LocalSts, what: &str) -> (SharedSession, ManualClock) {
    let clock = ManualClock::new().unwrap();
    let built = SharedSession::builder(name(what)).source(role(sts)).clock(&clock);
    (built.create().unwrap(), clock)
}

/// Waits until no refresh is under way.
fn wait_until_idle(session: &SharedSession) {
    until("the refresh is over", || session.status().unwrap().lease_holder().is_none());
}
