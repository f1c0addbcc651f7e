//! A look at the newest set that neither waits nor starts anything.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;

use super::{inner::Inner, snapshot::Snapshot, status::State};
use crate::{clock::Clock, error::Fault, source::tail};

/// Two reads of clocks, one after the other, differ by less. A step of the wall clock that is smaller does not matter.
const SMALLEST_STEP: Duration = Duration::from_secs(1);

/// One set as it was at one moment: what [`SharedSession::snapshot`](crate::SharedSession::snapshot) found.
///
/// Credentials, generation, expiry and state belong together. Nothing of it changes later.
#[derive(Clone)]
pub struct SetSnapshot {
    set: Arc<Snapshot>,
    state: State,
    expires_in: Duration,
    refresh_in: Duration,
    clock: Clock,
}

impl SetSnapshot {
    /// The credentials, with their expiry by the wall clock of the moment when they were fetched; see
    /// [`dated`](Self::dated). AWS refuses them when [`state`](Self::state) is
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

    /// When the set expires, by the wall clock as it is set now. If somebody has set that clock since the set was fetched,
    /// this differs from the expiry of the [`credentials`](Self::credentials).
    pub fn expiry(&self) -> SystemTime {
        let fetched = self.credentials().expiry().unwrap_or(SystemTime::UNIX_EPOCH);
        // In this order: if the process is stopped in between, the set expires too early and never too late.
        let wall = self.clock.wall();
        let left = self.set.life.points.expires.saturating_sub(self.clock.boot());
        let now = wall + Duration::from_nanos(left);
        let apart = now.duration_since(fetched).unwrap_or_else(|earlier| earlier.duration());
        match left {
            0 => fetched.min(wall),
            _ if apart < SMALLEST_STEP => fetched,
            _ => now,
        }
    }

    /// The credentials with [this](Self::expiry) as their expiry, for a program that compares it with the wall clock.
    pub fn dated(&self) -> Credentials {
        let mut credentials = self.credentials().clone();
        *credentials.expiry_mut() = Some(self.expiry());
        credentials
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
            clock: self.shared.clock.clone(),
            set,
        }
    }
}
