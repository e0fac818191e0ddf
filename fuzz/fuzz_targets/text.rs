//! The text of a statement is read for what it leaves behind and for what must not be seen.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::kit::postgres::text(data);
});
