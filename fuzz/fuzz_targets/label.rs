//! The text of a statement is read for its label.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::kit::postgres::label(data);
});
