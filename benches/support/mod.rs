//! What the benches share: a source that answers at once, medians, and the table at the end.
#![allow(dead_code)]

use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials;
use nix::time::{ClockId, clock_gettime};
use shmcreds::{Provider, SharedSession};

/// As long as the tokens of STS are.
pub const TOKEN: usize = 1200;

/// A set that lives an hour. Its key id says which process made it, and when.
pub fn set() -> Credentials {
    let key = format!("{}@{}", std::process::id(), monotonic());
    let hour = SystemTime::now() + Duration::from_secs(3600);
    let secret = "s".repeat(40);
    Credentials::new(key, secret, Some("t".repeat(TOKEN)), Some(hour), "bench")
}

/// A session whose source takes `latency`.
pub fn session(what: &str, latency: Duration) -> SharedSession {
    let source = Provider::new("bench", move || async move {
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        set()
    });
    let name = format!("bench-{what}-{}", std::process::id());
    SharedSession::builder(name).source(source).create().expect("a session")
}

/// Nanoseconds of a clock that all processes share.
pub fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Nanoseconds per call of `work`, called often.
pub fn per_call(calls: u32, mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| work());
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// The value below which `share` of the samples are.
pub fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() - 1) as f64 * share) as usize]
}

pub fn median(mut samples: Vec<f64>) -> f64 {
    quantile(&mut samples, 0.5)
}

/// The table at the end: what was measured, beside its limit.
#[derive(Default)]
pub struct Table(Vec<String>);

impl Table {
    /// `measured` and `limit` in the same unit, of the same run.
    pub fn row(&mut self, what: &str, measured: f64, beside: &str, limit: f64, unit: &str) {
        let verdict = if measured <= limit { "reached" } else { "MISSED" };
        self.0.push(format!(
            "| {what} | {measured:.1} {unit} | {beside}: {limit:.1} {unit} | {:.2} | {verdict} |",
            measured / limit
        ));
    }

    /// For comparing only.
    pub fn note(&mut self, what: &str, measured: f64, unit: &str) {
        self.0.push(format!("| {what} | {measured:.1} {unit} | | | |"));
    }

    pub fn print(&self) {
        println!(
            "\n| what | measured | limit | measured / limit | |\n| --- | --- | --- | --- | --- |"
        );
        self.0.iter().for_each(|row| println!("{row}"));
    }
}
