//! The metrics of a session that belongs to a fleet.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use shmcreds::{FleetRole, FleetStatus, FleetStoreState};

use crate::metrics::Labels;

/// Adds them.
pub(crate) fn register(registry: &mut Registry, fleet: &FleetStatus) {
    let store = Family::<Labels, Gauge>::default();
    for one in FleetStoreState::all() {
        let series = store.get_or_create(&vec![("state", one.as_str().to_owned())]);
        series.set(i64::from(one == fleet.store));
    }
    registry.register(
        "fleet_store",
        "1 for how the store was when it was asked last, 0 for the others",
        store,
    );
    let latency: Gauge<f64, AtomicU64> = Gauge::default();
    latency.set(fleet.latency.as_secs_f64());
    let help = "How long the store of the fleet took for its last answer";
    registry.register_with_unit("fleet_store_latency", help, Unit::Seconds, latency);
    let asked: Gauge<f64, AtomicU64> = Gauge::default();
    asked.set(fleet.asked.as_secs_f64());
    let help = "How long ago the store of the fleet was asked";
    registry.register_with_unit("fleet_store_asked", help, Unit::Seconds, asked);
    let leader = Gauge::<i64>::default();
    leader.set(i64::from(fleet.role == FleetRole::Leader));
    registry.register("fleet_leader", "Whether this host fetched the set of the fleet", leader);
    for (name, help, count) in [
        ("fleet_permits", "Calls that the budget of the fleet allowed", fleet.permits),
        ("fleet_refused", "Calls that the budget of the fleet did not allow", fleet.refused),
        ("fleet_local_share", "Calls without an answer of the store", fleet.local_share),
        ("fleet_sets_taken", "Sets taken from the fleet", fleet.taken),
        ("fleet_sets_given", "Sets given to the fleet", fleet.given),
        ("fleet_sets_unusable", "Sets of the fleet that could not be used", fleet.unusable),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(count);
        registry.register(name, help, counter);
    }
}
