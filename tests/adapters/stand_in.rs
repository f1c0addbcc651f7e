//! A session that is kept fresh, a stand-in for S3 that refuses each key from its expiry on, and tasks that read from it
//! while the sets come and go.

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
use shmcreds::{Provider, SharedSession, StopHandle};

pub const LIFE: Duration = Duration::from_secs(3);
/// Three rotations.
const READING: Duration = Duration::from_secs(10);
const READERS: usize = 8;
pub const OBJECT: &str = "a,b\n1,2\n";

/// What the stand-in for S3 has seen.
#[derive(Default)]
pub struct Seen {
    pub keys: Mutex<BTreeSet<String>>,
    pub last: Mutex<String>,
    pub late: AtomicUsize,
    tokens_missing: AtomicUsize,
}

/// The milliseconds since 1970.
pub fn millis(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// A set whose key says when it expires.
fn set(life: Duration) -> Credentials {
    let expiry = SystemTime::now() + life;
    let id = format!("ASIA{}", millis(expiry));
    Credentials::new(id, "s".repeat(40), Some("t".repeat(300)), Some(expiry), "test")
}

/// A session that a thread keeps fresh, as `shmcreds exec` does, and its stand-in for S3.
pub struct Scene {
    pub session: SharedSession,
    stop: StopHandle,
    refresher: Option<std::thread::JoinHandle<()>>,
    pub url: String,
    pub seen: Arc<Seen>,
}

impl Scene {
    pub fn new(life: Duration) -> Self {
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
    pub fn check(&self, reads: usize) {
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
        let answer = match note(&head, seen) {
            true => answer(&head),
            false => {
                with_body("400 Bad Request", "", "<Error><Code>ExpiredToken</Code></Error>", true)
            }
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Notes who signed a request. Whether the key is valid.
fn note(head: &[String], seen: &Seen) -> bool {
    let signed = head.iter().find_map(|line| line.split_once("Credential=")).unwrap().1;
    let key = signed.split('/').next().unwrap().to_owned();
    let expires: u128 = key.strip_prefix("ASIA").unwrap().parse().unwrap();
    let late = millis(SystemTime::now()) >= expires;
    let has_token = |line: &String| line.to_lowercase().starts_with("x-amz-security-token: ttt");
    seen.late.fetch_add(usize::from(late), Ordering::Relaxed);
    let missing = !head.iter().any(has_token);
    seen.tokens_missing.fetch_add(usize::from(missing), Ordering::Relaxed);
    seen.last.lock().unwrap().clone_from(&key);
    seen.keys.lock().unwrap().insert(key);
    !late
}

/// The object, or the range of it that is asked for.
fn answer(head: &[String]) -> String {
    let is_get = !head[0].starts_with("HEAD");
    let range = head
        .iter()
        .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(ToOwned::to_owned));
    let Some((first, last)) = range.as_deref().and_then(|range| range.split_once('-')) else {
        return with_body("200 OK", "", OBJECT, is_get);
    };
    let first: usize = first.parse().unwrap();
    let last = last.parse().map_or(OBJECT.len(), |last: usize| OBJECT.len().min(last + 1));
    let part = format!("Content-Range: bytes {first}-{}/{}\r\n", last - 1, OBJECT.len());
    with_body("206 Partial Content", &part, &OBJECT[first..last], is_get)
}

fn with_body(status: &str, part: &str, body: &str, is_sent: bool) -> String {
    let facts = "ETag: \"e\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT";
    let length = body.len();
    let body = if is_sent { body } else { "" };
    format!("HTTP/1.1 {status}\r\n{facts}\r\n{part}Content-Length: {length}\r\n\r\n{body}")
}

/// Several tasks read until the time is over. Each read must succeed. Gives their number.
pub async fn read_on<F: Future<Output = String> + Send>(
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
