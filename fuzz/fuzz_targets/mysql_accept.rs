//! A client logs in by MySQL's protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::kit::mysql::accept(data);
});
