//! Sends every input of AssumeRole, once, to the STS that `AWS_ENDPOINT_URL_STS` names: `behind_moto.py`
//! compares what arrived.

use std::time::Duration;

use shmcreds::{AssumeRole, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let source = AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .session_name("every-input")
        .duration(Duration::from_secs(1800))
        .external_id("tenant-42")
        .policy(r#"{"Version":"2012-10-17","Statement":[]}"#)
        .policy_arn("arn:aws:iam::aws:policy/ReadOnlyAccess")
        .policy_arn("arn:aws:iam::123456789012:policy/narrow")
        .tag("team", "storage + more")
        .tag("stage", "")
        .transitive_tag_key("team")
        .source_identity("alice")
        .provided_context("arn:aws:iam::aws:contextProvider/IdentityCenter", "signed assertion")
        .mfa("arn:aws:iam::123456789012:mfa/alice", || async {
            Ok::<_, std::io::Error>("271828".to_owned())
        });
    source.validate()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fetched = runtime.block_on(source.fetch())?;
    println!("fetched the set of key {}", fetched.credentials.access_key_id());
    Ok(())
}
