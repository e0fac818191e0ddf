//! A MySQL or MariaDB server answers while we log in to it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::kit::mysql::dial(data);
});
