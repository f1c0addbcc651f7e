#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| shmcreds_fuzz::request(data));
