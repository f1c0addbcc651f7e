//! Two versions of the library in one program, with the same loops, in turn: what disturbs one disturbs the other.

#[path = "../../support/mod.rs"]
mod support;

use std::{
    env,
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use aws_credential_types::provider::ProvideCredentials;
use support::{
    Helper, per_call, quantile, ratio, set,
    threads::{alone_and_both, await_once, clone_once, coarse, now, repeat},
    wake::{BareFutex, Pipe, pair_of, publications},
};

/// One version of the library, ready to be measured.
struct Version {
    /// So many calls of each way to read.
    owned: Box<dyn Fn(u32) + Sync>,
    awaited: Box<dyn Fn(u32) + Sync>,
    provided: Box<dyn Fn(u32) + Sync>,
    lent: Box<dyn FnMut(u32)>,
    /// Nanoseconds of the first read of a set, by each of many handles.
    first: Box<dyn Fn() -> f64>,
}

/// Of two versions, the sessions have the same source.
macro_rules! session {
    ($library:ident, $latency:expr) => {{
        let source = $library::Provider::new("compare", move || async move {
            if !Duration::is_zero(&$latency) {
                tokio::time::sleep($latency).await;
            }
            set()
        });
        let name = format!(
            "compare-{}-{}-{}",
            stringify!($library),
            std::process::id(),
            $latency.as_millis()
        );
        $library::SharedSession::builder(name).source(source).create().expect("a session")
    }};
}

macro_rules! version {
    ($library:ident) => {{
        let session = session!($library, Duration::ZERO);
        session.credentials().expect("a set");
        let provider = session.credentials_provider();
        let mut reader = session.reader();
        let attach = |_| $library::SharedSession::attach(session.name()).expect("attached");
        let handles: Vec<$library::SharedSession> = (0..64).map(attach).collect();
        let (owned, awaited, first) = (session.clone(), session.clone(), session);
        Version {
            owned: Box::new(move |calls| {
                repeat(calls, || {
                    let set = owned.credentials();
                    black_box(&set);
                });
            }),
            awaited: Box::new(move |calls| {
                now(async {
                    for _ in 0..calls {
                        let set = awaited.provide_credentials().await;
                        black_box(&set);
                    }
                });
            }),
            provided: Box::new(move |calls| {
                now(async {
                    for _ in 0..calls {
                        let set = provider.provide_credentials().await;
                        black_box(&set);
                    }
                });
            }),
            lent: Box::new(move |calls| {
                repeat(calls, || {
                    black_box(reader.credentials().map(|set| set as *const _).ok());
                });
            }),
            first: Box::new(move || {
                first.refresh().expect("a set");
                let start = Instant::now();
                for handle in &handles {
                    drop(black_box(handle.credentials()));
                }
                start.elapsed().as_nanos() as f64 / handles.len() as f64
            }),
        }
    }};
}

fn main() {
    println!(
        "\n| what | before | after | floor | after : before [95 %] | before : floor | after : floor |\n|{}",
        " --- |".repeat(7)
    );
    // Processes are forked before anything has threads.
    wakes();
    let mut versions = [version!(before), version!(shmcreds)];
    reads(&mut versions);
    threads(&versions);
}

fn rounds() -> usize {
    let wanted = env::var("SHMCREDS_COMPARE_ROUNDS").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(201)
}

/// Blocks of one row: before, after, floor.
type Row = [Vec<Vec<f64>>; 3];

fn print(what: &str, unit: &str, share: f64, [before, after, floor]: &Row) {
    let told = |blocks: &[Vec<f64>]| quantile(&mut blocks.concat(), share);
    let beside = |measured: &[Vec<f64>], control: &[Vec<f64>]| {
        let (ratio, (low, high)) = ratio(measured, control, share);
        format!("{ratio:.3} [{low:.3}, {high:.3}]")
    };
    println!(
        "| {what} | {:.1} {unit} | {:.1} {unit} | {:.1} {unit} | {} | {} | {} |",
        told(before),
        told(after),
        told(floor),
        beside(after, before),
        beside(before, floor),
        beside(after, floor),
    );
}

/// An answer of the source seen by a sleeper: it is checked, published, and wakes. The floor is a byte in a pipe.
fn wakes() {
    let latency = Duration::from_millis(2);
    let (old, new) = (session!(before, latency), session!(shmcreds, latency));
    let mut pairs: [Vec<Helper>; 2] =
        [pair_of!(before, old, || [0.0; 4]), pair_of!(shmcreds, new, || [0.0; 4])];
    let (mut pipe, mut futex) = (Pipe::new(), BareFutex::new());
    let (mut row, mut bare): (Row, Vec<Vec<f64>>) = Default::default();
    for _ in 0..rounds() / 4 {
        for (pair, blocks) in pairs.iter_mut().zip(&mut row) {
            blocks.push(publications(pair, 30).whole);
        }
        row[2].push(pipe.wakes(30));
        bare.push(futex.wakes(30));
    }
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        print(
            &format!("the source's answer seen by a sleeper, {name}; the floor is a pipe's byte"),
            "µs",
            share,
            &row,
        );
        let beside_futex = [row[0].clone(), row[1].clone(), bare.clone()];
        let what = format!("the same, {name}; the floor is a bare futex");
        print(&what, "µs", share, &beside_futex);
    }
}

/// One thread.
fn reads([before, after]: &mut [Version; 2]) {
    const CALLS: u32 = 4_000;
    let (own, word) = (set(), AtomicU64::new(1));
    let each = |way: &mut dyn FnMut(u32)| {
        let start = Instant::now();
        way(CALLS);
        start.elapsed().as_nanos() as f64 / f64::from(CALLS)
    };
    let mut rows: [Row; 5] = Default::default();
    for _ in 0..rounds() {
        let owned = per_call(CALLS, || clone_once(&own));
        let looked = per_call(CALLS, || {
            black_box((coarse(), black_box(&word).load(Ordering::Relaxed)));
        });
        let fixed = each(&mut |calls| {
            now(async {
                for _ in 0..calls {
                    await_once(&own).await;
                }
            });
        });
        let made = per_call(64, || drop(black_box(set())));
        let told = [
            [
                each(&mut |calls| (before.owned)(calls)),
                each(&mut |calls| (after.owned)(calls)),
                owned,
            ],
            [each(&mut *before.lent), each(&mut *after.lent), looked],
            [
                each(&mut |calls| (before.awaited)(calls)),
                each(&mut |calls| (after.awaited)(calls)),
                fixed,
            ],
            [
                each(&mut |calls| (before.provided)(calls)),
                each(&mut |calls| (after.provided)(calls)),
                fixed,
            ],
            [(before.first)(), (after.first)(), made],
        ];
        for (row, told) in rows.iter_mut().zip(told) {
            row.iter_mut().zip(told).for_each(|(blocks, sample)| blocks.push(vec![sample]));
        }
    }
    let names = [
        "`credentials()`; the floor is the SDK's clone and drop, and the coarse clock",
        "`reader()`; the floor is the coarse clock, and a load",
        "`provide_credentials().await`; the floor is the SDK's future of a fixed set, and the coarse clock",
        "the same of `credentials_provider()`",
        "the first read of a set, and the wiping of the one before; the floor makes such a set",
    ];
    names.iter().zip(&rows).for_each(|(name, row)| print(name, "ns", 0.5, row));
    let [owned, _, awaited, ..] = &rows;
    let name = "`provide_credentials().await`; the floor is `credentials()`, after";
    print(name, "ns", 0.5, &[awaited[0].clone(), awaited[1].clone(), owned[1].clone()]);
}

/// Two threads at once, in CPU time. The floor is the SDK's clone and drop of an object that no other thread has.
fn threads([before, after]: &[Version; 2]) {
    const CALLS: u32 = 2_000;
    let floor = |calls: u32| {
        let own = set();
        repeat(calls, || clone_once(&own));
    };
    type Way<'a> = &'a (dyn Fn(u32) + Sync);
    let rows: [(&str, [Way<'_>; 3]); 2] = [
        ("`credentials()`, two threads at once", [&*before.owned, &*after.owned, &floor]),
        (
            "`provide_credentials().await`, two threads at once",
            [&*before.awaited, &*after.awaited, &floor],
        ),
    ];
    for (name, ways) in rows {
        let mut row: Row = Default::default();
        for _ in 0..rounds().div_ceil(10) {
            for (way, blocks) in ways.iter().zip(&mut row) {
                let [_, both] = alone_and_both(10, CALLS, *way);
                blocks.extend(both.into_iter().map(|sample| vec![sample]));
            }
        }
        print(name, "ns", 0.5, &row);
    }
}
