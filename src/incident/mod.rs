//! The incident: what shares a key and a source within a team, and what becomes of a further mail about it.
//!
//! Decided here, with no I/O and the time passed in: whether an event pages, pages again, is sent along or
//! is kept and counted, and how the incident stands then. What is promised:
//!
//! - The first open pages, the first after a close pages, and one that is worse than all that was paged pages.
//! - Within its quiet time after a page any other open is counted, and after it the next one pages again.
//! - A close or an acknowledgement never pages. It is sent if an open of the incident was, or may have been.
//!
//! [`rule()`] is the whole law for one event; [`decide`] is the part of it that knows its incident already. Left out:
//! where incidents are kept (the spool's), and what a digest says (the gateway's).

mod claim;
mod config;
mod follow;
mod row;
mod rule;
mod storm;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::event::{Repeat, Severity, Status};
use crate::time::{duration_text, rounded_text};

pub use claim::advice;
pub use config::{Config, Storm};
pub use row::{Row, Source};
pub use rule::{Case, Further, Ruling, TEXTS, Will, rule};
pub use storm::{Flood, Kind, MOST_COUNTED, STORM_WINDOW, Storms, Ticket};

/// A clock that shows a time this much before the last page was set back: the page's age is then unknown.
const SET_BACK: SignedDuration = SignedDuration::from_secs(60);

/// How it stands with an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum State {
    /// No mail has acknowledged it.
    Open,
    /// A mail said that somebody does.
    Acknowledged,
    /// A mail closed it.
    Resolved,
}

/// What is known of an incident since it opened last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Incident {
    /// The team.
    pub team: String,
    /// What its events share.
    pub external_id: String,
    /// How it stands.
    pub state: State,
    /// The worst severity that a mail gave it.
    pub severity: Option<Severity>,
    /// The worst severity that was paged, if anything was and it had one.
    pub paged_severity: Option<Severity>,
    /// When its first mail came.
    pub opened_at: Timestamp,
    /// When its last mail came.
    pub last_at: Timestamp,
    /// The time of the last page: when it was posted, or, until then, when it was made. None if there was no page, or
    /// it failed.
    pub paged_at: Option<Timestamp>,
    /// How many mails told of it, those that close and acknowledge included.
    pub mails: u64,
    /// How many opens came since the last page and did not page.
    pub unpaged: u64,
    /// Whether an open of it was, or may have been, posted by itself.
    pub posted: bool,
}

/// What an event says about its incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report<'a> {
    /// What it does.
    pub status: Status,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// The rule's word on repeats.
    pub repeat: Option<Repeat>,
    /// The rule's quiet time.
    pub quiet: Option<SignedDuration>,
    /// Why it is to be kept and not sent.
    pub muted: Option<&'a str>,
}

/// Where the last page of an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// No longer in the queue, or there is none.
    Gone,
    /// In the queue.
    Waits,
    /// In the queue and not tried, since it is held until then, for a close may follow.
    Held(Timestamp),
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It pages: the first time since the incident opened.
    Page,
    /// It pages, as others did before; so many opens came since and did not.
    PageAgain {
        /// The opens that were kept.
        repeats: u64,
        /// Whether that is because it is worse than all before.
        worse: bool,
    },
    /// It is sent as an update of what was paged.
    Update,
    /// It closes or acknowledges, and is sent.
    Pass,
    /// It is kept and not sent.
    Count {
        /// Why, for `queue`.
        reason: String,
    },
    /// It closes what is still held: neither is sent.
    Flap {
        /// Why, for `queue`.
        reason: String,
    },
    /// It is kept and not sent because somebody wants quiet.
    Mute {
        /// Why, for `queue`.
        reason: String,
    },
    /// It would page, and is told in the digest of a storm.
    Fold,
}

impl Verdict {
    /// Whether the event most likely pages somebody.
    pub fn pages(&self) -> bool {
        matches!(self, Self::Page | Self::PageAgain { .. } | Self::Update)
    }

    /// Whether a storm may have it told in a digest. The rise of an incident that people know by its own page
    /// is told by itself: there are only as many of those as were paged.
    pub fn may_fold(&self, known: Option<&Incident>) -> bool {
        match self {
            Self::PageAgain { worse: true, .. } => known.is_none_or(|incident| !incident.posted),
            verdict => verdict.pages(),
        }
    }
}

/// Decides what becomes of an event about the incident `known`, whose last page is at `page`. Pure.
pub fn decide(
    known: Option<&Incident>,
    page: Page,
    report: &Report<'_>,
    config: &Config,
    now: Timestamp,
) -> Verdict {
    if let Some(reason) = report.muted {
        return Verdict::Mute { reason: reason.to_owned() };
    }
    match (report.status, known) {
        (Status::New, None) => Verdict::Page,
        (Status::New, Some(incident)) => incident.open(page, report, config, now),
        (Status::Acknowledged | Status::Resolved, None) => Verdict::Pass,
        (Status::Resolved, Some(_)) if matches!(page, Page::Held(_)) => {
            Verdict::Flap { reason: format!("opened and closed within {}", duration_text(config.hold)) }
        }
        (Status::Acknowledged | Status::Resolved, Some(incident)) if incident.posted => Verdict::Pass,
        (Status::Acknowledged, Some(_)) => {
            Verdict::Count { reason: "acknowledges an incident of which no page was sent".to_owned() }
        }
        (Status::Resolved, Some(_)) => {
            Verdict::Count { reason: "closes an incident of which no page was sent".to_owned() }
        }
    }
}

impl Incident {
    /// What becomes of a further open.
    fn open(&self, page: Page, report: &Report<'_>, config: &Config, now: Timestamp) -> Verdict {
        let (State::Open | State::Acknowledged, Some(paged_at)) = (self.state, self.paged_at) else {
            return Verdict::Page;
        };
        let again = |worse| Verdict::PageAgain { repeats: self.unpaged, worse };
        if rises(report.severity, self.paged_severity) {
            return again(true);
        }
        let repeat = report.repeat.unwrap_or(config.repeat);
        if repeat == Repeat::Update {
            return Verdict::Update;
        }
        if page != Page::Gone {
            // It would only stand in the queue behind the page that it repeats, and come out with it.
            return Verdict::Count { reason: "a repeat, while its page has yet to leave".to_owned() };
        }
        if repeat == Repeat::Count {
            return Verdict::Count {
                reason: "a repeat of an open incident, which is only counted".to_owned(),
            };
        }
        let mut quiet = report.quiet.unwrap_or(config.quiet);
        if self.state == State::Acknowledged {
            quiet = quiet.max(config.acknowledged_quiet);
        }
        let since = now.duration_since(paged_at);
        if since >= quiet || since < -SET_BACK {
            return again(false);
        }
        let since = rounded_text(since);
        Verdict::Count {
            reason: format!("a repeat, {since} after a page; quiet for {}", duration_text(quiet)),
        }
    }

    /// How it stands with the incident of `team` and `external_id` after an event of which `verdict` was
    /// made; `known` is what was known of it before.
    pub fn after(
        known: Option<Self>,
        (team, external_id): (&str, &str),
        report: &Report<'_>,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Self {
        let was_known = known.is_some();
        let mut incident =
            known.filter(|incident| !incident.is_over_before(report.status)).unwrap_or_else(|| Self {
                team: team.to_owned(),
                external_id: external_id.to_owned(),
                state: State::Open,
                severity: None,
                paged_severity: None,
                opened_at: now,
                last_at: now,
                paged_at: None,
                mails: 0,
                unpaged: 0,
                // Of what is closed or acknowledged before it is known, the open was perhaps before our time.
                posted: !was_known && report.status != Status::New,
            });
        incident.take(report, verdict, now);
        incident
    }

    /// Whether an event of this status begins a new life of the incident.
    pub fn is_over_before(&self, status: Status) -> bool {
        self.state == State::Resolved && status == Status::New
    }

    fn take(&mut self, report: &Report<'_>, verdict: &Verdict, now: Timestamp) {
        let first = self.mails == 0;
        self.mails += 1;
        self.last_at = self.last_at.max(now);
        match report.status {
            Status::New => {
                self.severity = worse(report.severity, (!first).then_some(self.severity));
                if verdict.pages() || *verdict == Verdict::Fold {
                    let before = self.paged_at.is_some().then_some(self.paged_severity);
                    self.paged_severity = worse(report.severity, before);
                    self.paged_at = Some(now);
                    self.unpaged = 0;
                    self.state = State::Open;
                    self.posted |= verdict.pages();
                } else {
                    self.unpaged += 1;
                }
            }
            Status::Acknowledged if self.state == State::Open => self.state = State::Acknowledged,
            Status::Acknowledged => {}
            Status::Resolved => {
                self.state = State::Resolved;
                self.posted &= !matches!(verdict, Verdict::Flap { .. });
            }
        }
    }
}

/// Where a severity stands on the scale; one that no mail tells stands in the middle.
fn rank(severity: Option<Severity>) -> Severity {
    severity.unwrap_or(Severity::Medium)
}

/// Whether `severity` is worse than what was paged. One that is not told is worse than nothing.
fn rises(severity: Option<Severity>, paged: Option<Severity>) -> bool {
    severity.is_some_and(|severity| severity > rank(paged))
}

/// The worse of a severity and that before, if there was one.
fn worse(severity: Option<Severity>, before: Option<Option<Severity>>) -> Option<Severity> {
    match before {
        Some(before) if rank(before) > rank(severity) => before,
        Some(before) if rank(before) == rank(severity) => before.or(severity),
        _ => severity,
    }
}

#[cfg(test)]
mod tests;
