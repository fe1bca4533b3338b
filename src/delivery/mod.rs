//! Under way.

mod backoff;
mod webhook;
