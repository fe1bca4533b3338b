//! The rules: what a mail means. Rule files in TOML become a [`RuleSet`], and that judges mails: each
//! becomes events, or is dropped for a reason. The language and its laws are in `rules/README.md`.
//!
//! Loading finds every error at once, each with its place. Judging is total and deterministic: every
//! mail gets a judgement, no input makes it slower than linear, and the same rules and mail give the same
//! judgement. Left out: reading files and mails, and everything that happens to an event afterwards.

mod attach;
mod condition;
mod config;
mod draft;
mod example;
mod field;
mod file;
mod guess;
mod identity;
mod ids;
mod judge;
mod judgement;
mod lines;
mod lint;
mod load;
mod mail_fields;
mod names;
mod outcome;
mod parameters;
mod part;
mod pattern;
mod quoted;
mod redact;
mod rule_set;
mod schedule;
mod senders;
mod shipped;
mod site;
mod standalone;
mod stranger;
mod template;
mod tlp;
mod trace;
mod when;
mod wrapped;

pub use config::Config;
pub use example::{Deviation, Example, ExampleMail};
pub use judgement::Judgement;
pub use mail_fields::Subject;
pub use redact::{RedactSet, Redaction};
pub use rule_set::RuleSet;
pub use schedule::{Schedule, read_zone};
pub use senders::senders;
pub use shipped::shipped;
pub use site::{Paging, Site};
pub use standalone::StandaloneCondition;
pub use tlp::Tlp;
pub use trace::{Change, Dropped, Matched, Origin, Outcome, Piece, RuleTrace, SourceTrace, Tested, Trace};
