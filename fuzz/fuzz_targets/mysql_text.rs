//! A statement's text, as MySQL's relay and the trail read it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::kit::mysql_talk::text(data);
});
