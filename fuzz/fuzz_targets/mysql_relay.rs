//! A client and a MySQL server talk to each other through us.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tidegate::protocol::kit::mysql_talk::relay(data);
});
