//! What the refresh policy does to STS when a fleet follows it, in the simulation of `examples/fleet`. The
//! former policy breaks each bound: so the bounds say something.

#[allow(dead_code)]
#[path = "../examples/fleet/policies.rs"]
mod policies;
#[allow(dead_code)]
#[path = "../examples/fleet/simulation.rs"]
mod simulation;

use policies::{Former, New, Policy};
use simulation::{HOUR, MINUTE, Outcome, Region, SECOND, Scenario, Simulation};

const NEW: New = New { spread: 1.0 };
const FEW: usize = 5_000;
/// In each minute there are enough calls for chance to be small.
const MANY: usize = 20_000;

/// As many hosts, and what STS allows them: as much for each as 100,000 have in one account.
fn fleet(hosts: usize, hours: u64) -> Scenario {
    Scenario {
        name: "test",
        hosts,
        quota: hosts as f64 * 0.006,
        start: SECOND,
        end: hours * HOUR,
        regions: vec![Region::default()],
        wrong_clocks: 0,
        start_spread: 0,
    }
}

fn deployed(regions: Vec<Region>) -> Scenario {
    Scenario { start: 30 * MINUTE, regions, ..fleet(FEW, 6) }
}

fn down(minutes: u64) -> Region {
    Region { down: 3 * HOUR..3 * HOUR + minutes * MINUTE, ..Region::default() }
}

fn run(scenario: &Scenario, policy: &dyn Policy) -> Outcome {
    Simulation::run(scenario, policy, 7)
}

/// The most calls in a minute around hour 12, as a multiple of the mean.
fn unevenness(outcome: &Outcome) -> f64 {
    let (peak, mean) = outcome.peak_and_mean(12 * HOUR, 60);
    peak / mean
}

fn cold_calls(outcome: &Outcome) -> f64 {
    outcome.cold_calls as f64 / outcome.hosts as f64
}

#[test]
fn hosts_that_started_together_refresh_apart_at_hour_12() {
    let scenario = fleet(MANY, 13);
    let (new, former) = (unevenness(&run(&scenario, &NEW)), unevenness(&run(&scenario, &Former)));
    assert!(new <= 1.2 && former > 5.0, "{new} {former}");
    let none = unevenness(&run(&scenario, &New { spread: 0.0 }));
    let half = unevenness(&run(&scenario, &New { spread: 0.5 }));
    assert!(none > half && half > new, "{none} {half} {new}");
}

#[test]
fn a_cold_start_takes_few_calls_a_host() {
    let scenario = fleet(FEW, 2);
    let (new, former) = (run(&scenario, &NEW), run(&scenario, &Former));
    assert!(
        cold_calls(&new) <= 10.0 && cold_calls(&former) > 15.0,
        "{} {}",
        cold_calls(&new),
        cold_calls(&former)
    );
    // STS needs 167 s to serve them all.
    assert!(new.all_served < 240 * SECOND, "{}", new.all_served);
    let apart = run(&Scenario { start_spread: 5 * MINUTE, ..scenario }, &NEW);
    assert_eq!((cold_calls(&apart), apart.throttled), (1.0, 0));
}

/// Every set has 15 minutes left when it is refreshed at the latest.
#[test]
fn an_outage_shorter_than_what_is_left_of_the_sets_takes_no_credentials() {
    for minutes in [1, 5, 10, 14] {
        let scenario = deployed(vec![down(minutes)]);
        let new = run(&scenario, &NEW);
        assert_eq!((new.hosts_without, new.longest_without), (0, 0), "{minutes}");
    }
    let former = run(&deployed(vec![down(14)]), &Former);
    assert!(former.hosts_without > 0);
}

#[test]
fn a_neighbour_that_takes_all_for_a_while_takes_no_credentials() {
    let neighbour_calls = 3 * HOUR..3 * HOUR + 14 * MINUTE;
    let busy = Region { neighbour: 30.0, neighbour_calls, ..Region::default() };
    let scenario = deployed(vec![busy]);
    let (new, former) = (run(&scenario, &NEW), run(&scenario, &Former));
    assert!(new.throttled > 0);
    assert_eq!(new.hosts_without, 0);
    assert!(former.hosts_without > 0);
}

#[test]
fn a_region_that_is_down_for_long_takes_no_credentials_if_another_is_listed() {
    let scenario = deployed(vec![down(120), Region::default()]);
    let new = run(&scenario, &NEW);
    assert_eq!(new.hosts_without, 0);
    assert_eq!(run(&scenario, &Former).hosts_without, scenario.hosts);
    // The Region that failed is asked in vain once in a while, not for each set.
    let calm = run(&deployed(vec![Region::default()]), &NEW);
    let (more, calls) = (new.total() - calm.total(), calm.total());
    assert!(more < calls * 2 / 5, "{more} of {calls}");
}

#[test]
fn wrong_clocks_change_nothing() {
    let scenario = Scenario { wrong_clocks: 14 * MINUTE, ..fleet(MANY, 13) };
    let new = run(&scenario, &NEW);
    assert!(unevenness(&new) <= 1.2);
    assert_eq!(new.hosts_without, 0);
    // A clock that is wrong by less than 3 s is not corrected, and `Date` has whole seconds.
    assert!(new.longest_expired < 4 * SECOND, "{}", new.longest_expired);
}

#[test]
fn the_seed_decides_everything() {
    let scenario = fleet(FEW, 2);
    let calls = |seed| Simulation::run(&scenario, &NEW, seed).calls;
    assert_eq!(calls(1), calls(1));
    assert_ne!(calls(1), calls(2));
}
