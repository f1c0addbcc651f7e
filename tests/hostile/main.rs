//! Hostile bytes: whatever is in the files of a session, in the variable that names sealed sessions, or in
//! a source's answer, nothing panics, hangs, reads beyond a file's end, takes memory without bound, or gives a
//! set that the source has not made. `cargo fuzz` uses the same entry points: `verify/fuzz`.

mod answers;
mod choices;
mod clock;
mod files;
#[allow(dead_code)]
#[path = "../../examples/stand_in/iot.rs"]
mod iot;
mod pools;
mod sessions;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use answers::{Asked, StandIn};
use nix::sys::resource::{Resource, setrlimit};
use proptest::{
    collection::vec,
    prelude::any,
    test_runner::{Config, TestError, TestRunner},
};

/// What all memory of a test fits in many times: what grows without bound comes to it soon.
const MEMORY: u64 = 4 << 30;
/// Nothing takes as long, with all its cases.
const LIMIT: Duration = Duration::from_secs(600);

fn main() {
    support::run_forking(&[
        ("the_files_of_a_session_may_hold_anything", files_may_hold_anything),
        ("the_variable_may_say_anything", the_variable_may_say_anything),
        ("the_files_of_a_pool_may_hold_anything", the_files_of_a_pool_may_hold_anything),
        ("secret_memory_that_is_too_short_is_refused", secret_memory_that_is_too_short_is_refused),
        ("counters_do_not_overflow", counters_do_not_overflow),
        ("a_good_answer_is_a_set", a_good_answer_is_a_set),
        ("sts_may_answer_anything", || may_answer_anything(Asked::Sts, 64)),
        ("sts_may_answer_a_web_identity_anything", || may_answer_anything(Asked::WebIdentity, 64)),
        ("an_instance_may_answer_anything", || may_answer_anything(Asked::Instance, 64)),
        ("single_sign_on_may_answer_anything", || may_answer_anything(Asked::SingleSignOn, 64)),
        ("a_container_may_answer_anything", || may_answer_anything(Asked::Container, 64)),
        ("iot_core_may_answer_anything", || may_answer_anything(Asked::Iot, 64)),
        ("a_program_may_write_anything", || may_answer_anything(Asked::Program, 64)),
    ]);
}

fn files_may_hold_anything() {
    in_a_process_of_its_own(|| cases(512, 200, files::attack));
}

fn the_variable_may_say_anything() {
    in_a_process_of_its_own(|| cases(512, 200, sessions::attack));
}

fn the_files_of_a_pool_may_hold_anything() {
    in_a_process_of_its_own(|| {
        pools::a_copy_works();
        cases(256, 200, pools::attack);
    });
}

fn secret_memory_that_is_too_short_is_refused() {
    in_a_process_of_its_own(sessions::secret_memory_is_too_short);
}

fn counters_do_not_overflow() {
    in_a_process_of_its_own(files::counters_are_huge);
}

fn a_good_answer_is_a_set() {
    in_a_process_of_its_own(|| {
        let stand_in = StandIn::start();
        for asked in Asked::ALL {
            let set = stand_in.answer_well(asked);
            assert_eq!((set.access_key_id(), set.session_token()), ("ASIA1", Some("token")));
        }
    });
}

fn may_answer_anything(asked: Asked, number: u32) {
    in_a_process_of_its_own(|| {
        let stand_in = StandIn::start();
        cases(number, 400, |data| stand_in.attack(asked, data));
    });
}

/// One that dies by a signal, too, has failed. It has an environment of its own.
fn in_a_process_of_its_own(test: impl FnOnce()) {
    let test = support::child(|_| {
        // The address sanitizer reserves 16 TiB for itself, and has a limit of its own: `verify/sanitize`.
        if std::env::var_os("ASAN_OPTIONS").is_none() {
            setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY).unwrap();
        }
        test();
    });
    test.finish_within(LIMIT);
}

/// Calls `attack` with so many texts of at most `longest` bytes.
fn cases(number: u32, longest: usize, attack: impl Fn(&[u8])) {
    let default = Config::default();
    // The variable of proptest may ask for more.
    let number = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { number };
    let config = Config { cases: number, failure_persistence: None, ..default };
    let run = TestRunner::new(config).run(&vec(any::<u8>(), 0..longest), |data| {
        attack(&data);
        Ok(())
    });
    match run {
        Ok(()) => {}
        Err(TestError::Fail(why, data)) => panic!("{why}, of {data:?}"),
        Err(other) => panic!("{other}"),
    }
}
