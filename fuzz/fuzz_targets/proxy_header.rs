//! A load balancer says whom it brings.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::proxy_header::fuzz_proxy_header(data);
});
