//! Sessions that belong to a fleet, with a real redis-server. Each session stands for a host.
#![allow(unsafe_code)]

mod budget;
mod claims;
mod command_line;
mod failing_leaders;
#[allow(dead_code, unused_imports)]
#[path = "../cli/harness.rs"]
mod harness;
mod host_bound;
mod kms;
mod leaders;
#[path = "../support/memory.rs"]
mod memory;
mod networks;
mod outages;
mod sentinel;
mod server;
mod shared_keys;
mod shared_set;
#[path = "../support/mod.rs"]
mod support;
mod wrong_answers;

fn main() {
    support::run_forking(&[
        ("hosts_share_a_budget", budget::hosts_share_a_budget),
        ("permits_come_at_the_rate_of_the_budget", budget::permits_come_at_the_rate),
        ("a_wrong_value_in_the_store_is_replaced", budget::a_wrong_value_is_replaced),
        ("nothing_is_alive_after_a_call", budget::nothing_is_alive_after_a_call),
        ("wrong_settings_are_refused_by_name", budget::wrong_settings),
        ("a_password_is_used_and_never_shown", budget::a_password_is_never_shown),
        ("a_store_that_is_down_leaves_the_local_share", outages::a_store_that_is_down),
        ("a_store_that_is_slow_delays_a_call_by_its_limit", outages::a_slow_store),
        ("a_store_without_memory_delays_nobody", outages::a_store_without_memory),
        (
            "a_shared_set_beside_a_useless_store_is_fetched",
            outages::a_shared_set_beside_a_useless_store,
        ),
        ("a_partition_delays_nobody_and_heals", outages::a_partition),
        (
            "whatever_a_server_answers_there_are_credentials",
            wrong_answers::whatever_a_server_answers,
        ),
        ("64_hosts_make_one_call", shared_set::sixty_four_hosts),
        ("a_host_without_the_key_goes_on_alone", shared_keys::a_wrong_key),
        ("keys_are_replaced_without_a_gap", shared_keys::keys_are_replaced),
        ("an_older_or_a_foreign_set_counts_as_none", shared_set::an_older_or_a_foreign_set),
        ("a_set_in_its_last_quarter_is_a_reserve", failing_leaders::a_set_in_its_last_quarter),
        ("failures_of_leaders_have_these_pauses", failing_leaders::failures_have_these_pauses),
        ("a_set_of_any_store_is_checked_as_that_of_a_source", claims::a_lying_store),
        ("a_claim_tells_the_expiry_of_the_source", claims::what_a_claim_tells),
        ("a_wrong_clock_makes_no_life_longer", claims::a_wrong_clock),
        ("sources_that_identify_the_host_are_refused", host_bound::host_bound_sources),
        ("nothing_in_the_store_is_secret", shared_keys::nothing_is_secret),
        ("a_set_outlives_a_store_that_is_lost", shared_set::a_lost_store),
        ("a_leader_that_is_killed_is_replaced", leaders::a_killed_leader),
        ("a_leader_that_was_stopped_is_fenced", leaders::a_stopped_leader),
        ("a_failure_of_the_leader_lets_the_others_wait", leaders::a_failure),
        ("a_promoted_replica_fences_the_old_leader", leaders::a_promoted_replica),
        ("the_certificate_of_a_store_is_checked", networks::a_certificate_is_checked),
        ("a_node_of_a_cluster_names_the_other", networks::a_node_of_a_cluster_names_the_other),
        ("a_failover_is_no_outage", sentinel::a_failover),
        ("sentinels_that_do_not_help_are_passed_over", sentinel::sentinels_that_do_not_help),
        ("files_that_are_no_files_delay_nobody", budget::files_that_are_no_files),
        ("kms_decrypts_the_keys", kms::kms_decrypts_the_keys),
        ("a_failure_of_kms_is_told_and_is_no_outage", kms::a_failure_of_kms),
        ("commands_share_a_set", command_line::commands_share_a_set),
        ("mistakes_show_no_password", command_line::mistakes_show_no_password),
        ("a_refresher_of_its_own_belongs_to_the_fleet", command_line::a_refresher_of_its_own),
    ]);
}
