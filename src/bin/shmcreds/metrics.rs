//! The state of a session in the text format of Prometheus.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64},
    thread,
};

use hyper::{Method, Request, body::Incoming};
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use shmcreds::{
    SharedRoles, SharedSession, State, Status,
    endpoint::http::{self, Answer, Plain, TEXT},
};
use signal_hook::{consts::TERM_SIGNALS, iterator::Signals};

use crate::{
    command_error::{CommandError, Doing, SYSTEM},
    fleet_metrics, listeners, roles_metrics,
};

/// The content type of [`text`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) type Labels = Vec<(&'static str, String)>;

/// The metrics. `latency` is that of the endpoint, if this process has one.
pub(crate) fn text(status: &Status, latency: Option<&Histogram>) -> Result<String, CommandError> {
    let mut registry = Registry::with_prefix("shmcreds");
    let state = Family::<Labels, Gauge>::default();
    // Each state always has a series: 1 for the current state, 0 for the others.
    for one in State::all() {
        let series = state.get_or_create(&vec![("state", one.as_str().to_owned())]);
        series.set(i64::from(one == status.state()));
    }
    registry.register("state", "1 for the state of the newest set, 0 for the others", state);
    let expiry: Gauge<f64, AtomicU64> = Gauge::default();
    expiry.set(status.expires_in().as_secs_f64());
    registry.register_with_unit("expiry", "How long the set is still valid", Unit::Seconds, expiry);
    let refresh: Gauge<f64, AtomicU64> = Gauge::default();
    refresh.set(status.refresh_in().as_secs_f64());
    registry.register_with_unit(
        "refresh",
        "Time until the set is due for a refresh",
        Unit::Seconds,
        refresh,
    );
    if let Some(seconds) = status.clock_skew_seconds() {
        let skew: Gauge<f64, AtomicU64> = Gauge::default();
        skew.set(seconds);
        let help = "How far the wall clock is behind the clock by which the set expires";
        registry.register_with_unit("clock_skew", help, Unit::Seconds, skew);
    }
    let up = Gauge::<i64>::default();
    up.set(i64::from(status.lease_holder().is_some_and(|refresher| refresher.is_alive())));
    registry.register("refresher_up", "Whether a process is elected and alive", up);
    let generation = Gauge::<i64>::default();
    generation.set(i64::try_from(status.generation()).unwrap_or(i64::MAX));
    registry.register("generation", "How many sets there have been", generation);
    for (name, help, count) in [
        ("source_calls", "Calls of the source", status.source_calls()),
        ("published", "Sets published", status.published()),
        ("takeovers", "Refreshers that another process replaced", status.takeovers()),
        ("invalidations", "Sets that AWS rejected", status.invalidations()),
        (
            "early_refreshes",
            "Sets replaced early because a caller needed one that is valid for longer",
            status.early_refreshes(),
        ),
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
    if let Some(fleet) = status.fleet() {
        fleet_metrics::register(&mut registry, fleet);
    }
    encoded(registry, latency)
}

/// The metrics of the session, or the pool, `name`. Attaches only for a moment.
pub(crate) fn of(name: &str) -> Result<String, CommandError> {
    match SharedRoles::attach(name) {
        Ok(pool) => roles_metrics::text(&pool.status()?, None),
        Err(_) => text(&SharedSession::attach(name)?.status()?, None),
    }
}

/// The text of the metrics, with those of the endpoint.
pub(crate) fn encoded(
    mut registry: Registry,
    latency: Option<&Histogram>,
) -> Result<String, CommandError> {
    if let Some(latency) = latency {
        let help = "How long the endpoint takes for an answer";
        registry.register("endpoint_latency_seconds", help, latency.clone());
    }
    let mut text = String::new();
    encode(&mut text, &registry)
        .map_err(|error| CommandError::new(SYSTEM, format!("writing the metrics: {error}")))?;
    Ok(text)
}

/// Serves the metrics at `/metrics` until a signal. The session may end and begin meanwhile.
pub(crate) fn serve(name: String, address: SocketAddr) -> Result<ExitCode, CommandError> {
    let mut signals = Signals::new(TERM_SIGNALS).doing("handling signals (sigaction)")?;
    let listener = listeners::bind(address)?;
    let runtime = http::runtime().doing("starting an async runtime")?;
    crate::print(&format!("http://{}/metrics", listener.local_addr().doing("listening")?))?;
    let serve = async move {
        let listener = Plain::new(listener, false)?;
        http::serve(listener, http::allow_connections(), Arc::new(MetricsService { name })).await
    };
    thread::Builder::new()
        .name("metrics".into())
        .spawn(move || runtime.block_on(serve))
        .doing("starting a thread")?;
    signals.forever().next();
    Ok(ExitCode::SUCCESS)
}

/// The service that Prometheus asks, from any host. Its answers contain no secret.
struct MetricsService {
    name: String,
}

impl http::Service for MetricsService {
    fn is_authenticated(&self, _: &Request<Incoming>) -> bool {
        false
    }

    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => self.metrics(),
            (_, "/metrics") => Answer::new(405, TEXT, "must be GET\n"),
            _ => Answer::new(404, TEXT, "no such path; try /metrics\n"),
        }
    }
}

impl MetricsService {
    /// Attaches only for a moment: an attached process keeps a session alive.
    fn metrics(&self) -> Answer {
        match of(&self.name) {
            Ok(text) => Answer::new(200, CONTENT_TYPE, text),
            Err(failure) => Answer::new(503, TEXT, failure.to_string() + "\n"),
        }
    }
}
