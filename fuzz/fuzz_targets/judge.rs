//! Any bytes are a mail, and every mail is judged.

#![no_main]

#[path = "../laws/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each target has its own law")]
mod laws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| laws::judge(input));
