//! The law of incidents: what becomes of an event, and how its incidents stand then. Pure: the spool loads what is known
//! and stores what is ruled, in the transaction that writes the event.
//!
//! In this order:
//!
//! - What an operator releases goes out.
//! - A mail that is handed in twice counts once. Nothing of a stranger's closes or acknowledges, nor does a replay.
//! - A close is for the incidents of its own source ([`claim`]); each has a close of its own under its own id.
//! - An open joins the incident of its source, or begins one ([`claim::own`]), and pages by [`decide`].
//! - What would page may be folded into the digest of a storm: of many texts of a guessed key, of a source, of a team, or
//!   of a stranger's mails above his rate.

use jiff::{SignedDuration, Timestamp};

use super::claim::{self, Claim};
use super::follow::follow;
use super::row::{Row, Step};
use super::storm::{Flood, Kind, Storms, Ticket};
use super::{Config, Page, Report, Verdict, decide};
use crate::event::{Identity, KeySource, Severity, Status};

/// Texts of one guessed key that page one by one within the quiet time.
pub const TEXTS: usize = 5;

/// Whose word decides whether an event goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Will {
    /// That of the laws of incidents.
    Laws,
    /// The same for a notice of the gateway's own, which no storm takes.
    Notice,
    /// The same for what another team hears along with its own: it is sent whatever that team knows.
    Follow,
    /// An operator's: it goes out.
    Operator,
}

/// An event, and all that is known that matters for it.
#[derive(Debug)]
pub struct Case<'a> {
    /// Its number.
    pub seq: u64,
    /// How many numbers after it may be used for further closes.
    pub room: usize,
    /// Its team.
    pub team: &'a str,
    /// What ties it to an incident, as the rules gave it.
    pub key: Option<&'a str>,
    /// What another team's incident is called at SIGNL4, if it follows an event of that.
    pub posted_as: Option<&'a str>,
    /// What it says.
    pub report: Report<'a>,
    /// What it is about and who says so.
    pub identity: &'a Identity,
    /// The product that it is from, or else its sender: by this a storm is counted.
    pub source: &'a str,
    /// Whose word decides.
    pub will: Will,
    /// The rows of the team that share its key, or its base, or are posted under its key.
    pub rows: &'a [Row],
    /// The mail as which it was handed in before.
    pub handed_in: Option<&'a str>,
    /// Whether the signature that proves it was seen before.
    pub replayed: bool,
    /// How many texts of its base were paged by themselves within the quiet time, its own incident left out.
    pub texts: usize,
    /// How many events the account of the team lets go in 15 seconds.
    pub allowance: u32,
    /// How long what is closed is remembered.
    pub retention: SignedDuration,
    /// When it came.
    pub now: Timestamp,
}

/// A further event that a close makes: the same for another incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Further {
    /// Its number.
    pub seq: u64,
    /// The incident.
    pub incident: u64,
    /// What SIGNL4 is told.
    pub external_id: String,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// What becomes of it.
    pub verdict: Verdict,
    /// What it does as it is sent.
    pub status: Status,
    /// How bad it is as it is sent.
    pub severity: Option<Severity>,
    /// What SIGNL4 is told.
    pub external_id: Option<String>,
    /// The incident that it is about.
    pub incident: Option<u64>,
    /// A remark on what is sent.
    pub note: Option<String>,
    /// Until when it is held back.
    pub until: Option<Timestamp>,
    /// The rows that have changed, as they are now; the event's own is the first.
    pub rows: Vec<Row>,
    /// Events to take out of the queue, and why.
    pub withdraw: Vec<(u64, String)>,
    /// Further events.
    pub further: Vec<Further>,
    /// The other teams that hear the same, each with what SIGNL4 is told there.
    pub followers: Vec<(String, String)>,
    /// The storm that it belongs into. Its number goes into [`Ruling::fold_into`].
    pub ticket: Option<Ticket>,
    /// The number of that storm.
    pub storm: Option<u64>,
}

impl Ruling {
    fn new(case: &Case<'_>, verdict: Verdict) -> Self {
        Self {
            verdict,
            status: case.report.status,
            severity: case.report.severity,
            external_id: case.key.map(str::to_owned),
            incident: None,
            note: None,
            until: None,
            rows: Vec::new(),
            withdraw: Vec::new(),
            further: Vec::new(),
            followers: Vec::new(),
            ticket: None,
            storm: None,
        }
    }

    fn count(case: &Case<'_>, reason: impl Into<String>) -> Self {
        Self::new(case, Verdict::Count { reason: reason.into() })
    }

    /// The event is told in the digest of this storm.
    pub fn fold_into(&mut self, storm: u64) {
        self.storm = Some(storm);
        if let Some(row) = self.rows.first_mut() {
            row.storm = Some(storm);
        }
    }
}

/// Decides what becomes of an event; `page` tells where the last page of a row is.
///
/// # Errors
/// Those of `page`.
pub fn rule<E>(
    case: &Case<'_>,
    page: impl Fn(&Row) -> Result<Page, E>,
    storms: &mut Storms,
    config: &Config,
) -> Result<Ruling, E> {
    let mut ruling = judge(case, page, storms, config)?;
    if case.will != Will::Follow {
        ruling.followers = follow(case.team, ruling.status, &mut ruling.rows);
    }
    Ok(ruling)
}

fn judge<E>(
    case: &Case<'_>,
    page: impl Fn(&Row) -> Result<Page, E>,
    storms: &mut Storms,
    config: &Config,
) -> Result<Ruling, E> {
    let laws = case.will == Will::Laws;
    if let Some(mail) = case.handed_in.filter(|_| laws) {
        let mut ruling = Ruling::count(case, format!("handed in again: it is mail {mail}"));
        ruling.incident =
            case.key.and_then(|key| claim::own(case.identity, key, case.rows)).map(|row| row.id);
        return Ok(ruling);
    }
    let Some(key) = case.key else {
        let mut verdict = match (case.report.muted, case.report.status) {
            _ if case.will == Will::Operator => released(case.report.status),
            (Some(reason), _) => Verdict::Mute { reason: reason.to_owned() },
            (None, Status::New) => Verdict::Page,
            (None, Status::Acknowledged | Status::Resolved) => Verdict::Pass,
        };
        let ticket = fold(case, &mut verdict, None, storms, config);
        return Ok(Ruling { ticket, ..Ruling::new(case, verdict) });
    };
    if case.report.status == Status::New {
        return open(case, key, case.report, &page, storms, config);
    }
    // The gateway's own digest of strangers' mails is theirs, and is closed by the gateway.
    if laws && case.identity.trust.is_stranger() && case.identity.key_source != KeySource::Operator {
        return Ok(Ruling::count(case, "nothing proves who sent it, so it closes and acknowledges nothing"));
    }
    if laws && case.replayed {
        return Ok(Ruling::count(case, "a replay: its signature was seen before"));
    }
    let since = case.now.checked_sub(case.retention).unwrap_or(Timestamp::MIN);
    match claim::claim(case.identity, key, case.rows, since) {
        Claim::Rows(rows, note) => close(case, key, &rows, note, &page, config),
        Claim::Page => {
            let report = Report { status: Status::New, severity: Some(Severity::Low), ..case.report };
            let mut ruling = open(case, key, report, &page, storms, config)?;
            let told = "nothing is known that this ends, so it pages as low";
            ruling.note.get_or_insert_with(|| told.to_owned());
            Ok(ruling)
        }
        Claim::Refused(_) | Claim::Unknown if case.will == Will::Follow => {
            let external_id = case.posted_as.unwrap_or(key).to_owned();
            Ok(Ruling { external_id: Some(external_id), ..Ruling::new(case, Verdict::Pass) })
        }
        Claim::Refused(_) if case.will == Will::Operator => Ok(Ruling::new(case, Verdict::Pass)),
        Claim::Refused(reason) => Ok(Ruling::count(case, reason)),
        Claim::Unknown => {
            let verdict = match case.report.muted.filter(|_| case.will != Will::Operator) {
                Some(reason) => Verdict::Mute { reason: reason.to_owned() },
                None => Verdict::Pass,
            };
            let row = advance(case, key, None, key, (&case.report, &verdict), (case.seq, None));
            let mut ruling = Ruling::new(case, verdict);
            ruling.incident = Some(row.id);
            ruling.rows.push(row);
            Ok(ruling)
        }
    }
}

/// What an operator's word makes of an event.
fn released(status: Status) -> Verdict {
    if status == Status::New { Verdict::Page } else { Verdict::Pass }
}

/// The row after one event of the case.
fn advance(
    case: &Case<'_>,
    key: &str,
    known: Option<&Row>,
    posted_id: &str,
    (report, verdict): (&Report<'_>, &Verdict),
    (seq, held): (u64, Option<u64>),
) -> Row {
    let step = Step { seq, report, identity: case.identity, verdict, held, now: case.now };
    Row::after(known, key, case.team, posted_id, &step)
}

/// An open: it joins the incident of its source, or begins one.
fn open<E>(
    case: &Case<'_>,
    key: &str,
    report: Report<'_>,
    page: &impl Fn(&Row) -> Result<Page, E>,
    storms: &mut Storms,
    config: &Config,
) -> Result<Ruling, E> {
    let own = claim::own(case.identity, key, case.rows);
    let begins = own.is_none_or(|row| row.incident.is_over_before(report.status));
    let posted_id = match own.filter(|_| !begins) {
        Some(row) => row.incident.external_id.clone(),
        None => claim::posted_id(case.identity, key, own, case.rows),
    };
    let mut ruling = Ruling::new(case, released(report.status));
    (ruling.status, ruling.severity) = (report.status, report.severity);
    ruling.incident = Some(own.map_or(case.seq, |row| row.id));
    if posted_id != key {
        ruling.note = Some(format!("`{key}` is held by another source, so SIGNL4 is told `{posted_id}`"));
    }
    ruling.external_id = Some(posted_id.clone());
    if case.will == Will::Operator {
        // What came after it says how the incident stands.
        let row = match own.filter(|row| row.last_seq > case.seq) {
            Some(later) => {
                let mut row = later.clone();
                row.incident.posted = true;
                row
            }
            None => advance(case, key, own, &posted_id, (&report, &ruling.verdict), (case.seq, None)),
        };
        ruling.rows.push(row);
        return Ok(ruling);
    }
    let at = own.map_or(Ok(Page::Gone), page)?;
    let before = own.map(|row| &row.incident);
    ruling.verdict = decide(before, at, &report, config, case.now);
    ruling.ticket = fold(case, &mut ruling.verdict, own.filter(|_| !begins), storms, config);
    let mut held = None;
    if let (Page::Held(until), Some(first)) = (at, own.and_then(|row| row.held_seq)) {
        if ruling.verdict.pages() {
            ruling.withdraw.push((first, "replaced by a later mail while it was held".to_owned()));
            if ruling.verdict == Verdict::Update {
                (held, ruling.until) = (Some(case.seq), Some(until));
            }
        } else {
            held = Some(first);
        }
    } else if ruling.verdict == Verdict::Page && case.will == Will::Laws && config.hold > SignedDuration::ZERO
    {
        held = Some(case.seq);
        ruling.until = case.now.checked_add(config.hold).ok();
    }
    let row = advance(case, key, own, &posted_id, (&report, &ruling.verdict), (case.seq, held));
    ruling.rows.push(row);
    Ok(ruling)
}

/// A close or an acknowledgement of `rows`, of which there is one at least.
fn close<E>(
    case: &Case<'_>,
    key: &str,
    rows: &[&Row],
    note: Option<String>,
    page: &impl Fn(&Row) -> Result<Page, E>,
    config: &Config,
) -> Result<Ruling, E> {
    let acknowledges = case.report.status == Status::Acknowledged;
    let mut ruling = Ruling::new(case, Verdict::Pass);
    let mut sent: Vec<String> = Vec::new();
    let mut numbers = case.seq..;
    let most = case.seq.saturating_add(case.room as u64);
    for (nth, &row) in rows.iter().enumerate() {
        // An acknowledgement leaves what is held where it is.
        let at = if acknowledges { Page::Gone } else { page(row)? };
        let id = &row.incident.external_id;
        let is_anothers = claim::is_anothers(row, rows, case.rows);
        let verdict = match case.will {
            _ if is_anothers => {
                Verdict::Count { reason: format!("`{id}` is the alert of another source, which stays open") }
            }
            Will::Operator => released(case.report.status),
            Will::Laws | Will::Notice | Will::Follow => {
                decide(Some(&row.incident), at, &case.report, config, case.now)
            }
        };
        let flaps = matches!(verdict, Verdict::Flap { .. });
        // One post closes all that shares its id and has nothing in the queue; what was never sent needs none.
        let needs_no_event = nth > 0
            && at == Page::Gone
            && (sent.contains(id) || !matches!(verdict, Verdict::Pass | Verdict::Mute { .. }));
        let seq = if needs_no_event { Some(case.seq) } else { numbers.next().filter(|&seq| seq <= most) };
        // In a block that is full, which takes a thousand events, the rest stays open.
        let Some(seq) = seq else { break };
        if verdict == Verdict::Pass {
            sent.push(id.clone());
        }
        let mut held = row.held_seq.filter(|_| !acknowledges && matches!(at, Page::Held(_)));
        if acknowledges {
            held = row.held_seq;
        }
        if let (true, Some(first), Verdict::Flap { reason }) = (flaps, row.held_seq, &verdict) {
            ruling.withdraw.push((first, reason.clone()));
            held = None;
        }
        // An operator may release an old close: what came after it says how the incident stands.
        if !(case.will == Will::Operator && row.last_seq > case.seq) {
            let mut after = advance(case, key, Some(row), id, (&case.report, &verdict), (seq, held));
            if is_anothers {
                after.close_seq = None;
            }
            ruling.rows.push(after);
        }
        if nth == 0 {
            ruling.incident = Some(row.id);
            ruling.external_id = Some(id.clone());
            ruling.verdict = verdict;
        } else if !needs_no_event {
            let external_id = id.clone();
            ruling.further.push(Further { seq, incident: row.id, external_id, verdict });
        }
    }
    shared_by_strangers(case, key, &sent, page, &mut ruling)?;
    ruling.note = note;
    Ok(ruling)
}

/// A stranger's incident that SIGNL4 knows by an id that was closed is closed there with it: its next open pages.
fn shared_by_strangers<E>(
    case: &Case<'_>,
    key: &str,
    sent: &[String],
    page: &impl Fn(&Row) -> Result<Page, E>,
    ruling: &mut Ruling,
) -> Result<(), E> {
    for row in claim::alerts(case.rows, sent).filter(|row| row.source.stranger) {
        if !ruling.rows.iter().any(|known| known.id == row.id) && page(row)? == Page::Gone {
            let step = (&case.report, &Verdict::Pass);
            let id = &row.incident.external_id;
            ruling.rows.push(advance(case, key, Some(row), id, step, (case.seq, None)));
        }
    }
    Ok(())
}

/// Folds an event that would page if there is a storm: the storm, if it does.
fn fold(
    case: &Case<'_>,
    verdict: &mut Verdict,
    own: Option<&Row>,
    storms: &mut Storms,
    config: &Config,
) -> Option<Ticket> {
    if !verdict.pages() || case.will != Will::Laws {
        return None;
    }
    let storm = config.storm.as_ref()?;
    let may_fold = verdict.may_fold(own.map(|row| &row.incident));
    let stranger = case.identity.trust.is_stranger();
    if let Some(guess) = case.identity.guess.as_ref().filter(|_| may_fold) {
        let flood = Flood { kind: Kind::Texts, stranger, source: Some(guess.base.clone()) };
        let raging = storms.raging(case.team, &flood);
        if raging.is_some() || case.texts >= TEXTS {
            *verdict = Verdict::Fold;
            return Some(Ticket { flood, storm: raging, excess: true });
        }
    }
    if case.identity.excess && may_fold {
        let flood = Flood { kind: Kind::Pages, stranger, source: Some(case.source.to_owned()) };
        *verdict = Verdict::Fold;
        return Some(Ticket { storm: storms.raging(case.team, &flood), flood, excess: true });
    }
    let critical = case.report.severity == Some(Severity::Critical);
    let measure = (storm, case.allowance);
    let ticket =
        storms.count((case.team, stranger), case.source, may_fold && !critical, measure, case.now)?;
    *verdict = Verdict::Fold;
    Some(ticket)
}

#[cfg(test)]
mod tests;
