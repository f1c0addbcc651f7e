//! The entry points of the property tests in `tests/hostile`, for a fuzzer.
#![allow(dead_code)]

#[path = "../../../tests/hostile/answers.rs"]
pub mod answers;
#[path = "../../../tests/hostile/choices.rs"]
pub mod choices;
mod clock;
mod command_error;
#[path = "../../../src/bin/shmcreds/config.rs"]
mod config;
#[path = "../../../src/errno.rs"]
mod errno;
#[path = "../../../tests/hostile/files.rs"]
pub mod files;
#[path = "../../../examples/stand_in/iot.rs"]
mod iot;
#[path = "../../../tests/hostile/pools.rs"]
pub mod pools;
#[path = "../../../tests/hostile/requests.rs"]
mod requests;
#[path = "../../../tests/hostile/sessions.rs"]
pub mod sessions;

use std::{
    collections::BTreeSet,
    sync::{Mutex, OnceLock},
    time::{Duration, SystemTime},
};

use answers::{Asked, StandIn};
use aws_credential_types::Credentials;
use shmcreds::{Provider, SharedSession};

/// Has `asked` answer as `data` says. The servers start with the first call.
pub fn answer(asked: Asked, data: &[u8]) {
    static STAND_IN: OnceLock<Mutex<StandIn>> = OnceLock::new();
    let stand_in = STAND_IN.get_or_init(|| Mutex::new(StandIn::start()));
    stand_in.lock().expect("no case has panicked").attack(asked, data);
}

/// Reads `data` as a configuration file.
pub fn configure(data: &[u8]) {
    let file = std::env::temp_dir().join(format!("shmcreds-fuzz-{}.toml", std::process::id()));
    std::fs::write(&file, data).expect("a temporary file");
    if let Err(failure) = config::arguments(&file, &BTreeSet::new()) {
        assert!(failure.to_string().len() < 4096 + data.len(), "an error without bound");
    }
}

/// Sends `data` to the endpoint of a session. It starts with the first call.
pub fn request(data: &[u8]) {
    static ENDPOINT: OnceLock<(SharedSession, shmcreds::Endpoint, requests::Endpoint)> = OnceLock::new();
    let (_, _, endpoint) = ENDPOINT.get_or_init(|| {
        let source = Provider::new("fuzz", || async {
            let end = SystemTime::now() + Duration::from_secs(12 * 3600);
            Credentials::new("ASIAEXAMPLE", "a-secret", Some("token".into()), Some(end), "fuzz")
        });
        let session = SharedSession::builder(files::unique("requests")).source(source).create();
        let session = session.expect("a session");
        session.credentials().expect("a set");
        let endpoint = session.endpoint().expect("an endpoint");
        let known = requests::Endpoint {
            host: endpoint.url().split('/').nth(2).expect("a host").to_owned(),
            token: endpoint.token().to_owned(),
            secret: "a-secret".to_owned(),
        };
        (session, endpoint, known)
    });
    endpoint.attack(data);
}
