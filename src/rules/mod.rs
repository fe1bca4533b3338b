//! The rules: what a mail means. Rule files in TOML become a [`RuleSet`], and that judges mails: each
//! becomes events, or is dropped for a reason. The language and its laws are in `rules/README.md`.
//!
//! Loading finds every error at once, each with its place. Judging is total and deterministic: every
//! mail gets a judgement, no input makes it slower than linear, and the same rules and mail give the same
//! judgement. Left out: reading files and mails, and everything that happens to an event afterwards.

mod alone;
mod attach;
mod condition;
mod config;
mod draft;
mod example;
mod field;
mod file;
mod ground;
mod guess;
mod identity;
mod judge;
mod lines;
mod load;
mod names;
mod outcome;
mod parameters;
mod pattern;
mod quoted;
mod reach;
mod redact;
mod schedule;
mod senders;
mod stranger;
mod template;
mod tlp;
mod trace;
mod when;
mod wrapped;

pub use alone::When;
pub use config::Config;
pub use example::{Deviation, Example, ExampleMail};
pub use redact::{RedactSet, Redaction};
pub use schedule::{Schedule, read_zone};
pub use senders::senders;
pub use tlp::Tlp;
pub use trace::{Change, Dropped, Matched, Origin, Outcome, Piece, RuleTrace, SourceTrace, Tested, Trace};

use std::cell::OnceCell;
use std::fmt;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::address::Pattern;
use crate::authenticity::{Standing, Trusted};
use crate::diagnostic::{Diagnostic, Source};
use crate::event::{Event, Scenario, Severity};
use crate::mail::{self, Envelope, Message, Trust};
use crate::words::Words;

macro_rules! shipped {
    ($($file:literal),* $(,)?) => {
        &[$((concat!("rules/", $file), include_str!(concat!("../../rules/", $file)))),*]
    };
}

/// The shipped rule files by name, in the order in which they run.
const SHIPPED: &[(&str, &str)] = shipped![
    "20-thehive4.toml",
    "21-thehive4-template.toml",
    "22-cortex.toml",
    "23-cortex-incident.toml",
    "24-thehive5.toml",
    "25-thehive4-other.toml",
    "30-nagios.toml",
    "31-icinga2.toml",
    "32-zabbix.toml",
    "33-alertmanager.toml",
    "34-grafana.toml",
    "35-prtg-languages.toml",
    "35-prtg.toml",
    "36-uptime-kuma.toml",
    "37-monit.toml",
    "38-xymon.toml",
    "39-collectd.toml",
    "40-xsoar.toml",
    "41-xsiam.toml",
    "42-misp.toml",
    "43-wazuh.toml",
    "44-splunk.toml",
    "45-veeam.toml",
    "46-munin.toml",
    "50-cron.toml",
    "51-mdadm.toml",
    "52-smartd.toml",
    "53-logwatch.toml",
    "54-apcupsd.toml",
    "55-fail2ban.toml",
    "56-aide.toml",
    "57-rkhunter.toml",
    "58-logcheck.toml",
    "59-arpwatch.toml",
    "60-backupninja.toml",
    "61-unattended-upgrades.toml",
    "62-apt-listchanges.toml",
    "63-elastalert.toml",
    "64-django.toml",
    "65-python.toml",
    "66-crashmail.toml",
    "70-checkmk.toml",
    "71-fortigate.toml",
    "72-idrac.toml",
    "73-ilo.toml",
    "74-synology.toml",
    "75-qnap.toml",
    "76-proxmox.toml",
    "77-truenas.toml",
    "78-pfsense.toml",
    "79-graylog.toml",
    "80-suricata.toml",
    "81-crowdsec.toml",
    "82-sentinel.toml",
    "83-defender.toml",
    "84-sentinelone.toml",
    "85-crowdstrike.toml",
    "86-elastic.toml",
    "87-healthchecks.toml",
    "89-marks.toml",
    "90-signl4.toml",
    "95-answers.toml",
];

/// The rule files that are compiled in, in the order in which they run.
pub fn shipped() -> Vec<Source> {
    SHIPPED.iter().map(|(path, text)| Source::new(*path, *text)).collect()
}

/// Whether `source` is a shipped one as it was shipped.
fn is_shipped(source: &Source) -> bool {
    SHIPPED.iter().any(|(path, text)| *path == &*source.path && *text == &*source.text)
}

/// The severity that `text` is a word for.
fn severity_word(text: &str) -> Option<Severity> {
    Severity::from_word(text.trim())
}

/// What the rules must know of the site.
#[derive(Debug, Clone)]
pub struct Site {
    /// Colours and the name of the service that has each in SIGNL4.
    pub colors: Vec<(String, String)>,
    /// The names of the teams.
    pub teams: Vec<String>,
    /// The networks and domains that the site trusts.
    pub trusted: Trusted,
    /// The highest severity of a stranger's event that a shipped rule sets; none if it is not capped.
    pub stranger_severity: Option<Severity>,
    /// The From mailboxes whose `X-S4-*` lines in a body count also where a shipped rule knows the product.
    pub parameter_senders: Vec<Pattern>,
    /// From mailboxes and the name of the installation that each sends for; the first that matches.
    pub instances: Vec<(Pattern, String)>,
    /// How each severity pages, where the rules do not say.
    pub severities: Vec<(Severity, Paging)>,
    /// Mails above this leave as a bare notice.
    pub tlp_limit: Option<Tlp>,
    /// What the site's mail system does to mails on their way.
    pub mail: mail::Config,
    /// What is replaced in everything that leaves.
    pub redaction: Redaction,
    /// The time zone of conditions that name none.
    pub zone: TimeZone,
    /// Values for the rules, by name: `site.NAME`.
    pub values: Vec<(String, String)>,
}

/// How a severity pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Paging {
    /// The service by name.
    pub service: Option<String>,
    /// The colour, which stands for a service.
    pub color: Option<String>,
    /// Who must acknowledge.
    pub scenario: Option<Scenario>,
}

impl Default for Site {
    /// No teams, no colours, private networks trusted, passwords and tokens redacted.
    fn default() -> Self {
        Config::default().site(Vec::new(), Vec::new())
    }
}

impl Site {
    fn service_of(&self, color: &str) -> Option<&str> {
        self.colors
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(color))
            .map(|(_, service)| service.as_str())
    }

    fn paging_of(&self, severity: Severity) -> Option<&Paging> {
        self.severities.iter().find(|(of, _)| *of == severity).map(|(_, paging)| paging)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// A mail on its way to a team.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What was sent.
    pub message: &'a Message,
    /// How it came.
    pub envelope: &'a Envelope,
    /// The team that the recipient stands for.
    pub team: &'a str,
}

/// What the rules make of a mail.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The events; none only if the mail was dropped.
    pub events: Vec<Event>,
    /// The rule that dropped it, and why.
    pub dropped: Option<Dropped>,
    /// What the rules did.
    pub trace: Trace,
}

/// Rules that are ready to judge.
pub struct RuleSet {
    sheets: Vec<load::Sheet>,
    filters: Vec<load::FieldFilter>,
    site: Site,
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.sheets.iter().map(|sheet| (&sheet.name, sheet.rules.len()));
        f.debug_map().entries(sources).finish()
    }
}

impl RuleSet {
    /// Loads `sources` in order: the shipped ones first ([`shipped()`]), then the site's. A source that is
    /// byte for byte a shipped one may ask for colours and values that the site does not have.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the sources and of the places in them.
    pub fn load(sources: &[Source], site: Site) -> Result<Self, Vec<Diagnostic>> {
        let (sheets, filters) = load::load(sources, &site)?;
        Ok(Self { sheets, filters, site })
    }

    /// Every rule in the order in which they run: its source and its name.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.sheets.iter().flat_map(|sheet| sheet.rules.iter().map(move |rule| (sheet, rule)));
        all.map(|(sheet, rule)| (&*sheet.name, &*rule.name))
    }

    /// How an event pages that no rule made: as the site says for its severity.
    pub fn page(&self, event: &mut Event) {
        let Some(paging) = event.severity.and_then(|severity| self.site.paging_of(severity)) else { return };
        event.color = paging.color.clone();
        let of_color = || paging.color.as_deref().and_then(|color| self.site.service_of(color));
        event.service = paging.service.as_deref().or_else(of_color).map(str::to_owned);
        event.scenario = paging.scenario;
    }

    /// The mail as its sender wrote it: what is known to be done to mails on their way, and what the site says, is undone.
    pub fn read(&self, content: &[u8]) -> Message {
        Message::parse_for(content, &self.site.mail)
    }

    /// Who vouches for a mail.
    pub fn standing(&self, message: &Message, envelope: &Envelope) -> Standing {
        self.site.trusted.standing(message, envelope)
    }

    /// What the rules make of a mail. The trace tells which rules held, and no more.
    pub fn judge(&self, subject: &Subject<'_>) -> Judgement {
        self.run(subject, false)
    }

    /// The same judgement, with every test, every match and every change in the trace.
    pub fn judge_traced(&self, subject: &Subject<'_>) -> Judgement {
        self.run(subject, true)
    }

    /// Judges the mail, and if a signature proves it, once more without what that leaves out. If it then would be about
    /// something else, or not close, it is not proven: a change of that field may have made it say so.
    fn run(&self, subject: &Subject<'_>, full: bool) -> Judgement {
        let judgement = self.run_once(subject, full);
        let envelope = subject.envelope;
        let Some(found) = envelope.authenticity.as_deref().filter(|found| !found.unsigned.is_empty()) else {
            return judgement;
        };
        if self.standing(subject.message, envelope).trust != Trust::Proven || found.proven.is_none() {
            return judgement;
        }
        let signed = subject.message.without(&found.unsigned);
        let other = self.run_once(&Subject { message: &signed, envelope, team: subject.team }, false);
        let about = |judgement: &Judgement| -> Vec<_> {
            let events = judgement.events.iter();
            events.map(|event| (event.status, event.external_id.clone())).collect()
        };
        if about(&judgement) == about(&other) {
            return judgement;
        }
        let mut envelope = envelope.clone();
        envelope.authenticity.iter_mut().for_each(|found| found.proven = None);
        self.run_once(&Subject { message: subject.message, envelope: &envelope, team: subject.team }, full)
    }

    fn run_once(&self, subject: &Subject<'_>, full: bool) -> Judgement {
        let standing = OnceCell::new();
        let whole = self.ground(subject, judge::text_of(subject.message), &standing);
        let (texts, split) = judge::pieces(self, &whole);
        let written = outcome::written_tlp(self, subject);
        let mut judgement = Judgement { events: Vec::new(), dropped: None, trace: Trace::default() };
        let mut part = outcome::Part { at: 0, of: texts.len(), start: 0, split, written };
        if texts.len() == 1 {
            // What was found in the whole need not be found again in its only piece.
            self.judge_part(subject, &whole, part, full, &mut judgement);
        } else {
            for (at, text) in texts.into_iter().enumerate() {
                part.at = at;
                let ground = self.ground(subject, text, &standing);
                self.judge_part(subject, &ground, part, full, &mut judgement);
                part.start += text.len();
            }
        }
        if !judgement.events.is_empty() {
            judgement.dropped = None;
        }
        judgement
    }

    fn judge_part<'g>(
        &'g self,
        subject: &Subject<'_>,
        ground: &'g ground::Ground<'g>,
        part: outcome::Part,
        full: bool,
        judgement: &mut Judgement,
    ) {
        let (draft, mut piece) = judge::Run::new(self, ground, full).judge(part.split);
        match &draft.dropped {
            Some(dropped) => judgement.dropped = Some(dropped.clone()),
            None => {
                judgement
                    .events
                    .extend(outcome::events(self, subject, ground, &draft, part, full, &mut piece));
            }
        }
        judgement.trace.pieces.push(piece);
    }

    fn ground<'m>(
        &'m self,
        subject: &Subject<'m>,
        text: &'m str,
        standing: &'m OnceCell<Standing>,
    ) -> ground::Ground<'m> {
        ground::Ground::new(subject, text, &self.site, standing, self.filters.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<RuleSet>();
    }

    #[test]
    fn a_source_is_shipped_only_as_it_was_shipped() {
        let mut sources = shipped();
        assert!(sources.iter().all(is_shipped));
        sources[0].text = format!("{}\n", sources[0].text).into();
        assert!(!is_shipped(&sources[0]));
    }
}
