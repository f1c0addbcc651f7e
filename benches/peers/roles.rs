//! Pools of roles, beside sessions, and beside maps in the process that have the same key: moka and DashMap.
//!
//! `SHMCREDS_ROLES` says how many roles there are (10,000 by default), and `SHMCREDS_ROLES_WORKERS` how many processes ask
//! for all of them at once (64 by default). With `SHMCREDS_ROLES_MISSES=1` only the cold misses are measured.

#[path = "../support/mod.rs"]
mod support;

use std::{
    env,
    hint::black_box,
    os::unix::fs::MetadataExt,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_credential_types::Credentials;
use dashmap::DashMap;
use nix::libc;
use shmcreds::{
    AssumeRole, Fingerprint, FingerprintEncoder, Provider, RoleSession, SharedRoles,
    SharedRolesBuilder, SharedSession, Source,
    testing::{Fault, LocalSts, ManualClock, Settings, Times},
};
use support::{Helper, Table, cpu, median, per_call, private_kib, quantile, words};

/// Blocks of a comparison. Its two sides are measured in turn.
const BLOCKS: usize = 401;

fn number(variable: &str, default: usize) -> usize {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    // SAFETY: the process has one thread.
    unsafe {
        env::set_var("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE");
        env::set_var("AWS_SECRET_ACCESS_KEY", "secret");
    }
    let mut table = Table::default();
    if env::var_os("SHMCREDS_ROLES_MISSES").is_none() {
        failing(&mut table);
    }
    let sts = LocalSts::fork().expect("an STS");
    sts.configure(Settings::new().token_bytes(support::TOKEN)).expect("an answer");
    let bench = Bench { sts, roles: number("SHMCREDS_ROLES", 10_000) };
    if env::var_os("SHMCREDS_ROLES_MISSES").is_some() {
        all_misses(&mut table, &bench);
        return table.print();
    }
    // A process that inherits no pool.
    let mut stranger = Helper::start(|_| bench.attaches());
    let pool = bench.pool("pool").create().expect("a pool");
    cold(&mut table, &bench, &pool);
    stranger.order(0);
    let attach = stranger.answer()[0];
    table.within("attach to a pool with all entries, median", attach, "limit", 150.0, "µs");
    memory(&mut table, &bench, &pool);
    first_reads(&mut table, &bench, &pool);
    kept(&mut table, &bench, &pool);
    by_recipe(&mut table, &bench, &pool);
    all_misses(&mut table, &bench);
    throughput(&mut table, &bench, &pool);
    table.print();
}

struct Bench {
    sts: LocalSts,
    roles: usize,
}

fn base() -> Provider {
    Provider::new("base", || async {
        Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "bench")
    })
}

impl Bench {
    fn name(&self, what: &str) -> String {
        format!("bench-roles-{what}-{}", std::process::id())
    }

    fn pool(&self, what: &str) -> SharedRolesBuilder {
        SharedRoles::builder(self.name(what))
            .base_source(base())
            .allow("arn:aws:iam::*:role/tenant-*")
            .capacity(self.roles)
            .calls_per_second(100_000)
            .wait_timeout(Duration::from_secs(600))
    }

    /// The recipe of a tenant, as a server makes it for each request.
    fn recipe(&self, url: &str, tenant: usize) -> AssumeRole {
        let tenant = black_box(tenant);
        AssumeRole::new(format!("arn:aws:iam::123456789012:role/tenant-{tenant}"))
            .session_name("server")
            .external_id(format!("customer-{tenant}"))
            .tag("tenant", format!("tenant-{tenant}"))
            .region("eu-central-1")
            .endpoint_url(url)
    }

    /// The same inputs, in the encoding of the library, as its SHA-256.
    fn hash(url: &str, tenant: usize) -> Fingerprint {
        let tenant = black_box(tenant);
        let arn = format!("arn:aws:iam::123456789012:role/tenant-{tenant}");
        let (id, tag) = (format!("customer-{tenant}"), format!("tenant-{tenant}"));
        encoded(url, [&arn, &id, &tag])
    }

    /// Microseconds of an attach, in a process that has nothing of the pool.
    fn attaches(&self) -> String {
        let name = format!("bench-roles-pool-{}", nix::unistd::getppid());
        let attach = |_| {
            let start = Instant::now();
            let roles = SharedRoles::builder(&name).base_source(base()).attach().expect("a pool");
            let took = start.elapsed().as_nanos() as f64 / 1e3;
            drop(roles);
            took
        };
        words([median((0..200).map(attach).collect())])
    }
}

fn encoded(url: &str, [arn, id, tag]: [&str; 3]) -> Fingerprint {
    FingerprintEncoder::new("assume-role")
        .text("role-arn", arn)
        .text("session-name", "server")
        .bytes("duration", None)
        .optional("external-id", Some(id))
        .optional("policy", None)
        .set("policy-arns", [""; 0])
        .pairs("tags", [(&b"tenant"[..], tag.as_bytes())])
        .set("transitive-tag-keys", [""; 0])
        .optional("source-identity", None)
        .pairs("provided-contexts", [])
        .optional("region", Some("eu-central-1"))
        .optional("endpoint-url", Some(url))
        .optional("mfa-serial-number", None)
        .bytes("base", Some(&[0; 32]))
        .finish()
}

/// Two pieces of work, measured in turn: nanoseconds of each call, in blocks.
fn in_turn(calls: u32, mut one: impl FnMut(), mut other: impl FnMut()) -> [Vec<Vec<f64>>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..BLOCKS {
        times[0].push(vec![per_call(calls, &mut one)]);
        times[1].push(vec![per_call(calls, &mut other)]);
    }
    times
}

/// One role that always fails, asked for by many processes during a minute that passes quickly.
fn failing(table: &mut Table) {
    const MINUTE: u64 = 60;
    let bench = Bench { sts: LocalSts::fork().expect("an STS"), roles: 10 };
    let (clock, workers) =
        (ManualClock::new().expect("a clock"), number("SHMCREDS_ROLES_WORKERS", 64));
    let pool = bench.pool("failing").clock(&clock).create().expect("a pool");
    bench.sts.inject(Fault::AccessDenied, Times::UntilCleared).expect("an answer");
    let (url, begin) = (bench.sts.url(), clock.clone());
    let start = Instant::now();
    // Each asks once for each order; an order is a second that has passed.
    let ask = |_| {
        let role = pool.role(bench.recipe(&url, 1)).expect("a role");
        words([f64::from(u8::from(role.credentials().is_err()))])
    };
    let mut helpers: Vec<Helper> = (0..workers).map(|_| Helper::start(ask)).collect();
    let mut errors = 0.0;
    for second in 0..=MINUTE {
        helpers.iter_mut().for_each(|helper| helper.order(second));
        errors += helpers.iter_mut().map(|helper| helper.answer()[0]).sum::<f64>();
        begin.advance(Duration::from_secs(1));
    }
    let calls = bench.sts.count("AssumeRole").expect("a count") as f64;
    let what = format!(
        "calls for a failing role, asked for {errors:.0} times by {workers} processes in 60 s"
    );
    // After 0, 5, 15 and 35 seconds.
    table.row(&what, calls, "schedule", 4.0, "");
    eprintln!("failing: {:?}", start.elapsed());
}

/// All processes ask for all roles at once.
fn cold(table: &mut Table, bench: &Bench, pool: &SharedRoles) {
    let (workers, url) = (number("SHMCREDS_ROLES_WORKERS", 64), bench.sts.url());
    let start = Instant::now();
    let ask = |worker: u64| {
        let mut failed = 0;
        for step in 0..bench.roles {
            // Each begins elsewhere.
            let tenant = (step + worker as usize * bench.roles / workers) % bench.roles;
            let set = pool.role(bench.recipe(&url, tenant)).and_then(|role| role.credentials());
            if let Err(error) = set {
                eprintln!("worker {worker}, tenant {tenant}: {error}");
                failed += 1;
            }
        }
        words([f64::from(failed)])
    };
    let mut helpers: Vec<Helper> = (0..workers).map(|_| Helper::start(ask)).collect();
    helpers.iter_mut().enumerate().for_each(|(worker, helper)| helper.order(worker as u64));
    let failed: f64 = helpers.iter_mut().map(|helper| helper.answer()[0]).sum();
    let calls = bench.sts.count("AssumeRole").expect("a count");
    let what = format!("{workers} processes ask for {} roles, cold", bench.roles);
    table.row(&format!("{what}: calls"), calls as f64, "roles", bench.roles as f64, "");
    table.row(&format!("{what}: failed reads"), failed, "limit", 0.0, "");
    table.note(&format!("{what}: time"), start.elapsed().as_secs_f64(), "s");
    bench.sts.clear_calls().expect("an answer");
}

/// What the program has taken from its allocator and not given back, in bytes.
fn heap() -> f64 {
    // SAFETY: it reads the allocator's statistics.
    unsafe { libc::mallinfo2() }.uordblks as f64
}

fn memory(table: &mut Table, bench: &Bench, pool: &SharedRoles) {
    let path = format!("/dev/shm/shmcreds-{}-{}", nix::unistd::geteuid(), pool.name());
    let bytes = |path: &str| std::fs::metadata(path).map_or(0, |file| file.blocks() * 512);
    let shared = (bytes(&path) + bytes(&format!("{path}@lock"))) as f64 / 1e6;
    let what = format!("memory of {} entries, tokens of 1,200 bytes", bench.roles);
    table.row(&format!("{what}: shared"), shared, "limit", 36.0, "MB");
    let url = bench.sts.url();
    let mut worker = Helper::start(|_| {
        let (before, private) = (heap(), private_kib().iter().sum::<f64>());
        let roles: Vec<RoleSession> = (0..bench.roles)
            .map(|tenant| pool.role(bench.recipe(&url, tenant)).expect("a role"))
            .collect();
        let sessions = heap() - before;
        let sets: Vec<Credentials> =
            roles.iter().map(|role| role.credentials().expect("a set")).collect();
        let all = heap() - before;
        let private = private_kib().iter().sum::<f64>() - private;
        drop(sets);
        words([sessions / 1e6, (all - sessions) / 1e6, private / 1e3])
    });
    worker.order(0);
    let told = worker.answer();
    // With the allocator's own, and the worker's list of handles.
    let held = format!("{what}: heap of a worker that holds all, beyond the snapshots");
    table.row(&held, told[0], "limit", 2.0, "MB");
    table.note(&format!("{what}: heap of a worker that holds all, snapshots"), told[1], "MB");
    let beyond = told[2] - told[1];
    table.row(&format!("{what}: private memory beyond the snapshots"), beyond, "limit", 2.0, "MB");
}

/// The first read of an entry in a process, in microseconds: each process reads each entry once.
fn first_reads(table: &mut Table, bench: &Bench, pool: &SharedRoles) {
    let (url, count) = (bench.sts.url(), bench.roles.min(1000));
    let read = |round: u64| {
        let roles = SharedRoles::attach(pool.name()).expect("a pool");
        let (mut found, mut read) = (Vec::new(), Vec::new());
        for step in 0..count {
            let tenant = (step * 7919 + round as usize) % bench.roles;
            let recipe = bench.recipe(&url, tenant);
            let start = Instant::now();
            let role = roles.role(recipe).expect("a role");
            found.push(start.elapsed().as_nanos() as f64 / 1e3);
            let start = Instant::now();
            drop(black_box(role.credentials().expect("a set")));
            read.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
        words([median(found), median(read)])
    };
    let told: Vec<Vec<f64>> = (0..20)
        .map(|round| {
            let mut helper = Helper::start(read);
            helper.order(round);
            helper.answer()
        })
        .collect();
    let of = |column: usize| median(told.iter().map(|numbers| numbers[column]).collect());
    table.within("first read of an entry in a process, median", of(1), "limit", 2.5, "µs");
    table.note("the first role() of a recipe in a process, median", of(0), "µs");
}

fn kept(table: &mut Table, bench: &Bench, pool: &SharedRoles) {
    let role = pool.role(bench.recipe(&bench.sts.url(), 1)).expect("a role");
    let session = SharedSession::builder(bench.name("session"))
        .source(bench.recipe(&bench.sts.url(), 1).base_source(base()))
        .create()
        .expect("a session");
    let [measured, control] = in_turn(
        5_000,
        || drop(black_box(role.credentials())),
        || drop(black_box(session.credentials())),
    );
    let what = "credentials() of a RoleSession that is kept";
    table.compare(what, (&measured, "SharedSession", &control), 0.5, 1.1, "ns");
}

/// A recipe for each read: the pool, beside maps of this process with the same key.
fn by_recipe(table: &mut Table, bench: &Bench, pool: &SharedRoles) {
    // A block is shorter than a time slice of the kernel: on a busy machine the median is one without a switch.
    const CALLS: u32 = 100;
    let url = bench.sts.url();
    let count = bench.roles.min(1000);
    let sets: Vec<(Fingerprint, Arc<Credentials>)> = (0..count)
        .map(|tenant| {
            let role = pool.role(bench.recipe(&url, tenant)).expect("a role");
            (Bench::hash(&url, tenant), Arc::new(role.credentials().expect("a set")))
        })
        .collect();
    let moka: moka::sync::Cache<Fingerprint, Arc<Credentials>> =
        moka::sync::Cache::new(2 * bench.roles as u64);
    let map: DashMap<Fingerprint, Arc<Credentials>> = DashMap::new();
    for (key, set) in &sets {
        moka.insert(*key, Arc::clone(set));
        map.insert(*key, Arc::clone(set));
    }
    let next = |at: &mut usize| {
        *at = (*at + 7) % count;
        *at
    };
    let pooled = |at: &mut usize| {
        let role = pool.role(bench.recipe(&url, next(at))).expect("a role");
        drop(black_box(role.credentials().expect("a set")));
    };
    let mut at = [0; 8];
    let [a, b, c, d, e, f, g, h] = &mut at;
    let what = "role(recipe) and a read";
    let hash = || drop(black_box((bench.recipe(&url, next(b)), Bench::hash(&url, *b))));
    let [measured, control] = in_turn(CALLS, || pooled(a), hash);
    let beside = "the recipe and the SHA-256 of its encoding";
    table.compare(what, (&measured, beside, &control), 0.5, 1.3, "ns");
    let (arn, id) = ("arn:aws:iam::123456789012:role/tenant-1234", "customer-1234");
    let only = || {
        black_box(encoded(&url, [arn, id, "tenant-1234"]));
    };
    let [measured, control] = in_turn(CALLS, || pooled(c), only);
    table.compare(what, (&measured, "the SHA-256 alone", &control), 0.5, 1.3, "ns");
    let get = || {
        let recipe = bench.recipe(&url, next(e));
        drop(black_box((moka.get(&Bench::hash(&url, *e)).expect("a set"), recipe)));
    };
    let [measured, control] = in_turn(CALLS, || pooled(d), get);
    let beside = "moka: the recipe, its SHA-256, and get";
    table.compare(what, (&measured, beside, &control), 0.5, 1.0, "ns");
    let get = || {
        let recipe = bench.recipe(&url, next(g));
        let set = map.get(&Bench::hash(&url, *g)).map(|set| Arc::clone(&set));
        drop(black_box((set.expect("a set"), recipe)));
    };
    let [measured, control] = in_turn(CALLS, || pooled(f), get);
    let beside = "DashMap: the recipe, its SHA-256, and get";
    table.compare(what, (&measured, beside, &control), 0.5, 1.0, "ns");
    let recipe = per_call(CALLS * 100, || drop(black_box(bench.recipe(&url, next(h)))));
    table.note("a recipe alone", recipe, "ns");
}

fn all_misses(table: &mut Table, bench: &Bench) {
    misses(table, bench, "the default chain", &Provider::default_chain());
    misses(table, bench, "a closure", &base());
}

/// A role that nobody has asked for, beside the same call of the source without a pool. A source that is a closure of the
/// program is asked on a thread of its own.
fn misses(table: &mut Table, bench: &Bench, what: &str, base: &Provider) {
    let (rounds, url) = (bench.roles.min(1000), bench.sts.url());
    let name = format!("misses-{}", what.len());
    let pool = bench.pool(&name).base_source(base.clone()).create().expect("a pool");
    let base: Arc<dyn Source> = Arc::new(base.clone());
    let milli = |start: Instant| start.elapsed().as_nanos() as f64 / 1e3;
    let (mut miss, mut call) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let recipe = bench.recipe(&url, 1_000_000 + round);
        let start = Instant::now();
        let role = pool.role(recipe).expect("a role");
        drop(black_box(role.credentials().expect("a set")));
        miss.push(milli(start));
        let recipe = bench.recipe(&url, 2_000_000 + round).base_source(Arc::clone(&base));
        let start = Instant::now();
        // The runtime is a part of the call: it cannot be kept, because a worker may fork.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let fetched = runtime.expect("a runtime").block_on(recipe.fetch());
        drop(black_box(fetched.map_err(|error| error.to_string()).expect("a set")));
        call.push(milli(start));
    }
    let mut beyond: Vec<f64> = miss.iter().zip(&call).map(|(miss, call)| miss - call).collect();
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut beyond, share));
    let miss_of = format!("a cold miss, base credentials of {what}");
    table.note(&format!("{miss_of}: median"), median(miss.clone()), "µs");
    table.note("the same call without a pool, median", median(call.clone()), "µs");
    table.note(&format!("{miss_of}: beyond the call, median of the pairs"), p50, "µs");
    table.note("the same, p99 of the pairs (with the noise of both)", p99, "µs");
    let beyond = quantile(&mut miss, 0.99) - quantile(&mut call, 0.99);
    let what = format!("{miss_of}: p99 beyond p99 of calls");
    table.within(&what, beyond, "limit", 200.0, "µs");
}

/// Numbers below `count`, the small ones more often: the n-th with a weight of 1/n.
fn zipf(count: usize, seed: u64) -> Vec<u32> {
    let mut sums: Vec<f64> = Vec::with_capacity(count);
    for n in 1..=count {
        sums.push(sums.last().copied().unwrap_or(0.0) + 1.0 / n as f64);
    }
    let (all, mut state) = (sums.last().copied().unwrap_or(1.0), seed | 1);
    let draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let wanted = state as f64 / u64::MAX as f64 * all;
        sums.partition_point(|sum| *sum < wanted).min(count - 1) as u32
    };
    std::iter::repeat_with(draw).take(1 << 16).collect()
}

/// Reads of all entries by some processes at once, beside clones of private sets in the same order: the caches and the
/// scheduler of the machine change both.
fn throughput(table: &mut Table, bench: &Bench, pool: &SharedRoles) {
    // So many that the start and the end of a round do not count.
    const READS: u32 = 1 << 20;
    const ROUNDS: usize = 15;
    let url = bench.sts.url();
    let work = |seed: u64| {
        let roles: Vec<RoleSession> = (0..bench.roles)
            .map(|tenant| pool.role(bench.recipe(&url, tenant)).expect("a role"))
            .collect();
        let own: Vec<Credentials> = (0..bench.roles).map(|_| support::set()).collect();
        let order = zipf(bench.roles, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        roles.iter().for_each(|role| drop(role.credentials()));
        move |is_control: bool| {
            let next = |at: u32| order[at as usize % order.len()] as usize;
            let busy = cpu();
            match is_control {
                true => (0..READS).for_each(|at| drop(black_box(own[next(at)].clone()))),
                false => (0..READS).for_each(|at| drop(black_box(roles[next(at)].credentials()))),
            }
            (cpu() - busy) as f64 / f64::from(READS)
        }
    };
    let mut helpers: Vec<Helper> = (0..4u64)
        .map(|seed| {
            let mut reads = None;
            Helper::start(move |order| {
                words([reads.get_or_insert_with(|| work(seed + 1))(order == 1)])
            })
        })
        .collect();
    // Each makes its lists first.
    helpers.iter_mut().for_each(|helper| helper.order(0));
    helpers.iter_mut().for_each(|helper| drop(helper.answer()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // CPU time and wall time of a read, by whether it is the control, and by the number of processes.
    let mut times: [[[Vec<f64>; 3]; 2]; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (at, count) in [1, 2, 4].into_iter().enumerate() {
            for control in [0, 1] {
                let start = Instant::now();
                helpers[..count].iter_mut().for_each(|helper| helper.order(control as u64));
                let each = helpers[..count].iter_mut().map(|helper| helper.answer()[0]);
                times[0][control][at].push(each.sum::<f64>() / count as f64);
                let reads = f64::from(READS) * count as f64 / count.min(cores) as f64;
                times[1][control][at].push(start.elapsed().as_nanos() as f64 / reads);
            }
        }
    }
    for (kind, of) in [(0, "CPU of a read"), (1, "time of a read on each core")] {
        let [pool, own] = &times[kind];
        for (at, count) in [(1, 2), (2, 4)] {
            let what =
                format!("{} roles, Zipf, {count} processes on {cores} cores: {of}", bench.roles);
            let (many, one) = (support::blocks(&pool[at]), support::blocks(&pool[0]));
            table.compare(&what, (&many, "one process", &one), 0.5, 1.1, "ns");
            let grown = |of: &[Vec<f64>; 3]| -> Vec<Vec<f64>> {
                of[at].iter().zip(&of[0]).map(|(many, one)| vec![many / one]).collect()
            };
            let what = format!("the same, as a multiple of one process's, {count} processes");
            let control = "clones of private sets";
            table.compare(&what, (&grown(pool), control, &grown(own)), 0.5, 1.1, "");
        }
    }
}
