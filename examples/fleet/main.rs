//! What the refresh policy does to STS when a whole fleet follows it: `cargo run --release --example fleet`.
//!
//! The hosts of one AWS account share what STS allows the account. Each host is a session of this library: the points of
//! its sets and its back-off come from the functions that sessions call. STS is a token bucket, as AWS describes its
//! throttling. The same seed gives the same figures.
//!
//! ```text
//! usage: fleet [--hosts NUMBER] [--seed NUMBER]
//! ```
//!
//! Prints a table. Then follows a line of JSON for each run, from which `benches/plot.py` draws.

mod policies;
mod report;
mod scenarios;
mod simulation;

use std::process::exit;

use policies::{Former, New, Policy};
use simulation::Simulation;

fn main() {
    let (mut hosts, mut seed) = (100_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = arguments.next().and_then(|number| number.parse().ok());
        match (argument.as_str(), number) {
            ("--hosts", Some(number)) if number > 0 => hosts = number as usize,
            ("--seed", Some(number)) => seed = number,
            _ => {
                eprintln!("usage: fleet [--hosts NUMBER] [--seed NUMBER]");
                exit(64);
            }
        }
    }
    let policies: [&dyn Policy; 2] = [&Former, &New { spread: 1.0 }];
    println!("{hosts} hosts of one account, sets of one hour, seed {seed}\n");
    println!("{}", report::heading());
    let mut lines = Vec::new();
    for scenario in scenarios::all(hosts) {
        for policy in policies {
            let outcome = Simulation::run(&scenario, policy, seed);
            println!("{}", report::row(&scenario, policy, &outcome));
            lines.push(report::json(&scenario, policy, &outcome));
        }
    }
    println!();
    lines.iter().for_each(|line| println!("{line}"));
}
