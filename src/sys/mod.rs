//! System calls: all `unsafe` code of the library. Nothing here knows what credentials are.
#![allow(unsafe_code)]

pub(crate) mod barrier;
pub(crate) mod copies;
pub(crate) mod datagram;
pub(crate) mod death_watch;
pub(crate) mod descriptor;
pub(crate) mod directory;
pub(crate) mod dump;
pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod lock;
pub(crate) mod mapping;
pub(crate) mod memory_file;
pub(crate) mod namespace;
pub(crate) mod object;
#[cfg(feature = "cli-core")]
pub(crate) mod peer;
#[cfg(feature = "cli-core")]
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod process_token;
pub(crate) mod random;
pub(crate) mod runtime;
pub(crate) mod spawn;
pub(crate) mod stack;
pub(crate) mod task;
