//! A request line and a body of Elasticsearch's or OpenSearch's API.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::http::fuzz_http(data);
});
