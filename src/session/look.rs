//! A look at the newest set that neither waits nor starts anything.

use std::{fmt, sync::Arc, time::Duration};

use aws_credential_types::Credentials;

use super::{
    inner::Inner,
    snapshot::Snapshot,
    status::{State, tail},
};
use crate::error::Fault;

/// One set as it was at one moment: what [`SharedSession::snapshot`](crate::SharedSession::snapshot) found.
///
/// Credentials, generation, expiry and state belong together. Nothing of it changes later.
#[derive(Clone)]
pub struct SetSnapshot {
    set: Arc<Snapshot>,
    state: State,
    expires_in: Duration,
    refresh_in: Duration,
}

impl SetSnapshot {
    /// The credentials, with their expiry on the wall clock. AWS refuses them when [`state`](Self::state) is
    /// [`Expired`](State::Expired), and has refused them when the set [is rejected](Self::is_rejected).
    pub fn credentials(&self) -> &Credentials {
        &self.set.credentials
    }

    /// The number of the set: the first is 1. It grows with each set.
    pub fn generation(&self) -> u64 {
        self.set.life.version.generation()
    }

    /// The state of the set at the moment of the look; never [`Empty`](State::Empty).
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the set had not expired.
    pub fn is_valid(&self) -> bool {
        self.state != State::Expired
    }

    /// Whether AWS rejected the set: a program called [`invalidate`](crate::SharedSession::invalidate).
    pub fn is_rejected(&self) -> bool {
        self.set.life.version.is_rejected()
    }

    /// How long the set was valid from then; zero for one that had expired.
    pub fn expires_in(&self) -> Duration {
        self.expires_in
    }

    /// How long the set was valid when it was fetched: as long as the source's sets live.
    pub fn lifetime(&self) -> Duration {
        self.set.life.length()
    }

    /// When the set was due to be refreshed; zero when it was due.
    pub fn refresh_in(&self) -> Duration {
        self.refresh_in
    }
}

/// No secret.
impl fmt::Debug for SetSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetSnapshot")
            .field("generation", &self.generation())
            .field("access_key_tail", &tail(self.credentials().access_key_id()))
            .field("state", &self.state)
            .field("is_rejected", &self.is_rejected())
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// The newest set and its state; `None` when there is none.
    pub(super) fn look(&self) -> Result<Option<SetSnapshot>, Fault> {
        Ok(self.newest()?.map(|set| self.seen_now(set)))
    }

    /// The set as it is now.
    pub(super) fn seen_now(&self, set: Arc<Snapshot>) -> SetSnapshot {
        let now = self.shared.clock.boot();
        let points = set.life.points;
        let left = |point: u64| Duration::from_nanos(point.saturating_sub(now));
        SetSnapshot {
            state: set.life.phase(now).into(),
            expires_in: left(points.expires),
            refresh_in: left(points.advisory),
            set,
        }
    }
}
