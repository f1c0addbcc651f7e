//! Reading, beside its peers: the SDK's own cache, mmap-sync, a JSON file, and the limits of the
//! machine.

#[path = "../support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    path::PathBuf,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_smithy_async::{rt::sleep::TokioSleep, time::SystemTimeSource};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::client::{
    identity::{ResolveCachedIdentity, SharedIdentityCache, SharedIdentityResolver},
    runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
};
use aws_smithy_types::config_bag::ConfigBag;
use bytecheck::CheckBytes;
use criterion::Criterion;
use mmap_sync::synchronizer::Synchronizer;
use rkyv::{Archive, Deserialize, Serialize};
use shmcreds::{SharedSession, testing};
use tokio::runtime::Runtime;

use support::{
    Table, blocks, median, per_call, session, set,
    threads::{alone_and_both, await_once, clone_once, coarse, now, repeat},
};

#[derive(Archive, Deserialize, Serialize)]
#[archive_attr(derive(CheckBytes))]
struct Payload {
    key: String,
    secret: String,
    token: String,
    expiry: u64,
}

fn payload() -> Payload {
    let set = set();
    Payload {
        key: set.access_key_id().into(),
        secret: set.secret_access_key().into(),
        token: set.session_token().unwrap_or_default().into(),
        expiry: 1,
    }
}

/// The SDK's lazy cache, asked as its clients ask it on each request.
struct SdkCache {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    config: ConfigBag,
}

impl SdkCache {
    fn new() -> Self {
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(Some(SystemTimeSource::new()))
            .with_sleep_impl(Some(TokioSleep::new()))
            .build()
            .expect("components");
        SdkCache {
            cache: IdentityCache::lazy().build(),
            resolver: SharedIdentityResolver::new(SharedCredentialsProvider::new(set())),
            components,
            config: ConfigBag::base(),
        }
    }

    async fn hit(&self) {
        let resolver = self.resolver.clone();
        let found = self.cache.resolve_cached_identity(resolver, &self.components, &self.config);
        black_box(found.await.expect("an identity"));
    }
}

/// Nanoseconds of `read` for each of `handles`, which have not seen the newest set. `keep` says whether
/// the set before is kept meanwhile; else the SDK wipes it within the read.
fn first_reads<T>(
    session: &SharedSession,
    handles: &[SharedSession],
    keep: bool,
    read: impl Fn(&SharedSession) -> T,
) -> f64 {
    let kept = handles.iter().filter(|_| keep).map(|handle| handle.credentials());
    let _kept: Vec<_> = kept.collect();
    session.refresh().expect("a set");
    let start = Instant::now();
    for handle in handles {
        black_box(read(handle));
    }
    start.elapsed().as_nanos() as f64 / handles.len() as f64
}

fn read_it(handle: &SharedSession) -> Credentials {
    handle.credentials().expect("a set")
}

fn decode_it(handle: &SharedSession) -> Option<usize> {
    testing::decode_newest(handle).expect("a set")
}

/// Nanoseconds of making the SDK's object of fields of that size, over and over.
fn construct() -> f64 {
    const COUNT: usize = 64;
    let (secret, token) = ("s".repeat(40), "t".repeat(support::TOKEN));
    let mut made = Vec::with_capacity(COUNT);
    let start = Instant::now();
    for _ in 0..COUNT {
        let token = Some(black_box(token.as_str()).to_owned());
        let key = "ASIAIOSFODNN7EXAMPLE";
        made.push(Credentials::new(key, secret.as_str(), token, Some(UNIX_EPOCH), "bench"));
    }
    start.elapsed().as_nanos() as f64 / COUNT as f64
}

fn handles(session: &SharedSession) -> Vec<SharedSession> {
    (0..64).map(|_| SharedSession::attach(session.name()).expect("attached")).collect()
}

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let payload = payload();
        let json = serde_json::json!({
            "AccessKeyId": payload.key, "SecretAccessKey": payload.secret,
            "SessionToken": payload.token, "Expiration": "2030-01-01T00:00:00Z",
        });
        std::fs::write(directory.path().join("set.json"), json.to_string()).expect("a file");
        Files { directory }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn read_json(&self) {
        let text = std::fs::read(self.path("set.json")).expect("a file");
        black_box(serde_json::from_slice::<serde_json::Value>(&text).expect("JSON"));
    }

    fn mmap_sync(&self) -> Synchronizer {
        let path = self.path("mmap");
        let mut synchronizer = Synchronizer::new(path.as_os_str());
        synchronizer.write(&payload(), Duration::ZERO).expect("written");
        synchronizer
    }
}

fn read_mmap_sync(synchronizer: &mut Synchronizer) {
    // SAFETY: the files are ours, and hold what `write` put there.
    let read = unsafe { synchronizer.read::<Payload>(false) }.expect("read");
    black_box(read.token.len());
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
    let session = session("read", Duration::ZERO);
    session.credentials().expect("a set");
    table(&session, &runtime);
    let mut criterion =
        Criterion::default().measurement_time(Duration::from_secs(1)).configure_from_args();
    groups(&mut criterion, &session, &runtime);
    criterion.final_summary();
}

fn groups(criterion: &mut Criterion, session: &SharedSession, runtime: &Runtime) {
    let (files, sdk) = (Files::new(), SdkCache::new());
    let mut group = criterion.benchmark_group("read");
    group.sample_size(20).warm_up_time(Duration::from_millis(200));
    group.bench_function("clock_gettime", |b| b.iter(SystemTime::now));
    group.bench_function("credentials", |b| b.iter(|| session.credentials()));
    let mut reader = session.reader();
    group.bench_function("reader", |b| {
        b.iter(|| reader.credentials().map(|set| black_box(set).expiry()))
    });
    group.bench_function("provide_credentials", |b| {
        b.to_async(runtime).iter(|| session.provide_credentials());
    });
    group.bench_function("sdk lazy identity cache", |b| b.to_async(runtime).iter(|| sdk.hit()));
    let mut synchronizer = files.mmap_sync();
    group.bench_function("mmap-sync", |b| b.iter(|| read_mmap_sync(&mut synchronizer)));
    group.bench_function("JSON file", |b| b.iter(|| files.read_json()));
    let handles = handles(session);
    group.bench_function("first read of a generation", |b| {
        b.iter_custom(|reads| {
            let rounds = reads.div_ceil(handles.len() as u64);
            let total: f64 =
                (0..rounds).map(|_| first_reads(session, &handles, true, read_it)).sum();
            Duration::from_nanos((total / rounds as f64 * reads as f64) as u64)
        });
    });
    group.finish();
}

/// All in turn, many times over, so that what disturbs one disturbs all.
fn table(session: &SharedSession, runtime: &Runtime) {
    const CALLS: u32 = 5_000;
    const ROUNDS: usize = 101;
    let (files, sdk, handles) = (Files::new(), SdkCache::new(), handles(session));
    let mut synchronizer = files.mmap_sync();
    let mut reader = session.reader();
    let (own, word) = (set(), AtomicU64::new(1));
    let (source, mut target) = ([7u8; support::TOKEN], [0u8; support::TOKEN]);
    let mut samples: [Vec<f64>; 15] = Default::default();
    for _ in 0..ROUNDS {
        let round = [
            per_call(CALLS, || {
                black_box(SystemTime::now());
            }),
            per_call(CALLS, || clone_once(&own)),
            per_call(CALLS, || {
                let set = session.credentials();
                black_box(&set);
            }),
            per_call(CALLS, || {
                black_box((coarse(), black_box(&word).load(Ordering::Relaxed)));
            }),
            per_call(CALLS, || {
                black_box(reader.credentials().map(|set| set as *const _).ok());
            }),
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..CALLS {
                    let set = session.provide_credentials().await;
                    black_box(&set);
                }
                start.elapsed().as_nanos() as f64 / f64::from(CALLS)
            }),
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..CALLS {
                    await_once(&own).await;
                }
                start.elapsed().as_nanos() as f64 / f64::from(CALLS)
            }),
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..CALLS {
                    sdk.hit().await;
                }
                start.elapsed().as_nanos() as f64 / f64::from(CALLS)
            }),
            first_reads(session, &handles, true, decode_it),
            first_reads(session, &handles, true, read_it),
            first_reads(session, &handles, false, read_it),
            construct(),
            per_call(CALLS, || {
                target.copy_from_slice(black_box(&source));
                black_box(&target);
            }),
            per_call(CALLS, || read_mmap_sync(&mut synchronizer)),
            per_call(CALLS / 20, || files.read_json()),
        ];
        samples.iter_mut().zip(round).for_each(|(samples, sample)| samples.push(sample));
    }
    let [
        clock,
        owned,
        credentials,
        looked,
        lent,
        provided,
        fixed,
        cached,
        decoded,
        first,
        wiping,
        constructed,
        copied,
        mmap,
        json,
    ] = &samples.map(|samples| blocks(&samples));
    let mut table = Table::default();
    let floor = "the SDK's clone and drop, and the coarse clock";
    let (half, provide) = (0.5, "`provide_credentials().await`");
    table.compare("`credentials()`", beside(credentials, floor, owned), half, 1.1, "ns");
    let clock_name = "`clock_gettime(CLOCK_REALTIME)`";
    table.compare("`credentials()`", beside(credentials, clock_name, clock), half, 1.0, "ns");
    let lazy = "the SDK's lazy identity cache, a hit";
    table.compare("`credentials()`", beside(credentials, lazy, cached), half, 0.125, "ns");
    let look = "the coarse clock and a load";
    table.compare("`reader()`, a borrow", beside(lent, look, looked), half, 1.1, "ns");
    let future = "the SDK's future of a fixed set, and the coarse clock";
    table.compare(provide, beside(provided, future, fixed), half, 1.25, "ns");
    let none = f64::INFINITY;
    table.compare(provide, beside(provided, "`credentials()`", credentials), half, none, "ns");
    // What the type of the future costs: no provider of the SDK can be nearer to its clone.
    table.compare(future, beside(fixed, floor, owned), half, none, "ns");
    table.compare(provide, beside(provided, lazy, cached), half, 0.25, "ns");
    let made = "the SDK's `Credentials::new` of the same fields";
    let what = "a new generation: copy, check, decode";
    table.compare(what, beside(decoded, made, constructed), half, 1.5, "ns");
    let mut note =
        |what: &str, samples: &[Vec<f64>]| table.note(what, median(samples.concat()), "ns");
    note("first read of a generation: that, and the SDK's object made and kept", first);
    note("the same, and the SDK's wiping of the set before", wiping);
    note("memcpy of 1,200 bytes", copied);
    note("mmap-sync, a read", mmap);
    note("JSON file in /dev/shm, read and parsed", json);
    threads(&mut table, session, (&sdk, runtime), &files);
    table.print();
}

/// What is measured, and its control with a name.
fn beside<'a>(
    measured: &'a [Vec<f64>],
    name: &'a str,
    control: &'a [Vec<f64>],
) -> (&'a [Vec<f64>], &'a str, &'a [Vec<f64>]) {
    (measured, name, control)
}

/// A way to read: its name, how many times fewer calls it makes than others, and the calls.
type Way<'a> = (&'a str, u32, &'a (dyn Fn(u32) + Sync));

/// Two threads at once, each way in turn, beside one thread. In CPU time: also what waits for a cache line counts.
fn threads(
    table: &mut Table,
    session: &SharedSession,
    (sdk, runtime): (&SdkCache, &Runtime),
    files: &Files,
) {
    const CALLS: u32 = 2_000;
    const ROUNDS: usize = 101;
    let swapped = ArcSwap::from_pointee(set());
    let locked = RwLock::new(Arc::new(set()));
    let ways: [Way<'_>; 7] = [
        ("`credentials()`", 1, &|calls| {
            repeat(calls, || {
                let set = session.credentials();
                black_box(&set);
            });
        }),
        ("`provide_credentials().await`", 1, &|calls| {
            now(async {
                for _ in 0..calls {
                    let set = session.provide_credentials().await;
                    black_box(&set);
                }
            });
        }),
        ("the SDK's lazy identity cache", 8, &|calls| {
            // Its hits ask for a timer of the runtime.
            let _entered = runtime.enter();
            now(async {
                for _ in 0..calls {
                    sdk.hit().await;
                }
            });
        }),
        ("`arc-swap`, load and clone", 1, &|calls| {
            repeat(calls, || {
                let set = Credentials::clone(&swapped.load());
                black_box(&set);
            });
        }),
        ("`RwLock<Arc<…>>`, read and clone", 1, &|calls| {
            repeat(calls, || {
                let shared = locked.read().expect("no panic").clone();
                let set = Credentials::clone(&shared);
                black_box(&set);
            });
        }),
        ("mmap-sync", 1, &|calls| {
            let mut synchronizer = Synchronizer::new(files.path("mmap").as_os_str());
            repeat(calls, || read_mmap_sync(&mut synchronizer));
        }),
        ("JSON file", 100, &|calls| repeat(calls, || files.read_json())),
    ];
    for (what, fewer, way) in ways {
        let calls = CALLS / fewer;
        let [alone, both] = alone_and_both(ROUNDS, calls, way).map(|samples| blocks(&samples));
        let name = format!("{what}, two threads at once");
        let ours = what.contains("credentials()");
        let limit = if ours { 1.1 } else { f64::INFINITY };
        table.compare(&name, (&both, "one thread alone", &alone), 0.5, limit, "ns");
    }
}
