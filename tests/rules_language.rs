//! The laws of the rule language, one line each.

use jiff::Timestamp;
use smtp2signl4::diagnostic::Source;
use smtp2signl4::mail::{Address, Client, Envelope, Message, Origin};
use smtp2signl4::rules::{RuleSet, Site, Subject, shipped};

#[test]
fn the_shipped_rules_load() {
    if let Err(found) = RuleSet::load(&shipped(), Site::default()) {
        panic!("{}", found.iter().map(|d| format!("{d}\n")).collect::<String>());
    }
}
