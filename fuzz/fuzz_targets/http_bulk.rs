//! A `_bulk`, in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::http::fuzz::bulk(data);
});
