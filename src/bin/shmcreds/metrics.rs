//! A session's state in the text format of Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use shmcreds::Status;

use crate::failure::{Failure, SYSTEM};

/// What [`text`] gives.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// The text; with the latency of the endpoint in its own process.
pub(crate) fn text(status: &Status, latency: Option<&Histogram>) -> Result<String, Failure> {
    let mut registry = Registry::with_prefix("shmcreds");
    let state = Family::<Labels, Gauge>::default();
    state.get_or_create(&vec![("state", status.state().as_str().to_owned())]).set(1);
    registry.register("state", "The state of the newest set", state);
    let expiry: Gauge<f64, AtomicU64> = Gauge::default();
    expiry.set(status.expires_in().as_secs_f64());
    registry.register_with_unit("expiry", "How long the set is valid", Unit::Seconds, expiry);
    let refresh: Gauge<f64, AtomicU64> = Gauge::default();
    refresh.set(status.refresh_in().as_secs_f64());
    registry.register_with_unit(
        "refresh",
        "When it is due to be refreshed",
        Unit::Seconds,
        refresh,
    );
    let up = Gauge::<i64>::default();
    up.set(i64::from(status.refresher().is_some_and(|refresher| refresher.is_alive())));
    registry.register("refresher_up", "Whether a process is elected and alive", up);
    let generation = Gauge::<i64>::default();
    generation.set(i64::try_from(status.generation()).unwrap_or(i64::MAX));
    registry.register("generation", "How many sets there have been", generation);
    for (name, help, count) in [
        ("source_calls", "Calls of the source", status.source_calls()),
        ("published", "Sets published", status.published()),
        ("takeovers", "Refreshers that another one took over from", status.takeovers()),
        ("invalidations", "Sets that AWS rejected", status.invalidations()),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(count);
        registry.register(name, help, counter);
    }
    let failures = Family::<Labels, Counter>::default();
    for (class, count) in status.failed_by_class() {
        failures.get_or_create(&vec![("class", class.as_str().to_owned())]).inc_by(count);
    }
    registry.register("failures", "Failures of the source", failures);
    if let Some(latency) = latency {
        let help = "How long the endpoint takes for an answer";
        registry.register_with_unit("endpoint_latency", help, Unit::Seconds, latency.clone());
    }
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|error| Failure::new(SYSTEM, format!("writing the metrics: {error}")))?;
    Ok(text)
}
