//! A role that needs a one-time code: asked for once for each refresh, by whichever process is elected.
//!
//! `cargo run --example assume_role_mfa` asks an embedded STS and a stand-in for the device. With
//! `cargo run --example assume_role_mfa -- ROLE_ARN SERIAL_NUMBER PROGRAM ARGUMENT…` it asks AWS, and the
//! program for the code.

use aws_credential_types::Credentials;
use shmcreds::{AssumeRole, SharedSession, testing::LocalSts};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (source, _sts) = match &arguments[..] {
        [role, serial, program @ ..] if !program.is_empty() => {
            (AssumeRole::new(role).mfa_command(serial, program), None)
        }
        [_, ..] => {
            return Err("expected ROLE_ARN SERIAL_NUMBER PROGRAM ARGUMENT…, or nothing".into());
        }
        [] => {
            let sts = LocalSts::fork()?;
            println!("no role given: asking an embedded STS at {}", sts.url());
            (local(&sts), Some(sts))
        }
    };
    let session = SharedSession::builder("example-mfa").source(source).create()?;
    for _ in 0..2 {
        let set = session.refresh()?;
        println!("fetched the set of key {}, with a code of its own", set.access_key_id());
    }
    Ok(())
}

fn local(sts: &LocalSts) -> AssumeRole {
    AssumeRole::new("arn:aws:iam::123456789012:role/app")
        .region("us-east-1")
        .endpoint_url(sts.url())
        .credentials_provider("local user", || async { local_user() })
        .mfa("arn:aws:iam::123456789012:mfa/alice", || async {
            println!("the device is asked");
            Ok::<_, std::io::Error>("123456".to_owned())
        })
}

/// The embedded STS takes any key for that of a local user.
fn local_user() -> Credentials {
    Credentials::new("AKIAIOSFODNN7EXAMPLE", "any", None, None, "local user")
}
