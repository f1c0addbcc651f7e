//! A program of the AWS SDK for Rust that knows nothing of `shmcreds`: prints the access key that it uses.
//! With AGAIN_AFTER it asks S3 once more, with the same client, after as many seconds.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_credential_types::provider::ProvideCredentials;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Ok(url) = std::env::var("S3_URL") {
        loader = loader.endpoint_url(url);
    }
    let sdk = loader.load().await;
    let provider = sdk.credentials_provider().ok_or("no provider")?;
    let set = provider.provide_credentials().await?;
    println!("{}", set.access_key_id());
    let again = std::env::var("AGAIN_AFTER").ok();
    let mut config = aws_sdk_s3::config::Builder::from(&sdk);
    if again.is_none() {
        // The client would ask the provider a second time.
        config = config.credentials_provider(set);
    }
    let s3 = aws_sdk_s3::Client::from_conf(config.force_path_style(true).build());
    s3.list_buckets().send().await?;
    if let Some(seconds) = again {
        tokio::time::sleep(Duration::from_secs(seconds.parse()?)).await;
        s3.list_buckets().send().await?;
    }
    Ok(())
}
