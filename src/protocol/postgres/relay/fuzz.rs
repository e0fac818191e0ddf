//! An entry for fuzzing.

/// Runs a conversation made of arbitrary bytes.
pub fn fuzz_relay(_data: &[u8]) {}
