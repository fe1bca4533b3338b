//! Storms as the spool knows them: what was folded, and what a digest has told of it.

use jiff::Timestamp;
use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::event::Severity;
use crate::incident::Kind;

/// Where a storm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[derive(EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum StormState {
    /// What would page is folded.
    Raging,
    /// It is over, and incidents that it folded are open.
    Over,
    /// Nothing of it is left to tell.
    Closed,
}

/// A storm: pages that are told in a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storm {
    /// Its number.
    pub id: u64,
    /// The team that is flooded.
    pub team: String,
    /// What floods it.
    pub kind: Kind,
    /// Whether strangers do.
    pub stranger: bool,
    /// The source, or the base of the guessed key, that floods it; none if it is many sources.
    pub source: Option<String>,
    /// Where it stands.
    pub state: StormState,
    /// When it began.
    pub began_at: Timestamp,
    /// When there were too many pages last.
    pub excess_at: Timestamp,
    /// When the first event was folded.
    pub first_at: Timestamp,
    /// When the last event was folded.
    pub last_at: Timestamp,
    /// How many were folded.
    pub folded: u64,
    /// How many incidents that were folded are open.
    pub open: u64,
    /// How many folded events have no external id: no mail can tell when they are over.
    pub keyless: u64,
    /// How many of the folded events the last digest told.
    pub told: u64,
    /// When that was made; none if there was none yet.
    pub told_at: Option<Timestamp>,
    /// The worst severity of what was folded.
    pub severity: Option<Severity>,
    /// The worst one that a digest told.
    pub told_severity: Option<Severity>,
    /// How many digests there were.
    pub digests: u64,
}

/// An event that a storm has folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folded {
    /// Its number.
    pub seq: u64,
    /// Its title.
    pub title: String,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// The message of the event.
    pub message: String,
}

/// What a digest tells of its storm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The storm.
    pub storm: u64,
    /// Where it stands by it.
    pub state: StormState,
    /// How many folded events it tells.
    pub folded: u64,
    /// The worst severity that it tells.
    pub severity: Option<Severity>,
    /// The last excess that its maker saw: if there was another since, a storm is not over.
    pub excess_at: Timestamp,
}
