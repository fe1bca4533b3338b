//! Real senders, each ending in the exact event that SIGNL4 gets.
//!
//! What must arrive stands in `events/`. `BLESS=1` writes what did arrive over it, to be read, line by
//! line, before it is committed.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in what they share")]

#[path = "../support/mod.rs"]
mod support;

mod command_line;
mod encrypted;
mod exim;
mod filter;
mod java;
mod nginx;
mod postfix;
mod python;

use std::path::Path;

use serde_json::Value;
use smtp2signl4::standin::Standin;
use support::{Gateway, PATIENCE, Site, standin};

/// A gateway, and a stand-in for SIGNL4 that takes its events.
struct Scene {
    standin: Standin,
    /// Held for its folder, which goes with it.
    _site: Site,
    gateway: Gateway,
}

impl Scene {
    async fn set() -> Self {
        let standin = standin().await;
        let site = Site::new(&standin);
        Self::of(standin, site)
    }

    /// Starts the gateway.
    fn of(standin: Standin, site: Site) -> Self {
        Self { gateway: site.start(), standin, _site: site }
    }

    /// The gateway's port on 127.0.0.1.
    fn port(&self) -> String {
        self.gateway.address().port().to_string()
    }

    /// Waits until `count` events have arrived.
    async fn arrived(&self, count: u64) {
        let waited = tokio::time::timeout(PATIENCE, self.standin.wait_for_events(count)).await;
        assert!(waited.is_ok(), "{} of {count} events arrived", self.standin.taken());
    }

    /// Waits for `count` events and stops the gateway. They, and no others, must be those of
    /// `events/NAME.json`.
    async fn ends_with(self, count: u64, name: &str) {
        self.arrived(count).await;
        self.gateway.stop();
        let payloads = self.standin.events().into_iter().map(|event| event.payload).collect();
        compare(&Value::Array(payloads), name);
    }
}

/// Compares with `events/NAME.json`, the order of the keys included.
fn compare(arrived: &Value, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/senders/events/{name}.json"));
    let arrived = serde_json::to_string_pretty(arrived).unwrap() + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &arrived).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(arrived == expected, "{}\nhas\n{expected}\nand what arrived is\n{arrived}", path.display());
}
