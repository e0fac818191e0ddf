//! A method and a target: what is made of a URL, and of the wildcards in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::http::fuzz::route(data);
});
