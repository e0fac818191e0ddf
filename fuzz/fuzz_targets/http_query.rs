//! A request line, and a body in which names may stand.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::http::fuzz::query(data);
});
