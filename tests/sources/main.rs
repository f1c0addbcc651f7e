//! Each source against a local server: a session is created in one process, and read in its children.
#![allow(unsafe_code)]

mod devices;
mod host;
mod identities;
#[path = "../../examples/stand_in/iot.rs"]
mod iot;
mod profiles;
mod programs;
mod secrets;
#[path = "../support/sources.rs"]
mod sources;
#[path = "../support/mod.rs"]
mod support;

use shmcreds::{Provider, SharedSession, Source};

use devices::{
    a_device_in_every_mood, a_device_with_a_certificate, a_role_by_a_role_with_a_device,
    each_refresh_asks_the_device_once,
};
use host::{
    a_busy_server, a_token_that_is_required_and_does_not_come,
    an_instance_that_knows_version_1_only, the_containers_endpoint, the_instances_metadata,
    version_1_is_not_used_where_it_is_disabled_or_no_answer_asks_for_it,
};
use identities::whose_they_are;
use profiles::{
    a_profile_that_leads_to_itself_is_an_error, a_profile_with_a_role, a_single_sign_on,
    a_web_identity,
};
use programs::{
    a_closure, a_program, a_program_that_leaves_something_running, a_program_whose_end_nobody_sees,
    a_refusal_keeps_its_code_and_its_id, an_absent_one_is_an_error,
};
use secrets::{no_debug_shows_a_secret, no_error_shows_a_secret};
use sources::environment;
use support::{child, name};

fn main() {
    support::run_forking(&[
        ("the_containers_endpoint", || the_containers_endpoint(Provider::container)),
        ("what_the_sdk_finds", || the_containers_endpoint(Provider::default_chain)),
        ("the_instances_metadata", the_instances_metadata),
        ("an_instance_that_knows_version_1_only", an_instance_that_knows_version_1_only),
        (
            "version_1_is_not_used_where_it_is_disabled_or_no_answer_asks_for_it",
            version_1_is_not_used_where_it_is_disabled_or_no_answer_asks_for_it,
        ),
        ("a_token_that_is_required_and_does_not_come", a_token_that_is_required_and_does_not_come),
        ("a_web_identity", a_web_identity),
        ("a_profile_with_a_role", a_profile_with_a_role),
        ("a_profile_that_leads_to_itself_is_an_error", a_profile_that_leads_to_itself_is_an_error),
        ("a_single_sign_on", a_single_sign_on),
        ("a_program", a_program),
        ("a_program_that_leaves_something_running", a_program_that_leaves_something_running),
        ("a_program_whose_end_nobody_sees", a_program_whose_end_nobody_sees),
        ("no_error_shows_a_secret", no_error_shows_a_secret),
        ("a_busy_server_is_left_alone_as_long_as_it_says", a_busy_server),
        ("a_device_with_a_certificate", a_device_with_a_certificate),
        ("a_role_by_a_role_with_a_device", a_role_by_a_role_with_a_device),
        ("a_closure", a_closure),
        ("a_refusal_keeps_its_code_and_its_id", a_refusal_keeps_its_code_and_its_id),
        ("a_device_in_every_mood", a_device_in_every_mood),
        ("each_refresh_asks_the_device_once", each_refresh_asks_the_device_once),
        ("whose_they_are", whose_they_are),
        ("no_debug_shows_a_secret", no_debug_shows_a_secret),
        ("an_absent_one_is_an_error_with_its_name", an_absent_one_is_an_error),
    ]);
}

/// Creates a session in a process with that environment; in its children reads three sets, each after
/// `before(cycle)`. Gives the keys.
fn three_cycles(
    variables: &[(&str, &str)],
    source: impl FnOnce() -> Made,
    before: impl Fn(usize),
) -> Vec<String> {
    let said = child(|report| {
        environment(variables);
        let session = source()(&name("source"));
        for cycle in 0..3 {
            before(cycle);
            let worker = child(|report| {
                let session = SharedSession::attach(session.name()).unwrap();
                let set = if cycle == 0 { session.credentials() } else { session.refresh() };
                report.say(set.unwrap().access_key_id());
            });
            report.say(worker.finish() + "\n");
        }
        assert_eq!(session.status().unwrap().source_calls(), 3);
    });
    said.finish().lines().map(str::to_owned).collect()
}

type Made = Box<dyn FnOnce(&str) -> SharedSession>;

fn of(source: impl Source) -> Made {
    Box::new(|name| SharedSession::builder(name).source(source).create().unwrap())
}
