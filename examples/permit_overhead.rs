//! What a permit costs a cold fetch: the call of an embedded STS with and without it, one after the other in one run.
//!
//! `cargo run --release --features fleet --example permit_overhead -- redis://127.0.0.1:6379`
//!
//! It prints milliseconds, and fails if the server gave fewer than 95 % of the permits within the limit of 50 ms.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use aws_credential_types::Credentials;
use shmcreds::{AssumeRole, Fleet, SharedSession, testing::LocalSts};

const ROUNDS: usize = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("give the URL of a server of Valkey or Redis")?;
    let sts = LocalSts::fork()?;
    let role = AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .session_name("bench")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .base_keys(Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "bench"));
    let budget = format!("permit-overhead-{}", std::process::id());
    // A budget that is never used up: otherwise the wait for it would be measured.
    let answering = Fleet::redis(url).budget(budget, 100_000.0);
    // Nothing listens there.
    let down = Fleet::redis("redis://127.0.0.1:1").hosts(1).budget("down", 100_000.0);
    let fleets = [("plain", None), ("with a permit", Some(answering)), ("store down", Some(down))];
    let mut times = vec![Vec::with_capacity(ROUNDS); fleets.len()];
    let (mut permits, mut waits) = (0, Vec::new());
    for round in 0..ROUNDS {
        for (number, (what, fleet)) in fleets.iter().enumerate() {
            let name = format!("permit-{}-{number}-{round}", std::process::id());
            let builder = SharedSession::builder(name).source(role.clone());
            let session = match fleet {
                Some(fleet) => builder.fleet(fleet.clone()),
                None => builder,
            }
            .create()?;
            let begun = Instant::now();
            session.credentials()?;
            times[number].push(begun.elapsed());
            if let (&"with a permit", Some(fleet)) = (what, session.status()?.fleet()) {
                permits += fleet.permits;
                waits.push(fleet.latency);
            }
        }
    }
    println!("{ROUNDS} cold fetches each, in milliseconds");
    println!("{:24}{:>8}{:>8}", "", "p50", "p99");
    for ((what, _), times) in fleets.iter().zip(&mut times) {
        print(what, times);
    }
    print("the permit alone", &mut waits);
    // A few may be late on a busy machine.
    match permits as usize >= ROUNDS * 95 / 100 {
        true => Ok(()),
        false => Err(format!("the server gave only {permits} permits in {ROUNDS} rounds").into()),
    }
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let quantile =
        |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!("{what:24}{:8.2}{:8.2}", quantile(0.5), quantile(0.99));
}
