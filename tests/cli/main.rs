//! The command line, used as a user would: started, asked, killed.

mod agents;
#[allow(dead_code)]
#[path = "../hostile/choices.rs"]
mod choices;
mod doctor;
mod endings;
mod endpoint;
mod endpoint_bytes;
mod exec;
mod files;
mod harness;
mod metrics;
mod node_agent;
mod old_clients;
mod places;
mod profiles;
mod secrets;
mod serve;
mod sources;
mod sso;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod usage;
mod valid_for;
mod watch;
