//! The command line, used as a user would: started, asked, killed.

mod agents;
#[allow(dead_code)]
#[path = "../hostile/choices.rs"]
mod choices;
// Modules of the library, with their unit tests.
#[allow(dead_code)]
#[path = "../../src/endpoint/connection_slots.rs"]
mod connection_slots;
mod doctor;
mod endings;
mod endpoint;
mod endpoint_bytes;
#[allow(dead_code)]
#[path = "../../src/endpoint/environment.rs"]
mod environment;
mod exec;
mod export;
mod files;
mod harness;
mod masks;
mod metrics;
mod node_agent;
mod old_clients;
mod places;
mod profiles;
#[path = "../hostile/requests.rs"]
mod requests;
mod roles;
mod roles_exec;
mod roles_grants;
mod roles_refresher;
mod roles_reload;
mod roles_status;
mod secrets;
mod serve;
mod sources;
mod sso;
mod status;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod usage;
mod valid_for;
mod watch;
