//! The dedicated refresher of an eager session: its start, its process, its work, its death and its end.
#![allow(unsafe_code)]

mod end;
mod process;
mod refreshes;
mod replaced;
mod start;
#[path = "../support/mod.rs"]
mod support;

use std::{fs, time::Duration};

use nix::unistd::Pid;
use shmcreds::{
    Refresh, SharedSession,
    testing::{LocalSts, ManualClock, Settings},
};

use end::{
    a_late_refresher_leaves_the_next_session_alone, a_stopped_keeper_holds_nothing,
    it_ends_with_the_last_user, killed_users_leave_nothing, the_refresher_needs_no_keeper,
};
use process::{
    a_closed_pipe_is_an_error, a_runtime_entered_does_no_harm, a_runtime_used_before_does_no_harm,
    one_who_adopts_orphans, signals_do_not_disturb_it, the_process_is_a_good_citizen,
    what_the_server_writes_to_goes_nowhere,
};
use refreshes::{
    a_hundred_rejections_are_one_call, a_living_refresher_never_looks_dead,
    an_outage_keeps_to_the_back_off, each_cycle_is_one_call,
};
use replaced::{
    a_standby_takes_over_at_once, a_worker_goes_on_when_it_is_killed,
    another_goes_on_when_it_is_stopped, one_that_is_stopped_in_a_refresh,
};
use start::{
    a_first_failure_that_may_pass_is_tried_again, a_refresher_says_what_it_lacks,
    several_threads_are_refused, the_first_error_is_that_of_create, the_first_set_is_there,
};
use support::{name, role};

fn main() {
    support::run_forking(&[
        ("the_first_set_is_there_and_the_parent_as_before", the_first_set_is_there),
        ("the_first_error_is_that_of_create", the_first_error_is_that_of_create),
        ("a_first_failure_that_may_pass", a_first_failure_that_may_pass_is_tried_again),
        ("several_threads_are_refused", several_threads_are_refused),
        ("a_refresher_says_what_it_lacks", a_refresher_says_what_it_lacks),
        ("the_process_is_a_good_citizen", the_process_is_a_good_citizen),
        ("one_who_adopts_orphans_does_not_see_it_either", one_who_adopts_orphans),
        ("a_runtime_used_before_does_no_harm", a_runtime_used_before_does_no_harm),
        ("a_runtime_entered_does_no_harm", a_runtime_entered_does_no_harm),
        ("what_the_server_writes_to_goes_nowhere", what_the_server_writes_to_goes_nowhere),
        ("a_closed_pipe_is_an_error_of_the_source", a_closed_pipe_is_an_error),
        ("signals_do_not_disturb_it", signals_do_not_disturb_it),
        ("it_ends_with_the_last_user", it_ends_with_the_last_user),
        ("killed_users_leave_nothing", killed_users_leave_nothing),
        ("the_refresher_needs_no_keeper", the_refresher_needs_no_keeper),
        (
            "a_late_refresher_leaves_the_next_session_alone",
            a_late_refresher_leaves_the_next_session_alone,
        ),
        ("a_stopped_keeper_holds_nothing", a_stopped_keeper_holds_nothing),
        ("a_living_refresher_never_looks_dead", a_living_refresher_never_looks_dead),
        ("each_cycle_is_one_call_and_readers_start_nothing", each_cycle_is_one_call),
        ("a_worker_goes_on_when_it_is_killed", a_worker_goes_on_when_it_is_killed),
        ("another_goes_on_when_it_is_stopped", another_goes_on_when_it_is_stopped),
        ("one_that_is_stopped_in_a_refresh_does_no_harm", one_that_is_stopped_in_a_refresh),
        ("a_standby_takes_over_at_once", a_standby_takes_over_at_once),
        ("a_hundred_rejections_are_one_call", a_hundred_rejections_are_one_call),
        ("an_outage_keeps_to_the_back_off", an_outage_keeps_to_the_back_off),
    ]);
}

fn eager(what: &str, sts: &LocalSts) -> SharedSession {
    SharedSession::builder(name(what)).source(role(sts)).refresh(Refresh::Eager).create().unwrap()
}

fn eager_with_clock(what: &str, sts: &LocalSts, clock: &ManualClock) -> SharedSession {
    let builder = SharedSession::builder(name(what)).source(role(sts)).clock(clock);
    builder.refresh(Refresh::Eager).create().unwrap()
}

/// Sets that are due sooner than a lease ends, so that a jump of the clock to that point is no hang.
fn short_lived(sts: &LocalSts) {
    sts.configure(Settings::new().lifetime(Duration::from_secs(60))).unwrap();
}

fn refresher(session: &SharedSession) -> Pid {
    let status = session.status().unwrap();
    Pid::from_raw(i32::try_from(status.lease_holder().unwrap().pid()).unwrap())
}

fn proc_file(pid: Pid, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

fn links(pid: Pid) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let targets = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.map(|target| target.display().to_string()).collect()
}
