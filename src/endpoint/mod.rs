//! The endpoint: the set of a session over HTTP, in the format of the container endpoint. Libraries with a chain of
//! their own ask it.
//!
//! The program `shmcreds` uses the same parts, and adds other addresses and metrics.

pub mod answers;
mod connection_slots;
pub mod environment;
mod handle;
pub mod http;
pub mod memory_files;
pub mod random;
pub mod service;

pub use handle::Endpoint;
