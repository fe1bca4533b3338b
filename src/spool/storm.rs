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

impl Storm {
    /// Whether it is on.
    pub(super) fn rages(&self) -> bool {
        self.state == StormState::Raging
    }

    /// Counts an event as folded; `excess` if there were too many pages with it. Whether that is news to tell: the first
    /// piece, and what is worse than all that was told. Of more of it nobody need be told before the next digest is due.
    pub(super) fn fold(
        &mut self,
        severity: Option<Severity>,
        keyless: bool,
        excess: bool,
        now: Timestamp,
    ) -> bool {
        self.folded += 1;
        self.keyless += u64::from(keyless);
        self.last_at = now;
        if excess {
            self.excess_at = now;
        }
        let worse = severity > self.severity;
        self.severity = self.severity.max(severity);
        self.folded == self.told + 1 || worse && severity > self.told_severity
    }

    /// Counts an incident that its digest tells of, or no longer does. Whether that was the last.
    pub(super) fn count_open(&mut self, opens: bool) -> bool {
        self.open = if opens { self.open + 1 } else { self.open.saturating_sub(1) };
        !opens && self.open == 0
    }

    /// Notes what a digest tells. False if it is no longer as the maker of the digest saw it.
    pub(super) fn tell(&mut self, told: &Told, now: Timestamp) -> bool {
        let as_seen = match told.state {
            StormState::Raging => self.rages(),
            StormState::Over => self.excess_at == told.excess_at,
            StormState::Closed => self.excess_at == told.excess_at && self.open == 0,
        };
        if self.state == StormState::Closed || !as_seen {
            return false;
        }
        (self.state, self.told, self.told_at) = (told.state, told.folded, Some(now));
        (self.told_severity, self.digests) = (told.severity, self.digests + 1);
        true
    }
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
