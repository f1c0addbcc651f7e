//! Clients of S3 read one object again and again while the session's sets come and go. A stand-in for S3 refuses each key
//! from its expiry on.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::Credentials;
use object_store::{ObjectStore, ObjectStoreExt, aws::AmazonS3Builder, path::Path};
use opendal::{Operator, services::S3};
use reqsign_core::ProvideCredentialChain;
use shmcreds::{Provider, SharedSession, SourceError, SourceErrorClass, StopHandle};

const LIFE: Duration = Duration::from_secs(3);
/// Three rotations.
const READING: Duration = Duration::from_secs(10);
const READERS: usize = 8;
const OBJECT: &str = "a,b\n1,2\n";

/// What the stand-in for S3 has seen.
#[derive(Default)]
struct Seen {
    keys: Mutex<BTreeSet<String>>,
    last: Mutex<String>,
    late: AtomicUsize,
    tokens_missing: AtomicUsize,
}

/// The milliseconds since 1970.
fn millis(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// A set whose key says when it expires.
fn set(life: Duration) -> Credentials {
    let expiry = SystemTime::now() + life;
    let id = format!("ASIA{}", millis(expiry));
    Credentials::new(id, "s".repeat(40), Some("t".repeat(300)), Some(expiry), "test")
}

/// A session that a thread keeps fresh, as `shmcreds exec` does, and its stand-in for S3.
struct Scene {
    session: SharedSession,
    stop: StopHandle,
    refresher: Option<std::thread::JoinHandle<()>>,
    url: String,
    seen: Arc<Seen>,
}

impl Scene {
    fn new(life: Duration) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("adapter-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let source = Provider::new("test", move || async move { set(life) });
        let session = SharedSession::builder(name).source(source).create().unwrap();
        let (refreshing, stop) = (session.clone(), StopHandle::new());
        let stopped = stop.clone();
        let refresher = std::thread::spawn(move || refreshing.run_refresher(&stopped).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream.unwrap(), &seen));
            }
        });
        Scene { session, stop, refresher: Some(refresher), url, seen }
    }

    /// What has to be true after all have read.
    fn check(&self, reads: usize) {
        let keys = self.seen.keys.lock().unwrap().len();
        let calls = self.session.status().unwrap().source_calls();
        assert_eq!(self.seen.late.load(Ordering::Relaxed), 0, "expired keys have signed");
        assert_eq!(self.seen.tokens_missing.load(Ordering::Relaxed), 0);
        assert!(keys >= 4, "{keys} keys in {reads} reads");
        assert!(keys as u64 <= calls && calls <= keys as u64 + 1, "{keys} keys, {calls} calls");
        assert!(reads > 10 * READERS, "{reads} reads");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.stop();
        self.refresher.take().unwrap().join().unwrap();
    }
}

/// Answers the requests of one connection.
fn serve(mut stream: &TcpStream, seen: &Seen) {
    let mut lines = BufReader::new(stream).lines();
    loop {
        let head: Vec<String> =
            lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        if head.is_empty() {
            return;
        }
        let signed = head.iter().find_map(|line| line.split_once("Credential=")).unwrap().1;
        let key = signed.split('/').next().unwrap().to_owned();
        let expires: u128 = key.strip_prefix("ASIA").unwrap().parse().unwrap();
        let late = millis(SystemTime::now()) >= expires;
        let has_token =
            |line: &String| line.to_lowercase().starts_with("x-amz-security-token: ttt");
        seen.late.fetch_add(usize::from(late), Ordering::Relaxed);
        let missing = !head.iter().any(has_token);
        seen.tokens_missing.fetch_add(usize::from(missing), Ordering::Relaxed);
        seen.last.lock().unwrap().clone_from(&key);
        seen.keys.lock().unwrap().insert(key);
        let (status, body) = match late {
            true => ("400 Bad Request", "<Error><Code>ExpiredToken</Code></Error>"),
            false => ("200 OK", OBJECT),
        };
        let facts = "ETag: \"e\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT";
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\n{facts}\r\nContent-Length: {length}\r\n\r\n{body}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Several tasks read until the time is over. Each read must succeed. Gives their number.
async fn read_on<F: Future<Output = String> + Send>(
    read: impl Fn() -> F + Clone + Send + 'static,
) -> usize {
    let end = Instant::now() + READING;
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            let read = read.clone();
            tokio::spawn(async move {
                let mut reads = 0;
                while Instant::now() < end {
                    assert_eq!(read().await, OBJECT);
                    reads += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                reads
            })
        })
        .collect();
    let mut reads = 0;
    for reader in readers {
        reads += reader.await.unwrap();
    }
    reads
}

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

impl Scene {
    fn operator(&self) -> Operator {
        opendal::install_default();
        let chain = ProvideCredentialChain::new().push(self.session.clone());
        let builder = S3::default().bucket("b").region("eu-west-1").endpoint(&self.url);
        Operator::new(builder.credential_provider_chain(chain)).unwrap()
    }

    /// The key that signed a read, and that of the newest set.
    async fn read(&self, operator: &Operator) -> (String, String) {
        let object = operator.read("x.csv").await.unwrap();
        assert_eq!(object.to_vec(), OBJECT.as_bytes());
        let newest = self.session.credentials().unwrap().access_key_id().to_owned();
        (self.seen.last.lock().unwrap().clone(), newest)
    }
}

/// OpenDAL refuses a set with less than 10 s left. It keeps one that has more than two minutes.
#[tokio::test]
async fn opendal_signs_with_the_newest_set_in_its_last_two_minutes() {
    let scene = Scene::new(Duration::from_secs(110));
    let operator = scene.operator();
    for _ in 0..10 {
        let (signed, newest) = scene.read(&operator).await;
        assert_eq!(signed, newest);
        scene.session.refresh_async().await.unwrap();
    }
    assert_eq!(scene.seen.keys.lock().unwrap().len(), 10);
    assert_eq!(scene.seen.late.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn opendal_keeps_a_set_until_two_minutes_before_its_expiry() {
    let scene = Scene::new(Duration::from_secs(123));
    let operator = scene.operator();
    let (first, newest) = scene.read(&operator).await;
    assert_eq!(first, newest);
    scene.session.refresh_async().await.unwrap();
    let (signed, newest) = scene.read(&operator).await;
    assert!(signed == first && signed != newest, "{signed} of {newest}");
    let end = Instant::now() + Duration::from_secs(60);
    while scene.read(&operator).await.0 == first {
        assert!(Instant::now() < end, "it keeps the set for longer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let expires: u128 = first.strip_prefix("ASIA").unwrap().parse().unwrap();
    let left = expires - millis(SystemTime::now());
    assert!(left > 60_000, "{left} ms");
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
