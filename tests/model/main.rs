//! The model: the laws of delivery, held against long random histories.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

#[path = "../support/mod.rs"]
mod support;

mod laws;
mod letter;
mod process;
mod record;
mod simulated;
mod storm;
