//! Forked processes. Each test runs in a process with one thread, since a process with several threads cannot fork
//! safely.
#![allow(unsafe_code)]

#[path = "../support/calls.rs"]
mod calls;
mod children;
mod deaths;
mod races;
mod refreshes;
mod shortages;
#[path = "../support/mod.rs"]
mod support;
mod threads;
mod wakes;

use std::fs;

use children::{
    a_child_has_not_locked, a_child_inherits_what_it_does_not_set, a_child_that_drops_its_handles,
    a_child_that_leaves_is_no_user, a_childs_drop_removes_nothing, a_sealed_session_can_be_left,
    jitter_differs_between_children,
};
use deaths::{
    a_call_that_never_ends, a_stopped_refresher, a_thousand_kills, another_takes_over,
    another_takes_over_a_call, who_watches_nobody,
};
use races::{
    a_live_session_names_its_user, attach_beside_create, create_beside_those_who_attach,
    killed_processes_leave_a_name,
};
use refreshes::{
    a_cold_start_is_one_call, a_refresh_outlives, create_and_credentials_leave_nothing_behind,
    each_cycle_is_one_call, one_failure_is_one_call,
};
use shortages::{
    a_first_call_with_few_descriptors, a_refused_lock_leaves_no_name,
    full_or_missing_shared_memory, locked_bytes_are_an_error, whatever_a_process_lacks,
};
use threads::{
    a_fork_beside_a_first_wait, a_fork_beside_busy_threads, a_joined_thread_is_in_nobodys_way,
    a_sleeper_may_fork,
};
use wakes::{
    a_woken_sleeper_beside_threads_makes_one_system_call, a_woken_sleeper_makes_no_system_call,
};

fn main() {
    support::run_forking(&[
        (
            "create_and_credentials_leave_nothing_behind",
            create_and_credentials_leave_nothing_behind,
        ),
        ("a_refused_lock_leaves_no_name", a_refused_lock_leaves_no_name),
        ("a_cold_start_is_one_call", a_cold_start_is_one_call),
        ("each_cycle_is_one_call", each_cycle_is_one_call),
        ("another_takes_over_when_the_elected_is_killed", another_takes_over),
        ("another_takes_over_a_call_whose_maker_is_killed", another_takes_over_a_call),
        ("a_call_that_never_ends_keeps_nobody_waiting", a_call_that_never_ends),
        ("who_watches_nobody_is_not_forgotten", who_watches_nobody),
        ("a_refresh_that_outlives_its_handles_stays_elected", a_refresh_outlives),
        ("attach_beside_create_finds_a_session_or_none", attach_beside_create),
        ("create_beside_those_who_attach_is_patient", create_beside_those_who_attach),
        ("a_child_has_not_locked_what_it_inherited", a_child_has_not_locked),
        ("a_stopped_refresher_neither_blocks_nor_overwrites", a_stopped_refresher),
        ("a_sleeper_may_fork_as_soon_as_it_wakes", a_sleeper_may_fork),
        ("a_joined_thread_is_in_nobodys_way", a_joined_thread_is_in_nobodys_way),
        ("a_fork_beside_busy_threads_hangs_nobody", a_fork_beside_busy_threads),
        ("a_woken_sleeper_makes_no_system_call", a_woken_sleeper_makes_no_system_call),
        (
            "a_woken_sleeper_beside_threads_makes_one_system_call",
            a_woken_sleeper_beside_threads_makes_one_system_call,
        ),
        ("a_fork_beside_a_first_wait_hangs_nobody", a_fork_beside_a_first_wait),
        ("a_thousand_kills_lose_nothing", a_thousand_kills),
        ("locked_bytes_are_an_error_that_names_the_process", locked_bytes_are_an_error),
        ("one_failure_is_one_call_for_all", one_failure_is_one_call),
        ("a_child_inherits_what_it_does_not_set", a_child_inherits_what_it_does_not_set),
        ("a_childs_drop_removes_nothing", a_childs_drop_removes_nothing),
        ("a_child_that_drops_its_handles_has_nothing", a_child_that_drops_its_handles),
        ("a_child_that_leaves_is_no_user", a_child_that_leaves_is_no_user),
        ("a_sealed_session_can_be_left", a_sealed_session_can_be_left),
        ("killed_processes_leave_a_name_that_can_be_reused", killed_processes_leave_a_name),
        ("a_live_session_names_its_user", a_live_session_names_its_user),
        ("jitter_differs_between_children", jitter_differs_between_children),
        ("full_or_missing_shared_memory_is_an_error", full_or_missing_shared_memory),
        ("a_first_call_with_few_descriptors_is_an_error", a_first_call_with_few_descriptors),
        ("whatever_a_process_lacks_nothing_is_left", whatever_a_process_lacks),
    ]);
}

fn entries(directory: &str) -> usize {
    fs::read_dir(directory).unwrap().count()
}

/// What the open descriptors lead to.
fn descriptors() -> Vec<String> {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    targets.map(|target| target.display().to_string()).filter(|t| !t.contains("/fd")).collect()
}
