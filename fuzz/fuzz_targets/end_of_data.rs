//! Any bytes come after DATA, cut anywhere.

#![no_main]

#[path = "../laws/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each target has its own law")]
mod laws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| laws::end_of_data(input));
