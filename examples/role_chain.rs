//! A role that another role assumes: `cargo run --example role_chain`, at an embedded STS, or
//! `cargo run --example role_chain -- HUB_ROLE_ARN ROLE_ARN` at AWS.

use aws_credential_types::Credentials;
use shmcreds::{AssumeRole, SharedSession, testing::LocalSts};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (source, _sts) = match &arguments[..] {
        [hub, app] => (AssumeRole::new(app).base_source(AssumeRole::new(hub)), None),
        [_, ..] => return Err("expected HUB_ROLE_ARN ROLE_ARN, or nothing".into()),
        [] => {
            let sts = LocalSts::fork()?;
            println!("no roles given: asking an embedded STS at {}", sts.url());
            let role = |arn: &str| AssumeRole::new(arn).region("us-east-1").endpoint_url(sts.url());
            let hub = role("arn:aws:iam::111111111111:role/hub")
                .credentials_provider("local user", || async { local_user() });
            (role("arn:aws:iam::222222222222:role/app").base_source(hub), Some(sts))
        }
    };
    let session = SharedSession::builder("example-chain").source(source).create()?;
    let set = session.credentials()?;
    let account = set.account_id().map_or("unknown", |id| id.as_str());
    println!("the set of key {} belongs to account {account}", set.access_key_id());
    Ok(())
}

/// The embedded STS takes any key for that of a local user.
fn local_user() -> Credentials {
    Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "local user")
}
