//! What happens to fleets.

use crate::simulation::{HOUR, MINUTE, Region, SECOND, Scenario};

/// What STS allows an account in a Region, in calls a second.
const QUOTA: f64 = 600.0;

/// All hosts start in one second, and STS answers.
pub fn together(hosts: usize) -> Scenario {
    Scenario {
        name: "started together",
        hosts,
        quota: QUOTA,
        start: SECOND,
        end: 24 * HOUR,
        regions: vec![Region::default()],
        wrong_clocks: 0,
        start_spread: 0,
    }
}

pub fn all(hosts: usize) -> Vec<Scenario> {
    let down = |from, to| Region { down: from..to, ..Region::default() };
    let busy =
        |neighbour, from, to| Region { neighbour, neighbour_calls: from..to, ..Region::default() };
    let deployed = Scenario { start: 30 * MINUTE, ..together(hosts) };
    vec![
        together(hosts),
        Scenario {
            name: "together, start_spread of 5 min",
            start_spread: 5 * MINUTE,
            ..together(hosts)
        },
        Scenario {
            name: "together, two Regions listed",
            regions: vec![Region::default(); 2],
            ..together(hosts)
        },
        Scenario { name: "deployed in 30 min", ..deployed.clone() },
        Scenario {
            name: "STS out for 10 min at hour 3",
            regions: vec![down(3 * HOUR, 3 * HOUR + 10 * MINUTE)],
            ..deployed.clone()
        },
        Scenario {
            name: "STS out for 2 h at hour 3",
            regions: vec![down(3 * HOUR, 5 * HOUR)],
            ..deployed.clone()
        },
        Scenario {
            name: "a Region down for 2 h, two listed",
            regions: vec![down(3 * HOUR, 5 * HOUR), Region::default()],
            ..deployed.clone()
        },
        Scenario {
            name: "together, a neighbour takes 500/s",
            regions: vec![busy(500.0, HOUR, 24 * HOUR)],
            ..together(hosts)
        },
        Scenario {
            name: "a neighbour takes all, 10 min at hour 3",
            regions: vec![busy(QUOTA, 3 * HOUR, 3 * HOUR + 10 * MINUTE)],
            ..deployed.clone()
        },
        Scenario {
            name: "together, clocks wrong by up to 14 min",
            wrong_clocks: 14 * MINUTE,
            ..together(hosts)
        },
    ]
}
