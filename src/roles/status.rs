//! How a pool is.

use std::time::Duration;

use super::table::Table;
use crate::{
    error::Error,
    session::{LeaseHolder, SharedPool, State, Status},
    source::Fingerprint,
};

/// How a pool was at one moment; made by [`SharedRoles::status`](crate::SharedRoles::status). Holds no secret.
#[derive(Clone, Debug)]
pub struct RolesStatus {
    entries: Vec<RoleStatus>,
    capacity: usize,
    calls_per_second: u32,
    budget_queue: Duration,
    budget_used: f64,
    counters: [u64; 7],
    refresher: Option<LeaseHolder>,
}

/// How one entry of a pool was.
#[derive(Clone, Debug)]
pub struct RoleStatus {
    key: Fingerprint,
    arn: Option<String>,
    used_before: Duration,
    status: Status,
}

impl RoleStatus {
    /// The [key](crate::RoleSession::key) of the role.
    pub fn key(&self) -> &Fingerprint {
        &self.key
    }

    /// The ARN of the role: of one that has a set, or that this process has asked for. It may be cut after 512 bytes.
    ///
    /// Two roles with one ARN differ in other inputs, such as the external id. The [key](Self::key) tells them apart.
    pub fn arn(&self) -> Option<&str> {
        self.arn.as_deref()
    }

    /// About how long ago the role was used, in whole minutes.
    pub fn used_before(&self) -> Duration {
        self.used_before
    }

    /// The state of the role.
    pub fn status(&self) -> &Status {
        &self.status
    }
}

impl RolesStatus {
    pub(super) fn of(pool: &SharedPool, table: &Table) -> Result<Self, Error> {
        let now = pool.minute();
        let entry = |(key, session)| {
            let minutes = now.saturating_sub(pool.last_use(&session));
            let used_before = Duration::from_secs(minutes.saturating_mul(60));
            session.status().map(|status| {
                let arn = status.role_arn().map(str::to_owned).or_else(|| table.arn_of(&key));
                RoleStatus { key, arn, used_before, status }
            })
        };
        // A damaged entry is replaced when it is used; here it is left out.
        let entries = pool.entries().map(entry).filter_map(Result::ok).collect();
        Ok(RolesStatus {
            entries,
            capacity: pool.capacity(),
            calls_per_second: pool.calls_per_second(),
            budget_queue: pool.queue(),
            budget_used: pool.budget_used(),
            counters: pool.counters(),
            refresher: pool.refresher(),
        })
    }

    /// A line for each role that has an entry, in no order.
    pub fn entries(&self) -> &[RoleStatus] {
        &self.entries
    }

    /// How many entries are in that state.
    pub fn count(&self, state: State) -> usize {
        self.entries.iter().filter(|entry| entry.status.state() == state).count()
    }

    /// How many roles the pool holds at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many calls of STS the pool makes per second at most.
    pub fn calls_per_second(&self) -> u32 {
        self.calls_per_second
    }

    /// How long a call that is asked for now waits for the budget.
    pub fn budget_queue(&self) -> Duration {
        self.budget_queue
    }

    /// The part of the budget that is used: 0 if the calls of a second can be made at once, 1 if the next call has to wait.
    pub fn budget_used(&self) -> f64 {
        self.budget_used
    }

    /// How often a role got an entry.
    pub fn insertions(&self) -> u64 {
        self.counters[0]
    }

    /// How often a role lost its entry.
    pub fn evictions(&self) -> u64 {
        self.counters[1]
    }

    /// How often the index was made again, because a process died while it changed it.
    pub fn rebuilds(&self) -> u64 {
        self.counters[2]
    }

    /// How often STS throttled a call of the pool.
    pub fn throttles(&self) -> u64 {
        self.counters[3]
    }

    /// How often a role was refused because all entries were in use.
    pub fn refusals(&self) -> u64 {
        self.counters[4]
    }

    /// How many messages to the refresher were not obeyed: of another user, damaged, or for a role that is not allowed.
    pub fn refused_requests(&self) -> u64 {
        self.counters[5]
    }

    /// The process that refreshes the pool; `None` when none does, or it has resigned.
    pub fn refresher(&self) -> Option<&LeaseHolder> {
        self.refresher.as_ref()
    }

    /// How often STS was called, by all processes together, for all roles that the pool has had.
    pub fn source_calls(&self) -> u64 {
        self.counters[6]
    }

    /// The time until the first set expires; `None` without a valid set.
    pub fn soonest_expiry(&self) -> Option<Duration> {
        let valid = self.entries.iter().map(|entry| entry.status.expires_in());
        valid.filter(|left| !left.is_zero()).min()
    }
}
