//! What a session knows of its fleet.

use std::time::Duration;

use crate::segment::{Entry, FleetNote};

/// What the processes that refresh a session know of its fleet, at one moment. All counts are of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FleetStatus {
    /// What the store said when it was asked last.
    pub store: FleetStoreState,
    /// How long the store took then.
    pub latency: Duration,
    /// How long ago that was.
    pub asked: Duration,
    /// How this host got its set, where the fleet shares one.
    pub role: FleetRole,
    /// Permits that the store granted.
    pub permits: u64,
    /// Calls that the budget did not allow.
    pub refused: u64,
    /// Calls by the share of this host, because the store gave no answer.
    pub local_share: u64,
    /// Sets taken from the store.
    pub taken: u64,
    /// Sets given to the store.
    pub given: u64,
    /// Sets of the store that this host could not use: damaged, of another identity, expired, not newer, or encrypted with
    /// a key that this host does not have. Also calls that this host made alone because it could not read its keys.
    pub unusable: u64,
}

/// How the store of a fleet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FleetStoreState {
    /// It answered in time.
    Answers,
    /// There was no connection.
    Unreachable,
    /// It did not answer in time.
    Slow,
    /// It answered with an error, or with what it cannot answer.
    Wrong,
}

/// How a host got its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FleetRole {
    /// The fleet shares no set, or this host has none yet.
    None,
    /// This host fetched it for the fleet.
    Leader,
    /// This host took the set of another host.
    Follower,
}

impl FleetStoreState {
    /// All of them.
    pub fn all() -> impl Iterator<Item = FleetStoreState> {
        use FleetStoreState::{Answers, Slow, Unreachable, Wrong};
        [Answers, Unreachable, Slow, Wrong].into_iter()
    }

    /// The state in one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            FleetStoreState::Answers => "answers",
            FleetStoreState::Unreachable => "unreachable",
            FleetStoreState::Slow => "slow",
            FleetStoreState::Wrong => "wrong",
        }
    }
}

impl FleetRole {
    /// The role in one lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            FleetRole::None => "none",
            FleetRole::Leader => "leader",
            FleetRole::Follower => "follower",
        }
    }
}

impl FleetStatus {
    /// `None` for a session without a fleet, and before the first call.
    pub(super) fn of(entry: Entry<'_>, now: u64) -> Option<Self> {
        let notes = entry.fleet();
        let note = |note: FleetNote| notes[note as usize];
        let (answer, asked) = (note(FleetNote::Answer), note(FleetNote::AskedAt));
        if asked == 0 {
            return None;
        }
        Some(FleetStatus {
            store: match answer & 0xff {
                1 => FleetStoreState::Answers,
                2 => FleetStoreState::Unreachable,
                3 => FleetStoreState::Slow,
                _ => FleetStoreState::Wrong,
            },
            latency: Duration::from_micros(answer >> 8),
            asked: Duration::from_nanos(now.saturating_sub(asked)),
            role: match note(FleetNote::Role) {
                1 => FleetRole::Leader,
                2 => FleetRole::Follower,
                _ => FleetRole::None,
            },
            permits: note(FleetNote::Granted),
            refused: note(FleetNote::Refused),
            local_share: note(FleetNote::LocalShare),
            taken: note(FleetNote::Taken),
            given: note(FleetNote::Given),
            unusable: note(FleetNote::Unusable),
        })
    }
}
