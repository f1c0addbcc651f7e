//! The command line, used as a user would: started, asked, killed.

mod endings;
mod endpoint;
mod exec;
mod harness;
mod metrics;
mod serve;
mod sources;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod usage;
mod watch;
