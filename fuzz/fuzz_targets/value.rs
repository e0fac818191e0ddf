//! Bound values are shown in the trail.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::kit::postgres::value(data);
});
