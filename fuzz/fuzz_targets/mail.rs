//! Any bytes are a mail, and what is undone in it is undone once.

#![no_main]

#[path = "../laws/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each target has its own law")]
mod laws;

libfuzzer_sys::fuzz_target!(|input: &[u8]| laws::mail(input));
