//! A fleet of hosts and the STS of its Regions, as a discrete-event simulation. One event is one attempt of one host to
//! get a new set. All times are nanoseconds since the beginning.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range, time::Duration};

use shmcreds::{
    SourceErrorClass,
    testing::policy::{FailedRegions, life_left},
};

use crate::policies::Policy;

pub const SECOND: u64 = 1_000_000_000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;

/// The lifetime of a set.
pub const LIFE: u64 = HOUR;
/// How long STS takes to answer.
const LATENCY: u64 = SECOND / 10;
/// The connect timeout of the SDK: how long a host waits for an STS that it does not reach.
const UNREACHABLE: u64 = 31 * SECOND / 10;
/// What happens to the fleet.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub hosts: usize,
    /// Calls a second that STS allows the account in each Region.
    pub quota: f64,
    /// All hosts start within this time.
    pub start: u64,
    pub end: u64,
    pub regions: Vec<Region>,
    /// The wall clocks of the hosts are wrong by up to this.
    pub wrong_clocks: u64,
    /// The `start_spread` of the sessions.
    pub start_spread: u64,
}

/// The STS of a Region, as this account meets it.
#[derive(Clone, Debug, Default)]
pub struct Region {
    /// When it cannot be reached.
    pub down: Range<u64>,
    /// Calls a second that another user of the account makes, and when.
    pub neighbour: f64,
    pub neighbour_calls: Range<u64>,
}

/// What was counted.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub hosts: usize,
    /// Calls in each second.
    pub calls: Vec<u32>,
    /// Calls that STS refused.
    pub throttled: u64,
    /// Calls of each host until its first set.
    pub cold_calls: u64,
    /// When the last host got its first set.
    pub all_served: u64,
    /// Hosts that had no valid set at some time after their first one, and the longest such time.
    pub hosts_without: usize,
    pub longest_without: u64,
    /// How long a host took a set for valid that had expired.
    pub longest_expired: u64,
}

impl Outcome {
    pub fn total(&self) -> u64 {
        self.calls.iter().map(|calls| u64::from(*calls)).sum()
    }

    /// The most calls in a second, after the first hour.
    pub fn peak(&self) -> u32 {
        self.calls.iter().skip(3600).copied().max().unwrap_or(0)
    }

    /// The most calls in `width` seconds and their mean, in the hour around `middle`, as calls a second.
    pub fn peak_and_mean(&self, middle: u64, width: usize) -> (f64, f64) {
        let middle = (middle / SECOND) as usize;
        let hour = &self.calls[middle - 1800..middle + 1800];
        let sum = |seconds: &[u32]| seconds.iter().map(|calls| f64::from(*calls)).sum::<f64>();
        let peak = hour.chunks(width).map(|chunk| sum(chunk) / width as f64).fold(0.0, f64::max);
        (peak, sum(hour) / hour.len() as f64)
    }
}

/// SplitMix64: the same numbers for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn chance(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, limit: u64) -> u64 {
        (limit as f64 * self.chance()) as u64
    }
}

/// A token bucket: a token for each call, as many new ones in a second as the quota says, and room for one second.
struct Sts {
    region: Region,
    quota: f64,
    tokens: f64,
    filled: u64,
}

enum Answer {
    Set,
    Throttled,
    None,
}

impl Sts {
    fn new(region: &Region, quota: f64) -> Self {
        Sts { region: region.clone(), quota, tokens: quota, filled: 0 }
    }

    fn ask(&mut self, now: u64) -> Answer {
        if self.region.down.contains(&now) {
            return Answer::None;
        }
        let seconds = now.saturating_sub(self.filled) as f64 / SECOND as f64;
        let others =
            if self.region.neighbour_calls.contains(&now) { self.region.neighbour } else { 0.0 };
        self.tokens = (self.tokens + seconds * (self.quota - others)).clamp(0.0, self.quota);
        self.filled = self.filled.max(now);
        if self.tokens < 1.0 {
            return Answer::Throttled;
        }
        self.tokens -= 1.0;
        Answer::Set
    }
}

/// A host: what its segment holds.
#[derive(Clone, Default)]
struct Host {
    /// The expiry of its set, by its own reckoning; 0 without a set.
    expires: u64,
    failures: u64,
    failed_regions: FailedRegions,
    /// By how much its wall clock is ahead.
    ahead: i64,
    had_none: bool,
}

/// A run.
pub struct Simulation<'a> {
    scenario: &'a Scenario,
    policy: &'a dyn Policy,
    random: Random,
    hosts: Vec<Host>,
    sts: Vec<Sts>,
    next: BinaryHeap<Reverse<(u64, usize)>>,
    outcome: Outcome,
}

impl<'a> Simulation<'a> {
    pub fn run(scenario: &'a Scenario, policy: &'a dyn Policy, seed: u64) -> Outcome {
        let mut simulation = Simulation::new(scenario, policy, seed);
        while let Some(Reverse((now, host))) = simulation.next.pop() {
            if now >= scenario.end {
                break;
            }
            let next = simulation.attempt(host, now);
            simulation.next.push(Reverse((next, host)));
        }
        for host in 0..scenario.hosts {
            simulation.look(host, scenario.end);
        }
        simulation.outcome
    }

    fn new(scenario: &'a Scenario, policy: &'a dyn Policy, seed: u64) -> Self {
        let mut random = Random(seed);
        let (mut hosts, mut next) = (Vec::new(), BinaryHeap::new());
        for host in 0..scenario.hosts {
            let start = random.below(scenario.start.max(1)) + random.below(scenario.start_spread);
            let wrong = random.below(2 * scenario.wrong_clocks) as i64;
            let ahead = wrong - scenario.wrong_clocks as i64;
            hosts.push(Host { ahead, ..Host::default() });
            next.push(Reverse((start, host)));
        }
        let outcome = Outcome {
            hosts: scenario.hosts,
            calls: vec![0; (scenario.end / SECOND) as usize + 60],
            throttled: 0,
            cold_calls: 0,
            all_served: 0,
            hosts_without: 0,
            longest_without: 0,
            longest_expired: 0,
        };
        let sts = scenario.regions.iter().map(|region| Sts::new(region, scenario.quota)).collect();
        Simulation { scenario, policy, random, hosts, sts, next, outcome }
    }

    /// Asks STS as the host does at `now`. Gives the time of the host's next attempt.
    fn attempt(&mut self, host: usize, now: u64) -> u64 {
        let mut time = now;
        let mut class = SourceErrorClass::Transient;
        let regions = if self.policy.uses_regions() { self.scenario.regions.len() } else { 1 };
        let order: Vec<usize> =
            self.hosts[host].failed_regions.order(regions, milliseconds(now)).collect();
        for region in order {
            self.count(host, time);
            let known = &mut self.hosts[host].failed_regions;
            match self.sts[region].ask(time) {
                Answer::Set => {
                    *known = known.without(region);
                    return self.served(host, time + LATENCY);
                }
                Answer::Throttled => {
                    self.outcome.throttled += 1;
                    time += LATENCY;
                    *known = known.with(region, milliseconds(time));
                    class = SourceErrorClass::Throttled;
                }
                Answer::None => {
                    time += UNREACHABLE;
                    *known = known.with(region, milliseconds(time));
                }
            }
        }
        let host = &mut self.hosts[host];
        host.failures += 1;
        let left = Duration::from_nanos(host.expires.saturating_sub(time));
        let chance = self.random.chance();
        time + nanos(self.policy.next_attempt(class, host.failures, left, chance))
    }

    fn count(&mut self, host: usize, time: u64) {
        if let Some(calls) = self.outcome.calls.get_mut((time / SECOND) as usize) {
            *calls += 1;
        }
        if self.hosts[host].expires == 0 {
            self.outcome.cold_calls += 1;
        }
    }

    /// A set has arrived. Gives the time of its refresh.
    fn served(&mut self, host: usize, now: u64) -> u64 {
        self.look(host, now);
        if self.hosts[host].expires == 0 {
            self.outcome.all_served = self.outcome.all_served.max(now);
        }
        let ahead = self.hosts[host].ahead;
        let by_wall = LIFE.saturating_add_signed(-ahead);
        // `Date` has whole seconds, and counts as old as the request.
        let by_server = LIFE + now % SECOND - LATENCY;
        let left = [by_wall, by_server].map(Duration::from_nanos);
        let life = life_left(left[0], Some(left[1]));
        let longer = nanos(life).saturating_sub(LIFE);
        self.outcome.longest_expired = self.outcome.longest_expired.max(longer);
        let set = &mut self.hosts[host];
        (set.expires, set.failures) = (now + nanos(life), 0);
        now + nanos(self.policy.refresh_after(life, self.random.chance()))
    }

    /// Notes whether the host's set had expired at `now`.
    fn look(&mut self, host: usize, now: u64) {
        let host = &mut self.hosts[host];
        if host.expires == 0 || host.expires >= now {
            return;
        }
        self.outcome.hosts_without += usize::from(!host.had_none);
        host.had_none = true;
        self.outcome.longest_without = self.outcome.longest_without.max(now - host.expires);
    }
}

fn milliseconds(time: u64) -> u64 {
    time / 1_000_000
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}
