//! Calls of the source that the program makes itself: `elect`, and the terms that it gives.
#![allow(unsafe_code)]

mod failures;
mod holders;
mod replaced;
mod sources;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use aws_credential_types::Credentials;
use shmcreds::{
    Election, Error, ManualSource, SetSnapshot, SharedSession, SourceError, SourceErrorClass, Term,
    testing::ManualClock,
};
use support::{assert_whole, instant_set, name};

fn main() {
    support::run_forking(&[
        ("sixty_four_cold_processes_make_one_call", holders::sixty_four_cold_processes),
        ("a_killed_holder_is_replaced_at_once", holders::a_killed_holder_is_replaced_at_once),
        ("a_holder_stopped_beyond_its_lease_is_fenced", holders::a_holder_stopped_beyond_its_lease),
        ("a_lease_that_ended_is_over_also_without_a_successor", holders::a_lease_that_ended),
        ("a_failure_is_told_to_all", failures::a_failure_is_told_to_all),
        ("a_dropped_term_is_a_transient_failure", failures::a_dropped_term_is_a_transient_failure),
        ("a_forked_copy_does_nothing", holders::a_forked_copy_does_nothing),
        ("jobs_that_die_in_their_term_have_a_back_off", failures::jobs_that_die_in_their_term),
        ("a_set_that_is_due_is_replaced_by_one", replaced::a_set_that_is_due_is_replaced_by_one),
        ("a_rejected_set_is_replaced", replaced::a_rejected_set_is_replaced),
        ("a_newer_set_on_request", replaced::a_newer_set_on_request),
        ("a_useless_set_is_a_failure", failures::a_useless_set_is_a_failure),
        ("the_time_of_the_server_counts", replaced::the_time_of_the_server_counts),
        ("threads_take_turns_and_a_term_may_move", holders::threads_take_turns),
        (
            "others_wait_for_a_manual_source_and_never_ask_it",
            sources::others_wait_for_a_manual_source,
        ),
        ("what_a_manual_source_cannot_do", sources::what_a_manual_source_cannot_do),
        ("an_eager_session_has_its_refresher", sources::an_eager_session_has_its_refresher),
        ("a_sealed_session_never_gives_a_term", sources::a_sealed_session_never_gives_a_term),
        ("a_process_without_a_source_is_never_elected", sources::a_process_without_a_source),
        ("holders_of_all_kinds_never_meet", holders::holders_of_all_kinds_never_meet),
        ("any_source_can_be_asked_by_hand", sources::any_source_can_be_asked_by_hand),
    ]);
}

fn manual() -> ManualSource {
    ManualSource::new("test").timeout(Duration::from_secs(10))
}

fn session(what: &str) -> SharedSession {
    SharedSession::builder(name(what)).source(manual()).create().unwrap()
}

fn with_clock(what: &str) -> (SharedSession, ManualClock) {
    let clock = ManualClock::new().unwrap();
    let builder = SharedSession::builder(name(what)).source(manual()).clock(&clock);
    (builder.create().unwrap(), clock)
}

fn term(session: &SharedSession) -> Term {
    match session.elect().unwrap() {
        Election::Elected(term) => term,
        Election::Valid(set) => panic!("no term, but {set:?}"),
    }
}

fn valid(session: &SharedSession) -> SetSnapshot {
    match session.elect().unwrap() {
        Election::Valid(set) => set,
        Election::Elected(term) => panic!("no set, but {term:?}"),
    }
}

fn refused(session: &SharedSession) -> Error {
    session.elect().unwrap_err()
}

fn key(set: &SetSnapshot) -> String {
    assert_whole(set.credentials());
    set.credentials().access_key_id().to_owned()
}

/// A set that lives so long on the clock of a test.
fn living(clock: &ManualClock, life: Duration) -> Credentials {
    let mut set = instant_set();
    *set.expiry_mut() = Some(clock.wall() + life);
    set
}

fn denied() -> SourceError {
    SourceError::new(SourceErrorClass::Terminal, "not authorized")
        .with_code("AccessDenied")
        .with_request_id("r-1")
        .with_http_status(403)
}

const HOUR: Duration = Duration::from_secs(3600);
