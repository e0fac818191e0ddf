//! A MySQL server answers a script of ours.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::kit::mysql_talk::script(data);
});
