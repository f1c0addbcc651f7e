//! Credentials that only you know how to get: from an async closure, or from a program in the
//! `credential_process` format.
//!
//! `cargo run --example custom_source` uses a closure; `cargo run --example custom_source -- PROGRAM
//! ARGUMENT…` runs the program.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use shmcreds::{CredentialProcess, Provider, SharedSession};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let program: Vec<String> = std::env::args().skip(1).collect();
    let builder = SharedSession::builder("example-custom");
    let session = match program.is_empty() {
        true => builder.source(Provider::from_fn("example vault", ask_the_vault)).create()?,
        false => builder.source(CredentialProcess::new(program)).create()?,
    };
    let set = session.credentials()?;
    let left = session.status()?.expires_in().as_secs();
    println!("key {} is good for {left} s", set.access_key_id());
    Ok(())
}

/// Stands for a request to a service of yours.
async fn ask_the_vault() -> Result<Credentials, std::io::Error> {
    let hour = SystemTime::now() + Duration::from_secs(3600);
    Ok(Credentials::new("ASIAEXAMPLE", "secret", Some("token".into()), Some(hour), "vault"))
}
