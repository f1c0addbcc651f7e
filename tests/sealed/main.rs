//! Sealed sessions: workers that read and cannot write, and a refresher that comes back.
#![allow(unsafe_code)]

mod programs;
mod refreshers;
#[path = "../support/mod.rs"]
mod support;
mod writes;

use nix::unistd::Pid;
use shmcreds::{ErrorKind, Refresh, SharedSession};
use support::{instant, name};

/// Makes this program a worker that was started by `exec`: the value says what it does.
const ROLE: &str = "SHMCREDS_TEST_ROLE";

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        return programs::started(&role);
    }
    support::run_forking(&[
        ("workers_read_and_ask_and_nothing_has_a_name", writes::workers_read_and_ask),
        ("a_worker_cannot_write", writes::a_worker_cannot_write),
        (
            "a_worker_that_dropped_its_uid_reads_and_cannot_write",
            writes::a_worker_that_dropped_its_uid,
        ),
        ("a_killed_refresher_comes_back", refreshers::a_killed_refresher_comes_back),
        ("a_refresher_that_hangs_is_replaced", refreshers::a_refresher_that_hangs_is_replaced),
        ("one_that_cannot_start_is_not_tried_for_ever", refreshers::one_that_cannot_start),
        ("killed_users_leave_nothing", refreshers::killed_users_leave_nothing),
        ("all_killed_at_once_leave_nothing", refreshers::all_killed_at_once_leave_nothing),
        ("a_started_program_attaches", programs::a_started_program_attaches),
        ("another_session_of_the_name_is_not_taken_for_it", programs::another_session_of_the_name),
        ("what_is_passed_no_longer_is_not_looked_for", programs::what_is_passed_no_longer),
        ("secret_memory_is_read_by_workers_alone", writes::secret_memory_is_read_by_workers_alone),
        ("what_does_not_go_together_is_refused", what_does_not_go_together_is_refused),
    ]);
}

fn sealed(name: &str) -> SharedSession {
    let builder = SharedSession::builder(name).source(instant()).refresh(Refresh::Eager);
    builder.sealed().create().unwrap()
}

fn refresher(session: &SharedSession) -> Pid {
    let status = session.status().unwrap();
    Pid::from_raw(i32::try_from(status.lease_holder().unwrap().pid()).unwrap())
}

fn what_does_not_go_together_is_refused() {
    let refused = |builder: shmcreds::SharedSessionBuilder, field: &str, missing: &str| {
        let error = builder.source(instant()).create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(field) && error.to_string().contains(missing));
    };
    let builder = || SharedSession::builder(name("refused"));
    refused(builder().sealed(), "sealed: ", "Refresh::Eager");
    refused(builder().refresh(Refresh::Eager).secret_memory(), "secret_memory: ", "sealed()");
}
