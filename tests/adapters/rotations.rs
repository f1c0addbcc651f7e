//! Clients of S3 read one object again and again while the session's sets come and go. A stand-in for S3 refuses each key
//! from its expiry on.

mod stand_in;

use std::{
    collections::BTreeSet,
    process,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use object_store::{ObjectStore, ObjectStoreExt, aws::AmazonS3Builder, path::Path};
use opendal::{Operator, services::S3};
use reqsign_core::{ProvideCredentialChain, time::Timestamp};
use shmcreds::{Provider, SharedSession, SourceError, SourceErrorClass, testing::ManualClock};
use stand_in::{LIFE, OBJECT, Scene, millis, read_on};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn object_store_signs_with_the_newest_set() {
    let scene = Scene::new(LIFE);
    let store = AmazonS3Builder::new()
        .with_bucket_name("b")
        .with_region("eu-west-1")
        .with_endpoint(&scene.url)
        .with_allow_http(true)
        .with_credentials(Arc::new(scene.session.clone()))
        .build()
        .unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    let reads = read_on(move || {
        let store = Arc::clone(&store);
        async move {
            let object = store.get(&Path::from("x.csv")).await.unwrap();
            String::from_utf8(object.bytes().await.unwrap().to_vec()).unwrap()
        }
    })
    .await;
    scene.check(reads);
}

fn operator(scene: &Scene) -> Operator {
    opendal::install_default();
    let chain = ProvideCredentialChain::new().push(scene.session.clone());
    let builder = S3::default().bucket("b").region("eu-west-1").endpoint(&scene.url);
    Operator::new(builder.credential_provider_chain(chain)).unwrap()
}

/// The key that signed a read, and that of the newest set.
async fn read(scene: &Scene, operator: &Operator) -> (String, String) {
    let object = operator.read("x.csv").await.unwrap();
    assert_eq!(object.to_vec(), OBJECT.as_bytes());
    let newest = scene.session.credentials().unwrap().access_key_id().to_owned();
    (scene.seen.last.lock().unwrap().clone(), newest)
}

/// OpenDAL refuses a set with less than 10 s left. It keeps one that has more than two minutes.
#[tokio::test]
async fn opendal_signs_with_the_newest_set_in_its_last_two_minutes() {
    let scene = Scene::new(Duration::from_secs(110));
    let operator = operator(&scene);
    for _ in 0..10 {
        let (signed, newest) = read(&scene, &operator).await;
        assert_eq!(signed, newest);
        scene.session.refresh_async().await.unwrap();
    }
    assert_eq!(scene.seen.keys.lock().unwrap().len(), 10);
    assert_eq!(scene.seen.late.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn opendal_keeps_a_set_until_two_minutes_before_its_expiry() {
    let scene = Scene::new(Duration::from_secs(123));
    let operator = operator(&scene);
    let (first, newest) = read(&scene, &operator).await;
    assert_eq!(first, newest);
    scene.session.refresh_async().await.unwrap();
    let (signed, newest) = read(&scene, &operator).await;
    assert!(signed == first && signed != newest, "{signed} of {newest}");
    let end = Instant::now() + Duration::from_secs(60);
    while read(&scene, &operator).await.0 == first {
        assert!(Instant::now() < end, "it keeps the set for longer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let expires: u128 = first.strip_prefix("ASIA").unwrap().parse().unwrap();
    let left = expires - millis(SystemTime::now());
    assert!(left > 60_000, "{left} ms");
}

/// reqsign compares the expiry with the wall clock, which somebody may have set since the fetch.
#[tokio::test]
async fn opendal_is_told_the_expiry_by_the_clock_of_now() {
    let clock = ManualClock::new().unwrap();
    let (life, expiry) = (Duration::from_secs(3600), clock.wall() + Duration::from_secs(3600));
    let source = Provider::new("test", move || async move {
        Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(expiry), "test")
    });
    let name = format!("adapter-clock-{}", process::id());
    let session = SharedSession::builder(name).source(source).clock(&clock).create().unwrap();
    let context = reqsign_core::Context::new();
    for step in [0, 86_400, -2 * 86_400] {
        clock.step_wall(step);
        let set = reqsign_core::ProvideCredential::provide_credential(&session, &context).await;
        let told = set.unwrap().unwrap().expires_in.unwrap();
        let right = Timestamp::from_millisecond(millis(clock.wall() + life) as i64).unwrap();
        let apart = told.as_second() - right.as_second();
        assert!(apart.abs() <= 1, "{apart} s apart after a step of {step} s");
    }
}

/// What the default build and the others compile.
#[test]
fn nothing_of_an_adapter_is_compiled_without_its_feature() {
    let crates = |features: &str| {
        let mut command = std::process::Command::new(env!("CARGO"));
        command.args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"]);
        command.args(["--package", "shmcreds", "--format", "{lib}", "--features", features]);
        let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let names = String::from_utf8(output.stdout).unwrap();
        names.lines().map(ToOwned::to_owned).collect::<BTreeSet<String>>()
    };
    let default = crates("");
    assert!(default.contains("aws_sdk_sts"), "{default:?}");
    for (feature, brings) in [
        ("object-store", "object_store"),
        ("object-store-0-13", "object_store"),
        ("opendal", "reqsign_core"),
        ("endpoint", "humantime"),
    ] {
        assert!(crates(feature).contains(brings), "{feature}");
        assert!(!default.contains(brings), "{brings} without the feature {feature}");
    }
    for other in ["opendal", "reqsign_aws_core", "reqwest", "clap", "redis", "datafusion"] {
        assert!(!default.contains(other), "{other}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_source_is_an_error() {
    let refuse = || async {
        Err::<Credentials, _>(SourceError::new(SourceErrorClass::Terminal, "not authorized"))
    };
    let name = format!("adapter-refused-{}", process::id());
    let source = Provider::from_fn("refused", refuse);
    let session = SharedSession::builder(name).source(source).create().unwrap();
    let store = AmazonS3Builder::new()
        .with_bucket_name("b")
        .with_region("eu-west-1")
        .with_credentials(Arc::new(session.clone()))
        .build()
        .unwrap();
    let error = store.get(&Path::from("x.csv")).await.unwrap_err();
    let told = format!("{error:?}");
    assert!(told.contains("not authorized"), "{told}");
    let context = reqsign_core::Context::new();
    let asked = reqsign_core::ProvideCredential::provide_credential(&session, &context).await;
    let told = format!("{:?}", asked.unwrap_err());
    assert!(told.contains("not authorized"), "{told}");
    assert_eq!(session.status().unwrap().source_calls(), 1, "the back-off holds");
}
