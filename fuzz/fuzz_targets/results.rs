//! Any text stands in and around an Authentication-Results field.

#![no_main]

#[path = "../laws/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each target has its own law")]
mod laws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| laws::results(input));
