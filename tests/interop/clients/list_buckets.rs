//! A program of the AWS SDK for Rust that knows nothing of `shmcreds`: prints the access key that it uses.

use aws_config::BehaviorVersion;
use aws_credential_types::provider::ProvideCredentials;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sdk = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let provider = sdk.credentials_provider().ok_or("no provider")?;
    let set = provider.provide_credentials().await?;
    println!("{}", set.access_key_id());
    let config = aws_sdk_s3::config::Builder::from(&sdk).credentials_provider(set);
    let s3 = aws_sdk_s3::Client::from_conf(config.force_path_style(true).build());
    s3.list_buckets().send().await?;
    Ok(())
}
