//! One process, many threads, each with a runtime and an S3 client of its own: one set of credentials.
//!
//! `cargo run --example threads` uploads to a stand-in, with a role of an embedded STS. With
//! `AWS_ENDPOINT_URL_S3` set it uploads there, to the bucket given by
//! `cargo run --example threads -- BUCKET [ROLE_ARN]`.

#[path = "stand_in/s3.rs"]
mod s3;

use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_sdk_s3::{Client, config::Builder};
use shmcreds::{AssumeRole, SharedSession, testing::LocalSts};

const THREADS: usize = 16;
const UPLOADS: usize = 10;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let bucket = arguments.next().unwrap_or_else(|| "example".into());
    let arrived = Arc::new(Mutex::new(s3::Arrived::default()));
    let (source, sts) = source(arguments.next())?;
    let (endpoint, ours) = match std::env::var("AWS_ENDPOINT_URL_S3") {
        Ok(url) => (url, false),
        Err(_) => (s3::start(arrived.clone())?, true),
    };
    println!("{THREADS} threads upload {UPLOADS} objects each to {endpoint}");
    let session = SharedSession::builder("example-threads").source(source).create()?;
    std::thread::scope(|scope| {
        let upload = |thread| upload(&session, &endpoint, &bucket, thread);
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || upload(thread))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a thread panicked"))
    })?;
    let calls = session.status()?.source_calls();
    println!("{} uploads with {calls} call of the source", THREADS * UPLOADS);
    if ours {
        let arrived = arrived.lock().expect("the stand-in panicked");
        println!("S3 saw {} uploads by {} access key", arrived.uploads, arrived.access_keys.len());
        let expected = (THREADS * UPLOADS, 1, 1);
        if (arrived.uploads, arrived.access_keys.len(), calls) != expected {
            return Err("expected every upload, by one key of one call".into());
        }
    }
    drop(sts);
    Ok(())
}

/// The role given, or one of an embedded STS.
fn source(role: Option<String>) -> Outcome<(AssumeRole, Option<LocalSts>)> {
    if let Some(role) = role {
        return Ok((AssumeRole::new(role), None));
    }
    let sts = LocalSts::start()?;
    println!("no role given: asking an embedded STS at {}", sts.url());
    let role = AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .credentials_provider("local user", || async {
            // The embedded STS takes any key for that of a local user.
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "local user")
        });
    Ok((role, Some(sts)))
}

#[tokio::main(flavor = "current_thread")]
async fn upload(
    session: &SharedSession,
    endpoint: &str,
    bucket: &str,
    thread: usize,
) -> Outcome<()> {
    let sdk = session.sdk_config().await;
    let config = Builder::from(&sdk).endpoint_url(endpoint).force_path_style(true);
    let config = match sdk.region() {
        Some(_) => config,
        None => config.region(aws_sdk_s3::config::Region::new("us-east-1")),
    };
    let s3 = Client::from_conf(config.build());
    for upload in 0..UPLOADS {
        let body = format!("thread {thread}, upload {upload}").into_bytes();
        let key = format!("{thread}/{upload}");
        s3.put_object().bucket(bucket).key(key).body(body.into()).send().await?;
    }
    Ok(())
}
