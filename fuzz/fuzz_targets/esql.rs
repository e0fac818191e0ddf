//! A query in ES|QL.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::http::fuzz::esql(data);
});
