//! The entry points of the property tests in `tests/hostile`, for a fuzzer.
#![allow(dead_code)]

#[path = "../../../tests/hostile/answers.rs"]
pub mod answers;
#[path = "../../../tests/hostile/choices.rs"]
pub mod choices;
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
#[path = "../../../tests/hostile/sessions.rs"]
pub mod sessions;

use std::{
    collections::BTreeSet,
    sync::{Mutex, OnceLock},
};

use answers::{Asked, StandIn};

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
