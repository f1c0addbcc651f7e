//! The metrics of a pool of roles. No label tells a tenant, an ARN or an account: there may be thousands of them, and they
//! are nobody else's business.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use shmcreds::{RolesStatus, State};

use crate::{
    command_error::CommandError,
    metrics::{self, Labels},
};

/// The metrics. `latency` is that of the endpoint, if this process has one.
pub(crate) fn text(
    status: &RolesStatus,
    latency: Option<&Histogram>,
) -> Result<String, CommandError> {
    let mut registry = Registry::with_prefix("shmcreds");
    let entries = Family::<Labels, Gauge>::default();
    for state in State::all() {
        let series = entries.get_or_create(&vec![("state", state.as_str().to_owned())]);
        series.set(i64::try_from(status.count(state)).unwrap_or(i64::MAX));
    }
    registry.register("roles_entries", "Roles in the pool, by the state of their sets", entries);
    let failing = status.entries().iter().filter(|entry| entry.status().last_failure().is_some());
    for (name, help, value) in [
        ("roles_failing", "Roles whose last call of STS failed", failing.count()),
        ("roles_capacity", "How many roles the pool holds at most", status.capacity()),
        (
            "roles_budget_calls_per_second",
            "How many calls of STS the pool makes per second at most",
            status.calls_per_second() as usize,
        ),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    let used: Gauge<f64, AtomicU64> = Gauge::default();
    used.set(status.budget_used());
    let help = "The part of the budget that is used: 1 if a call that is asked for now has to wait";
    registry.register("roles_budget_used_ratio", help, used);
    let queue: Gauge<f64, AtomicU64> = Gauge::default();
    queue.set(status.budget_queue().as_secs_f64());
    let help = "How long a call that is asked for now waits for the budget";
    registry.register_with_unit("roles_budget_queue", help, Unit::Seconds, queue);
    if let Some(left) = status.soonest_expiry() {
        let soonest: Gauge<f64, AtomicU64> = Gauge::default();
        soonest.set(left.as_secs_f64());
        let help = "How long the set is still valid that expires first";
        registry.register_with_unit("roles_soonest_expiry", help, Unit::Seconds, soonest);
    }
    for (name, help, count) in [
        ("roles_source_calls", "Calls of STS", status.source_calls()),
        ("roles_throttles", "Calls that STS throttled", status.throttles()),
        ("roles_insertions", "Roles that got an entry", status.insertions()),
        ("roles_evictions", "Roles that lost their entry", status.evictions()),
        ("roles_refusals", "Roles refused because all entries were in use", status.refusals()),
        (
            "roles_rebuilds",
            "How often the index was made again, because a process died while it changed it",
            status.rebuilds(),
        ),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(count);
        registry.register(name, help, counter);
    }
    metrics::encoded(registry, latency)
}
