#![no_main]

use shmcreds_fuzz::answers::Asked;

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmcreds_fuzz::answer(Asked::Instance, data));
