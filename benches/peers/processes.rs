//! Several processes: readers side by side, beside a writer, asleep, and cold.

#[path = "../support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, sts::AssumeRoleProvider};
use aws_credential_types::{Credentials, provider::ProvideCredentials};
use criterion::{BenchmarkId, Criterion, Throughput};
use shmcreds::{
    AssumeRole, SharedSession,
    testing::{FaultPoint, LocalSts, Settings, time_of, time_points},
};

use support::{
    Helper, Table, blocks, cpu, median, monotonic, private_kib, quantile, session,
    wake::{BareFutex, Pipe, Wakes, pair_of, publications},
    words,
};

/// Reads so many times; tells the nanoseconds.
fn reading(session: &SharedSession) -> Helper {
    let name = session.name().to_owned();
    let mut attached = None;
    Helper::start(move |reads| {
        let session =
            attached.get_or_insert_with(|| SharedSession::attach(&name).expect("attached"));
        let start = Instant::now();
        for _ in 0..reads {
            black_box(session.credentials().expect("a set"));
        }
        words([start.elapsed().as_nanos() as f64])
    })
}

fn together(helpers: &mut [Helper], reads: u64) -> Vec<f64> {
    helpers.iter_mut().for_each(|helper| helper.order(reads));
    helpers.iter_mut().map(|helper| helper.answer()[0] / reads as f64).collect()
}

fn main() {
    let mut table = Table::default();
    cold(&mut table);
    sts_calls(&mut table);
    attach_and_memory(&mut table);
    wake(&mut table);
    beside_a_writer(&mut table);
    let session = session("readers", Duration::ZERO);
    session.credentials().expect("a set");
    let mut readers: Vec<Helper> = (0..4).map(|_| reading(&session)).collect();
    side_by_side(&mut table, &mut readers);
    table.print();
    let mut criterion =
        Criterion::default().measurement_time(Duration::from_secs(1)).configure_from_args();
    throughput(&mut criterion, &mut readers);
    criterion.final_summary();
}

/// Throughput by the number of reading processes.
fn throughput(criterion: &mut Criterion, readers: &mut [Helper]) {
    let mut group = criterion.benchmark_group("reading processes");
    group.sample_size(10).warm_up_time(Duration::from_millis(200));
    for count in [1, 2, 4] {
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter_custom(|reads| {
                let start = Instant::now();
                together(&mut readers[..count], reads);
                start.elapsed()
            });
        });
    }
    group.finish();
}

fn side_by_side(table: &mut Table, readers: &mut [Helper]) {
    const READS: u64 = 200_000;
    let (mut alone, mut both) = (Vec::new(), Vec::new());
    for _ in 0..41 {
        alone.extend(together(&mut readers[..1], READS));
        both.push(together(&mut readers[..2], READS));
    }
    let pair = (&*blocks(&alone), "one process alone", &*both);
    table.compare("a read, two processes at once", pair, 0.5, 1.1, "ns");
}

fn beside_a_writer(table: &mut Table) {
    const READS: u64 = 250_000;
    /// Microseconds.
    const LIMIT: f64 = 100.0;
    let session = session("writer", Duration::ZERO);
    session.credentials().expect("a set");
    let name = session.name().to_owned();
    let mut writer = Helper::start(|_| {
        let session = SharedSession::attach(&name).expect("attached");
        loop {
            session.refresh().expect("a set");
        }
    });
    let mut reader = Helper::start(|reads| {
        let session = SharedSession::attach(&name).expect("attached");
        let before = session.status().expect("a status").generation();
        let own = session.credentials().expect("a set");
        let (mut reading, mut cloning) = (Vec::new(), Vec::new());
        // In turn, so that what the machine does to the one it does to the other.
        for _ in 0..reads {
            reading.push(on_the_cpu(|| drop(black_box(session.credentials().expect("a set")))));
            cloning.push(on_the_cpu(|| drop(black_box(own.clone()))));
        }
        let times = [&reading, &cloning].map(|samples| samples.iter().sum::<f64>() / 1e6);
        let published = session.status().expect("a status").generation() - before;
        let shares = [0.5, 0.999, 1.0].map(|share| quantile(&mut reading, share));
        let slow = |samples: &[f64]| samples.iter().filter(|&&took| took > LIMIT).count() as f64;
        let counts = [slow(&reading), slow(&cloning), published as f64];
        let slowest = quantile(&mut cloning, 1.0);
        words(shares.into_iter().chain([slowest]).chain(counts).chain(times))
    });
    writer.order(0);
    let rounds: Vec<Vec<f64>> = (0..21)
        .map(|_| {
            reader.order(READS);
            reader.answer()
        })
        .collect();
    let told = |column: usize| median(rounds.iter().map(|round| round[column]).collect());
    let sum = |column: usize| rounds.iter().map(|round| round[column]).sum::<f64>();
    // Time on the CPU, the two looks at its clock included: more processes run here than there are
    // cores, and the scheduler's slices are none of the protocol's. Interrupts are in it, and what a
    // host takes for others, which hit whatever runs: also a clone of what is in nobody else's reach.
    table.note("a read beside a writer, p50 on the CPU", told(0), "µs");
    table.note("a read beside a writer, p99.9 on the CPU", told(1), "µs");
    let column = |column: usize| blocks(&rounds.iter().map(|r| r[column]).collect::<Vec<_>>());
    let slowest = format!("slowest of {READS} on the CPU");
    let clone = format!("a clone of a private set in turn, {slowest}");
    let pair = (&*column(2), &*clone, &*column(3));
    table.compare(&format!("a read beside a writer, {slowest}"), pair, 0.5, 1.0, "µs");
    // Per second, because what is looked at for longer is hit more often. And one more: there may be none.
    let rate = |count: usize, seconds: usize| -> Vec<Vec<f64>> {
        rounds.iter().map(|round| vec![round[count] / round[seconds] + 1.0]).collect()
    };
    let pair = (&*rate(4, 7), "clones of a private set, plus 1", &*rate(5, 8));
    table.compare("reads over 100 µs, a second, plus 1", pair, 0.5, 1.0, "");
    table.note("seconds of reads looked at", sum(7), "s");
    table.note("generations published meanwhile", told(6), "");
}

/// Microseconds that this thread spends on the CPU with `work`.
fn on_the_cpu(work: impl FnOnce()) -> f64 {
    let busy = cpu();
    work();
    (cpu() - busy) as f64 / 1e3
}

/// A publication seen by a sleeper, beside a byte in a pipe and a bare futex, and its parts.
fn wake(table: &mut Table) {
    type Part = fn(&Wakes) -> &Vec<f64>;
    let session = session("wake", Duration::from_millis(2));
    time_points();
    let points =
        [FaultPoint::Exchanged, FaultPoint::Announced, FaultPoint::Woken, FaultPoint::Decoded];
    let mut helpers = pair_of!(shmcreds, session, || points
        .map(|point| { time_of(point).map_or(0.0, |time| time.as_nanos() as f64) }));
    let (mut pipe, mut futex) = (Pipe::new(), BareFutex::new());
    // In turn, block by block.
    let (mut bytes, mut futexes, mut wakes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..40 {
        wakes.push(publications(&mut helpers, 30));
        bytes.push(pipe.wakes(30));
        futexes.push(futex.wakes(30));
    }
    let of = |part: Part| wakes.iter().map(|w| part(w).clone()).collect();
    let seen: Vec<Vec<f64>> = of(|wakes| &wakes.seen);
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let what = format!("a publication seen by a sleeper, {name}");
        let byte = format!("a byte in a pipe seen by a sleeper, {name}");
        table.compare(&what, (&*seen, &*byte, &*bytes), share, 2.0, "µs");
        let bare = format!("a bare futex seen by a sleeper, {name}");
        table.compare(&what, (&*seen, &*bare, &*futexes), share, f64::INFINITY, "µs");
    }
    let parts: [(&str, Part); 5] = [
        ("from the exchange to the sleeper's return from the kernel", |wakes| &wakes.woken),
        ("from there to the decoded set", |wakes| &wakes.decoded),
        ("from there to the caller: older copies wiped, and a clone", |wakes| &wakes.returned),
        ("meanwhile, from the exchange to the end of the publisher's wake", |wakes| {
            &wakes.announced
        }),
        ("the source's answer seen by a sleeper", |wakes| &wakes.whole),
    ];
    for (what, part) in parts {
        let mut all = of(part).concat();
        assert!(!all.is_empty(), "one of them slept");
        table.note(&format!("{what}, p50"), quantile(&mut all, 0.5), "µs");
        table.note(&format!("{what}, p99"), quantile(&mut all, 0.99), "µs");
    }
}

fn attach_and_memory(table: &mut Table) {
    let session = session("attach", Duration::ZERO);
    session.credentials().expect("a set");
    let name = session.name().to_owned();
    // Each in a worker of its own: a second handle of a process would share what the first has opened.
    let workers = (0..200).map(|_| {
        let mut worker = Helper::start(|_| {
            let before = private_kib();
            let start = Instant::now();
            let session = SharedSession::attach(&name).expect("attached");
            let took = start.elapsed().as_nanos() as f64 / 1e3;
            session.credentials().expect("a set");
            let after = private_kib();
            words([took, after[0] - before[0], after[1] - before[1]])
        });
        worker.order(0);
        worker.answer()
    });
    let told: Vec<Vec<f64>> = workers.collect();
    let of = |column: usize| told.iter().map(|numbers| numbers[column]).collect();
    table.within("`attach`, the first of a forked worker", median(of(0)), "limit", 100.0, "µs");
    table.row("a worker's own memory", median(of(1)) + median(of(2)), "limit", 100.0, "KiB");
    table.note("of that, pages that it has written", median(of(1)), "KiB");
    table.note("of that, code of the program that no other process runs", median(of(2)), "KiB");
    let path = format!("/dev/shm/shmcreds-{}-{name}", nix::unistd::geteuid());
    let bytes = std::fs::metadata(path).expect("the segment").len();
    table.row("the segment", bytes as f64 / 1024.0, "limit", 64.0, "KiB");
}

/// 64 workers that need credentials at once, beside one that is alone.
fn cold(table: &mut Table) {
    let sts = LocalSts::fork().expect("an STS");
    sts.configure(Settings::new().latency(Duration::from_millis(100))).expect("configured");
    let (mut alone, mut last) = (Vec::new(), Vec::new());
    for round in 0..5 {
        alone.push(last_of(1, &sts, round));
        last.push(last_of(64, &sts, round));
    }
    let (alone, last) = (median(alone), median(last));
    table.note("cold, one worker", alone, "ms");
    table.within("cold, the last of 64 workers", last, "one worker + 20 ms", alone + 20.0, "ms");
}

/// How many STS calls workers make that all need their first credentials: with one session for all, and
/// with a provider of the SDK in each.
fn sts_calls(table: &mut Table) {
    let sts = LocalSts::fork().expect("an STS");
    sts.configure(Settings::new().latency(Duration::from_millis(50))).expect("configured");
    let counted = |work: &dyn Fn()| {
        let before = sts.count("AssumeRole").expect("a count");
        work();
        (sts.count("AssumeRole").expect("a count") - before) as f64
    };
    for count in [1, 2, 4, 8, 16, 32, 64] {
        let shared = counted(&|| {
            last_of(count, &sts, 5);
        });
        let alone = counted(&|| each_alone(count, &sts));
        table.note(&format!("STS calls with a session, {count} workers"), shared, "");
        table.note(&format!("STS calls with the SDK alone, {count} workers"), alone, "");
    }
}

/// Runs `count` workers, each of which gets its first credentials from a provider of its own.
fn each_alone(count: usize, sts: &LocalSts) {
    let mut workers: Vec<Helper> = (0..count)
        .map(|_| {
            let url = sts.url();
            Helper::start(move |_| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let key = runtime.expect("a runtime").block_on(assume_role(&url));
                words([f64::from(u8::from(key.starts_with("ASIA")))])
            })
        })
        .collect();
    workers.iter_mut().for_each(|worker| worker.order(0));
    for worker in &mut workers {
        assert_eq!(worker.answer(), [1.0], "it has credentials of the role");
    }
}

/// The access key that the SDK's own provider gets.
async fn assume_role(url: &str) -> String {
    let base = Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "bench");
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(base)
        .load()
        .await;
    let role = AssumeRoleProvider::builder("arn:aws:iam::123456789012:role/app");
    let provider = role.session_name("bench").configure(&config).build().await;
    provider.provide_credentials().await.expect("a set").access_key_id().to_owned()
}

/// Milliseconds until the last of `count` cold workers has credentials.
fn last_of(count: usize, sts: &LocalSts, round: u32) -> f64 {
    let source = AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .credentials_provider("bench", || async {
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "bench")
        });
    let name = format!("bench-cold-{}-{count}-{round}", std::process::id());
    let session = SharedSession::builder(&name).source(source).create().expect("a session");
    let mut workers: Vec<Helper> = (0..count)
        .map(|_| {
            let mut attached = None;
            let name = &name;
            Helper::start(move |need| {
                let session: &SharedSession =
                    attached.get_or_insert_with(|| SharedSession::attach(name).expect("attached"));
                if need == 1 {
                    session.credentials().expect("a set");
                }
                words([monotonic() as f64])
            })
        })
        .collect();
    // Everyone has attached.
    workers.iter_mut().for_each(|worker| worker.order(0));
    workers.iter_mut().for_each(|worker| drop(worker.answer()));
    let start = monotonic() as f64;
    workers.iter_mut().for_each(|worker| worker.order(1));
    let last = workers.iter_mut().map(|worker| worker.answer()[0]).fold(0.0, f64::max);
    assert_eq!(session.status().expect("a status").source_calls(), 1);
    (last - start) / 1e6
}
