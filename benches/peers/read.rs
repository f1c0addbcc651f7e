//! Reading, beside its peers: the SDK's own cache, mmap-sync, a JSON file, and the limits of the
//! machine.

#[path = "../support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

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

use support::{Table, median, per_call, session, set};

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

    fn read_json(&self) {
        let text = std::fs::read(self.directory.path().join("set.json")).expect("a file");
        black_box(serde_json::from_slice::<serde_json::Value>(&text).expect("JSON"));
    }

    fn mmap_sync(&self) -> Synchronizer {
        let path = self.directory.path().join("mmap");
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
    const CALLS: u32 = 20_000;
    const ROUNDS: usize = 41;
    let (files, sdk, handles) = (Files::new(), SdkCache::new(), handles(session));
    let mut synchronizer = files.mmap_sync();
    let mut reader = session.reader();
    let (source, mut target) = ([7u8; support::TOKEN], [0u8; support::TOKEN]);
    let mut samples: [Vec<f64>; 12] = Default::default();
    for _ in 0..ROUNDS {
        let round = [
            per_call(CALLS, || {
                black_box(SystemTime::now());
            }),
            per_call(CALLS, || {
                let _ = black_box(session.credentials());
            }),
            per_call(CALLS, || {
                black_box(reader.credentials().map(|set| set as *const _).ok());
            }),
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..CALLS {
                    black_box(session.provide_credentials().await.expect("a set"));
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
        credentials,
        lent,
        provided,
        cached,
        decoded,
        first,
        wiping,
        constructed,
        copied,
        mmap,
        json,
    ] = samples.map(median);
    let mut table = Table::default();
    table.row("`credentials()`", credentials, "`clock_gettime(CLOCK_REALTIME)`", clock, "ns");
    table.row("`credentials()`", credentials, "1/8 of the SDK's lazy cache", cached / 8.0, "ns");
    table.row("`reader()`, a borrow", lent, "1/4 of `clock_gettime`", clock / 4.0, "ns");
    table.row(
        "`provide_credentials().await`",
        provided,
        "1/4 of the SDK's lazy cache",
        cached / 4.0,
        "ns",
    );
    let what = "a new generation: copy, check, decode";
    table.row(what, decoded, "limit", 250.0, "ns");
    table.note("first read of a generation: that, and the SDK's object made and kept", first, "ns");
    table.note("the same, and the SDK's wiping of the set before", wiping, "ns");
    table.note("the SDK's `Credentials::new` of the same fields", constructed, "ns");
    table.note("the SDK's lazy identity cache, a hit", cached, "ns");
    table.note("memcpy of 1,200 bytes", copied, "ns");
    table.note("mmap-sync, a read", mmap, "ns");
    table.note("JSON file in /dev/shm, read and parsed", json, "ns");
    table.print();
}
