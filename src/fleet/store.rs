//! What the hosts of a fleet share: a store with four verbs.

use std::{fmt, future::Future, pin::Pin, time::Duration};

/// The future that each verb of a [`FleetStore`] returns.
pub type Storing<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A store that the hosts of a fleet share. Each verb is atomic: the store carries out one after the other.
///
/// A store is data, not a live client: it holds no socket, no thread and no runtime, so it survives `fork`. Each verb
/// opens what it needs, inside the short-lived runtime of the refresh, and closes it. The caller limits the time of each
/// verb, and checks each answer.
pub trait FleetStore: fmt::Debug + Send + Sync + 'static {
    /// Takes the right to one call of STS out of a budget.
    fn permit<'a>(&'a self, budget: &'a Budget) -> Storing<'a, Permit>;

    /// Looks for a set that is newer than the one of the caller, or makes the caller the leader: the host that fetches.
    fn acquire<'a>(&'a self, claim: &'a Claim) -> Storing<'a, Acquired>;

    /// Stores the set of a leader. The store refuses it if another host has led since, or if its set does not expire later.
    fn publish<'a>(&'a self, lead: &'a Lead, set: &'a StoredSet) -> Storing<'a, Publication>;

    /// Ends the lead without a set. No host leads before `pause` is over. The store ignores it if another host has led
    /// since.
    fn fail<'a>(&'a self, lead: &'a Lead, pause: Duration) -> Storing<'a, ()>;
}

/// The calls of STS that the hosts of a fleet may make together.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// Hosts with the same name share the budget: the account that calls, and the Region.
    pub name: String,
    /// How many calls a second.
    pub calls_per_second: f64,
    /// How long a host waits for its permit at most.
    pub patience: Duration,
}

/// The answer to the request for a permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// The call may be made after this time, which is [`Budget::patience`] at most.
    Granted(Duration),
    /// The budget is used up for longer than that. The time says for how long.
    Refused(Duration),
}

/// What a host wants: a set, or the lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name of the set.
    pub set: String,
    /// A random number that no other claim has.
    pub owner: u128,
    /// How long the lead lasts at most.
    pub lease: Duration,
    /// A stored set counts if it expires later: in milliseconds since 1970.
    pub newer_than: u64,
    /// A stored set with this expiry does not count: the caller could not open it. 0 for none.
    pub except: u64,
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// Who fetches the next set.
    pub turn: Turn,
    /// The stored set, if it counts.
    pub set: Option<StoredSet>,
    /// The time of the store, in milliseconds since 1970.
    pub now: u64,
}

/// Who fetches the next set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nobody yet: the stored set is fresh.
    Nobody,
    /// The caller. It ends its lead by `publish` or `fail`. The number says how many leads in a row have failed.
    Caller(Lead, u64),
    /// Another host. The time says when its lease ends.
    Another(Duration),
    /// Nobody, after a failure. The time says how long.
    Paused(Duration),
}

/// The lead of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The name of the set.
    pub set: String,
    /// The owner of the claim.
    pub owner: u128,
    /// The fencing token: each lead has a greater one than the leads before. 0 if the answer to the claim was lost: then
    /// the owner alone tells whether the claim was granted, and no other one since.
    pub token: u64,
}

/// A set in the store. Only a host with the key can open it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSet {
    /// In milliseconds since 1970.
    pub expires: u64,
    /// Until when hosts take it without a question: in milliseconds since 1970.
    pub fresh_until: u64,
    /// The encrypted set.
    pub sealed: Vec<u8>,
}

impl fmt::Debug for StoredSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredSet(expires: {}, {} bytes)", self.expires, self.sealed.len())
    }
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publication {
    /// The set is stored.
    Stored,
    /// Another host has led since.
    Fenced,
    /// The stored set expires as late, or later.
    NotLater,
}

/// Why the store gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    pub(super) kind: StoreErrorKind,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreErrorKind {
    Unreachable,
    Slow,
    Wrong,
}

impl StoreError {
    /// There was no connection, or it broke. `text` is for people, and has no secret.
    pub fn unreachable(text: impl Into<String>) -> Self {
        StoreError { kind: StoreErrorKind::Unreachable, text: text.into() }
    }

    /// The answer is an error, or not one that the verb can have. `text` is for people, and has no secret.
    pub fn wrong(text: impl Into<String>) -> Self {
        StoreError { kind: StoreErrorKind::Wrong, text: text.into() }
    }

    pub(super) fn slow(limit: Duration) -> Self {
        StoreError { kind: StoreErrorKind::Slow, text: format!("no answer within {limit:?}") }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for StoreError {}
