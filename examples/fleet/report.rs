//! The table, and the lines that `benches/plot.py` reads.

use crate::{
    policies::Policy,
    simulation::{HOUR, Outcome, SECOND, Scenario},
};

const HOUR_12: u64 = 12 * HOUR;

pub fn heading() -> String {
    let cells = [
        "fleet",
        "policy",
        "calls of a host a day",
        "throttled",
        "calls until the first set",
        "all have a set after",
        "peak after hour 1, calls/s",
        "hour 12, peak / mean",
        "hosts that lost their set",
        "for at most",
    ];
    format!("{}\n{}", line(cells), line(["---"; 10]))
}

pub fn row(scenario: &Scenario, policy: &dyn Policy, outcome: &Outcome) -> String {
    let hosts = outcome.hosts as f64;
    let (peak, mean) = outcome.peak_and_mean(HOUR_12, 10);
    let cells = [
        scenario.name.to_owned(),
        policy.name().to_owned(),
        format!("{:.1}", outcome.total() as f64 / hosts),
        format!("{:.1} %", outcome.throttled as f64 * 100.0 / outcome.total() as f64),
        format!("{:.1}", outcome.cold_calls as f64 / hosts),
        seconds(outcome.all_served),
        outcome.peak().to_string(),
        format!("{peak:.0} / {mean:.0} = {:.2}", peak / mean),
        outcome.hosts_without.to_string(),
        seconds(outcome.longest_without),
    ];
    line(cells)
}

fn line<T: AsRef<str>>(cells: impl IntoIterator<Item = T>) -> String {
    let cells = cells.into_iter().map(|cell| format!("| {} ", cell.as_ref()));
    cells.chain(["|".to_owned()]).collect()
}

fn seconds(time: u64) -> String {
    format!("{} s", time.div_ceil(SECOND))
}

/// The calls of each minute.
pub fn json(scenario: &Scenario, policy: &dyn Policy, outcome: &Outcome) -> String {
    let minutes: Vec<u32> = outcome.calls.chunks(60).map(|minute| minute.iter().sum()).collect();
    format!(
        r#"{{"fleet":"{}","policy":"{}","calls_by_minute":{minutes:?}}}"#,
        scenario.name,
        policy.name()
    )
}
