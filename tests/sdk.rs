//! Clients of the SDK, beside a service that rejects what they sign with.

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::Region;
use aws_sdk_s3::{Client, config::Builder, presigning::PresigningConfig};
use shmcreds::{Provider, SharedSession, testing::ManualClock};
use support::{instant, instant_set, name};

/// A service on the loopback: rejects the keys for which `rejects` says so, and keeps all it saw.
struct Service {
    url: String,
    keys: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start(rejects: impl Fn(&[String], &str) -> bool + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&keys);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let head: Vec<String> = BufReader::new(&stream)
                    .lines()
                    .map(Result::unwrap)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let credential = head.iter().find_map(|line| line.split_once("Credential="));
                let key = credential.unwrap().1.split('/').next().unwrap().to_owned();
                let mut seen = seen.lock().unwrap();
                let (status, body) = if rejects(&seen, &key) {
                    ("400 Bad Request", "<Error><Code>ExpiredToken</Code></Error>")
                } else {
                    ("200 OK", "content")
                };
                seen.push(key);
                drop(seen);
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}");
                write!(stream, "{head}\r\n\r\n{body}").unwrap();
            }
        });
        Service { url, keys }
    }

    async fn client(&self, session: &SharedSession) -> Client {
        let config = Builder::from(&session.sdk_config().await)
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.url)
            .force_path_style(true);
        Client::from_conf(config.build())
    }

    fn keys(&self) -> Vec<String> {
        self.keys.lock().unwrap().clone()
    }
}

fn session(what: &str) -> (SharedSession, ManualClock) {
    let clock = ManualClock::new().unwrap();
    let session = SharedSession::builder(name(what)).source(instant()).clock(&clock);
    (session.create().unwrap(), clock)
}

#[tokio::test]
async fn a_rejected_key_is_replaced_by_the_sdks_own_retry() {
    let (session, clock) = session("retry");
    let service = Service::start(|seen, key| seen.first().is_none_or(|first| first == key));
    let client = service.client(&session).await;
    let rejected = session.credentials().unwrap().access_key_id().to_owned();
    clock.advance(Duration::from_secs(60));
    let answer = client.get_object().bucket("bucket").key("key").send().await.unwrap();
    assert_eq!(answer.body.collect().await.unwrap().into_bytes(), "content");
    let current = session.credentials().unwrap().access_key_id().to_owned();
    assert_eq!(service.keys(), [rejected, current]);
    let status = session.status().unwrap();
    assert_eq!((status.source_calls(), status.invalidations()), (2, 1));
}

#[tokio::test]
async fn a_set_that_is_rejected_at_once_is_not_tried_again() {
    let (session, _clock) = session("at-once");
    let service = Service::start(|_, _| true);
    let client = service.client(&session).await;
    let error = client.get_object().bucket("bucket").key("key").send().await.unwrap_err();
    let error = error.into_service_error();
    assert_eq!(error.meta().code(), Some("ExpiredToken"));
    assert_eq!((service.keys().len(), session.status().unwrap().source_calls()), (1, 1));
}

#[tokio::test]
async fn a_presigned_url_is_signed_with_a_set_that_lasts() {
    const MINUTE: Duration = Duration::from_secs(60);
    let service = Service::start(|_, _| false);
    let clock = ManualClock::new().unwrap();
    let wall = clock.clone();
    let source = Provider::new("hour", move || {
        let mut set = instant_set();
        *set.expiry_mut() = Some(wall.wall() + 60 * MINUTE);
        async { set }
    });
    let builder = SharedSession::builder(name("presigned")).source(source).clock(&clock);
    let session = builder.create().unwrap();
    let client = service.client(&session).await;
    let first = session.credentials().unwrap();
    // The set has 50 minutes left, and then 10 less than the URL needs.
    for (passed, needed, generation) in [(10, 45, 1), (15, 45, 2), (0, 45, 2)] {
        clock.advance(passed * MINUTE);
        let set = session.credentials_valid_for_async(needed * MINUTE).await.unwrap();
        assert!(set.expires_in() >= needed * MINUTE, "{set:?}");
        let presigning = PresigningConfig::expires_in(needed * MINUTE).unwrap();
        let url = client.get_object().bucket("b").key("k").presigned(presigning).await.unwrap();
        let signed_by = format!("X-Amz-Credential={}%2F", set.credentials().access_key_id());
        assert!(url.uri().contains(&signed_by), "{}", url.uri());
        assert_eq!(set.generation(), generation);
    }
    assert_ne!(session.credentials().unwrap().access_key_id(), first.access_key_id());
}
