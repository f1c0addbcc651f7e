//! Presigns a URL that works for all of its time: a URL dies with the set that signed it.
//!
//! `cargo run --example presign` needs no AWS account: it starts an embedded STS. It asks for URLs of several lengths, and
//! says how long each is valid.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::{Client, config::Region, presigning::PresigningConfig};
use shmcreds::{AssumeRole, ErrorKind, SharedSession, testing::LocalSts};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sts = LocalSts::start()?;
    let role = AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .credentials_provider("base", || async {
            Credentials::new("AKIAIOSFODNN7EXAMPLE", "secret", None, None, "base")
        });
    let session = SharedSession::builder("example-presign").source(role).create()?;
    let config = session.sdk_config().await.into_builder().region(Region::new("us-east-1")).build();
    let s3 = Client::new(&config);
    for minutes in [15, 50, 12 * 60] {
        match presigned(&session, &s3, minutes * MINUTE).await {
            Ok((url, valid)) => {
                println!("{minutes} min: valid for {} min: {url}", valid.as_secs() / 60)
            }
            Err(error) => println!("{minutes} min: {error}"),
        }
    }
    Ok(())
}

/// A URL, and how long it is valid.
async fn presigned(
    session: &SharedSession,
    s3: &Client,
    duration: Duration,
) -> Result<(String, Duration), Box<dyn std::error::Error>> {
    // The client takes the newest set: this one, or a later one that lasts longer.
    let set = match session.credentials_valid_for_async(duration).await {
        Err(error) if error.kind() == ErrorKind::TooShort => {
            return Err(format!("not this long: {error}").into());
        }
        set => set?,
    };
    let presigning = PresigningConfig::expires_in(duration)?;
    let request = s3.get_object().bucket("bucket").key("key").presigned(presigning).await?;
    Ok((request.uri().to_owned(), duration.min(set.expires_in())))
}
