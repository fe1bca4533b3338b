//! Any text is a rule file: it loads and judges, or it is refused with the places of its errors.

#![no_main]

#[path = "../laws/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each target has its own law")]
mod laws;

libfuzzer_sys::fuzz_target!(|text: &str| laws::rule_file(text));
