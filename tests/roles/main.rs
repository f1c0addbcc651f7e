//! Pools of roles. Tests fork, so they run on the only thread of their process.
#![allow(unsafe_code)]

mod asked;
mod budget;
mod callers;
#[path = "../support/heap.rs"]
mod counted;
mod deaths;
mod entries;
mod heap;
mod hostile;
mod identity;
mod looks;
mod program;
mod races;
mod refresher;
mod refresher_deaths;
mod restart;
mod shortage;
#[path = "../support/mod.rs"]
mod support;

use aws_credential_types::Credentials;
use shmcreds::{
    AssumeRole, Provider, SharedRoles, SharedRolesBuilder,
    testing::{LocalSts, is_set_of},
};

/// A pool at the embedded STS, which allows the roles of [`tenant`].
fn pool(name: &str) -> SharedRolesBuilder {
    SharedRoles::builder(name)
        .base_source(base())
        .allow("arn:aws:iam::*:role/tenant-*")
        .capacity(100)
        .calls_per_second(100_000)
}

fn base() -> Provider {
    Provider::new("base", || async {
        Credentials::new("AKIAIOSFODNN7EXAMPLE", support::BASE_SECRET, None, None, "base")
    })
}

fn arn_of(number: usize) -> String {
    format!("arn:aws:iam::123456789012:role/tenant-{number}")
}

/// The role of a tenant, with an external id of its own.
fn tenant(sts: &LocalSts, number: usize) -> AssumeRole {
    AssumeRole::new(arn_of(number))
        .session_name("test")
        .external_id(format!("tenant-{number}"))
        .region("us-east-1")
        .endpoint_url(sts.url())
}

/// Panics when the set is not a whole one of that tenant.
fn assert_of(set: &Credentials, number: usize) {
    let (arn, id) = (arn_of(number), format!("tenant-{number}"));
    let inputs = [("RoleArn", &*arn), ("RoleSessionName", "test"), ("ExternalId", &*id)];
    assert!(is_set_of(set, &inputs), "a foreign or torn set for tenant {number}");
}

fn main() {
    if let Ok(pool) = std::env::var(asked::STARTED) {
        return asked::started(&pool);
    }
    let soaks: [(&str, fn()); 3] = [
        (
            "a_death_among_a_thousand_first_fetches",
            shortage::a_death_among_a_thousand_first_fetches,
        ),
        ("never_a_foreign_set_in_many_reads", hostile::never_a_foreign_set_in_many_reads),
        ("many_kills_at_random_instructions", deaths::many_kills_at_random_instructions),
    ];
    let tests: &[(&str, fn())] = &[
        ("each_tenant_gets_its_own_set", entries::each_tenant_gets_its_own_set),
        ("one_call_for_all_processes", entries::one_call_for_all_processes),
        ("what_is_not_allowed", entries::what_is_not_allowed),
        ("the_least_recently_used_goes", entries::the_least_recently_used_goes),
        ("a_pool_is_full", entries::a_pool_is_full),
        ("an_evicted_role_comes_back", entries::an_evicted_role_comes_back),
        ("large_tokens", entries::large_tokens),
        ("old_sets_are_wiped", entries::old_sets_are_wiped),
        ("a_pool_and_a_session", entries::a_pool_and_a_session),
        ("another_base_source_is_refused", entries::another_base_source_is_refused),
        ("memory_is_taken_in_steps", entries::memory_is_taken_in_steps),
        ("a_process_without_a_source_reads", entries::a_process_without_a_source_reads),
        (
            "a_process_without_a_source_loses_an_entry",
            entries::a_process_without_a_source_loses_an_entry,
        ),
        ("a_child_inherits_its_roles", entries::a_child_inherits_its_roles),
        ("rotation_and_rejection", entries::rotation_and_rejection),
        ("another_role_is_another_entry", identity::another_role_is_another_entry),
        ("the_status_tells_whose_entries", looks::the_status_tells_whose_entries),
        ("counters_belong_to_a_role", looks::counters_belong_to_a_role),
        ("a_set_that_lasts", looks::a_set_that_lasts),
        ("who_has_left_is_no_user", looks::who_has_left_is_no_user),
        ("equal_recipes_are_one_role", identity::equal_recipes_are_one_role),
        ("what_no_pool_can_share", identity::what_no_pool_can_share),
        ("a_failing_tenant_is_alone", budget::a_failing_tenant_is_alone),
        ("the_budget_limits_calls", budget::the_budget_limits_calls),
        ("a_throttled_pool_slows_down", budget::a_throttled_pool_slows_down),
        ("a_call_that_waits_for_the_budget", budget::a_call_that_waits_for_the_budget),
        ("what_the_budget_refuses", budget::what_the_budget_refuses),
        ("first_calls_have_half_of_the_budget", budget::first_calls_have_half_of_the_budget),
        ("deaths_at_each_point", deaths::deaths_at_each_point),
        ("a_set_outgrows_its_cell", deaths::a_set_outgrows_its_cell),
        ("a_lock_without_its_byte_is_held", deaths::a_lock_without_its_byte_is_held),
        ("kills_at_random_instructions", deaths::kills_at_random_instructions),
        ("the_elected_process_dies", deaths::the_elected_process_dies),
        ("a_stopped_process_does_not_overwrite", deaths::a_stopped_process_does_not_overwrite),
        ("workers_ask_the_refresher", asked::workers_ask_the_refresher),
        (
            "a_worker_waits_for_any_time_that_it_is_told",
            asked::a_worker_waits_for_any_time_that_it_is_told,
        ),
        ("the_verbs_of_a_worker_that_cannot_write", asked::the_verbs_of_a_worker_that_cannot_write),
        ("a_failure_reaches_all_who_wait", asked::a_failure_reaches_all_who_wait),
        ("hanging_calls", asked::hanging_calls),
        ("a_worker_that_dropped_its_user_asks", asked::a_worker_that_dropped_its_user_asks),
        ("a_process_without_a_source_asks", asked::a_process_without_a_source_asks),
        ("a_started_program_asks", asked::a_started_program_asks),
        ("workers_go_on_without_a_refresher", asked::workers_go_on_without_a_refresher),
        ("hostile_requests_do_no_harm", refresher::hostile_requests_do_no_harm),
        ("a_flood_keeps_to_the_budget", refresher::a_flood_keeps_to_the_budget),
        (
            "it_dies_in_the_middle_of_many_fetches",
            refresher_deaths::it_dies_in_the_middle_of_many_fetches,
        ),
        ("it_is_killed_at_random", refresher_deaths::it_is_killed_at_random),
        ("a_sealed_pool_without_a_refresher", refresher_deaths::a_sealed_pool_without_a_refresher),
        ("a_squatted_socket_is_an_error", refresher::a_squatted_socket_is_an_error),
        ("it_is_stopped", refresher_deaths::it_is_stopped),
        ("what_is_used_is_refreshed_ahead", refresher::what_is_used_is_refreshed_ahead),
        (
            "what_its_process_has_read_is_refreshed_ahead",
            refresher::what_its_process_has_read_is_refreshed_ahead,
        ),
        (
            "a_set_of_a_call_before_it_is_refreshed_ahead",
            refresher::a_set_of_a_call_before_it_is_refreshed_ahead,
        ),
        ("refreshes_are_spread", refresher::refreshes_are_spread),
        ("in_a_deferred_pool_readers_refresh", refresher::in_a_deferred_pool_readers_refresh),
        ("a_program_runs_the_refresher", program::a_program_runs_the_refresher),
        ("a_programs_refresher_is_stopped", program::a_programs_refresher_is_stopped),
        ("a_fork_beside_the_refresher", program::a_fork_beside_the_refresher),
        ("closed_descriptors", program::closed_descriptors),
        ("a_pool_without_its_name", program::a_pool_without_its_name),
        ("a_full_file_system", program::a_full_file_system),
        ("who_waits_has_lost_its_entry", races::who_waits_has_lost_its_entry),
        ("who_refreshes_has_lost_its_entry", races::who_refreshes_has_lost_its_entry),
        ("the_refresher_has_lost_an_entry", races::the_refresher_has_lost_an_entry),
        ("who_evicts_finds_another_role", races::who_evicts_finds_another_role),
        ("a_request_is_for_its_own_pool", races::a_request_is_for_its_own_pool),
        ("the_refresher_leaves_the_last_calls", races::the_refresher_leaves_the_last_calls),
        ("the_refresher_waits_for_the_back_off", races::the_refresher_waits_for_the_back_off),
        ("a_new_refresher_wakes_who_waits", races::a_new_refresher_wakes_who_waits),
        ("never_a_foreign_set", hostile::never_a_foreign_set),
        ("forged_words", hostile::forged_words),
        ("damaged_lists_are_made_again", hostile::damaged_lists),
        ("a_role_takes_few_bytes", heap::a_role_takes_few_bytes),
        ("roles_that_come_and_go_leave_nothing", heap::roles_that_come_and_go_leave_nothing),
        (
            "a_known_role_is_read_without_an_allocation",
            heap::a_known_role_is_read_without_an_allocation,
        ),
        (
            "a_call_is_made_on_the_thread_of_its_caller",
            callers::a_call_is_made_on_the_thread_of_its_caller,
        ),
        ("workers_follow_a_new_pool", restart::workers_follow_a_new_pool),
        (
            "a_due_role_keeps_its_set_until_the_new_pool_has_one",
            restart::a_due_role_keeps_its_set_until_the_new_pool_has_one,
        ),
        (
            "a_failure_in_the_new_pool_is_no_error_of_a_valid_set",
            restart::a_failure_in_the_new_pool_is_no_error_of_a_valid_set,
        ),
        ("pools_in_between_are_not_kept", restart::pools_in_between_are_not_kept),
        ("a_worker_that_only_reads_follows", restart::a_worker_that_only_reads_follows),
        ("what_the_new_pool_does_not_allow", restart::what_the_new_pool_does_not_allow),
        ("nobody_follows_what_is_no_such_pool", restart::nobody_follows_what_is_no_such_pool),
        ("a_session_follows_no_pool", restart::a_session_follows_no_pool),
        ("a_small_dev_shm", shortage::a_small_dev_shm),
        ("a_death_among_many_first_fetches", shortage::a_death_among_many_first_fetches),
    ];
    support::run_forking_and_soaking(tests, &soaks);
}
