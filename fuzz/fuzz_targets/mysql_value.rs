//! Bound values of MySQL's binary protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::kit::mysql_talk::value(data);
});
