//! What the rules must know of the site.

use jiff::tz::TimeZone;

use super::redact::Redaction;
use super::tlp::Tlp;
use crate::address::Pattern;
use crate::authenticity::Trusted;
use crate::event::{Scenario, Severity};
use crate::mail;

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
    /// How many people must acknowledge.
    pub scenario: Option<Scenario>,
}

impl Site {
    pub(super) fn service_of(&self, color: &str) -> Option<&str> {
        self.colors
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(color))
            .map(|(_, service)| service.as_str())
    }

    pub(super) fn paging_of(&self, severity: Severity) -> Option<&Paging> {
        self.severities.iter().find(|(of, _)| *of == severity).map(|(_, paging)| paging)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}
