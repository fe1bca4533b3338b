//! The `[rules]` section of the config: where the site's rule files are, and what the rules must know of
//! the site.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use regex::Regex;

use crate::document::{Located, Table};
use crate::event::{Severity, Words};
use crate::mail;

use super::redact::{RedactSet, Redaction};
use super::tlp::Tlp;
use super::{Paging, Site};
use crate::network::Network;

/// The `[rules]` section.
#[derive(Debug, Clone)]
pub struct Config {
    /// Files and folders of the site's rules, in order; a folder's `*.toml` in lexical order. Default: none.
    pub paths: Vec<PathBuf>,
    /// Whether the shipped rules run. Default: yes.
    pub shipped: bool,
    /// The networks whose mails may steer by `X-S4-*`. Default: loopback and private networks.
    pub trusted: Vec<Network>,
    /// Whether a mail from outside those networks closes and acknowledges though nothing proves who sent it.
    /// Default: no, it is a page.
    pub unproven_closes: bool,
    /// The domains, and those below them, whose word alone closes and acknowledges from outside those networks,
    /// in lower case; none if any domain may that is proven. Default: none.
    pub closing_domains: Option<Vec<String>>,
    /// Mails above this leave as a bare notice. Default: no limit.
    pub tlp_limit: Option<Tlp>,
    /// The shipped sets of redaction patterns that apply. Default: passwords and tokens.
    pub redact: Vec<RedactSet>,
    /// The site's own redaction patterns. Default: none.
    pub redact_patterns: Vec<Regex>,
    /// The time zone of conditions that name none. Default: UTC.
    pub zone: TimeZone,
    /// How each severity pages, where the rules do not say. Default: as SIGNL4 decides.
    pub severities: Vec<(Severity, Paging)>,
    /// Values for the rules, by name. Default: none.
    pub values: Vec<(String, String)>,
    /// The colours in `severities` and their places: each must have a service, which only the whole config
    /// can tell.
    pub colors: Vec<Located<String>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            shipped: true,
            trusted: Network::private(),
            unproven_closes: false,
            closing_domains: None,
            tlp_limit: None,
            redact: vec![RedactSet::Passwords, RedactSet::Tokens],
            redact_patterns: Vec::new(),
            zone: TimeZone::UTC,
            severities: Vec::new(),
            values: Vec::new(),
            colors: Vec::new(),
        }
    }
}

impl Config {
    /// Reads `[rules]`. The caller finishes the table.
    pub fn read(table: &mut Table<'_>) -> Self {
        let mut config = Self::default();
        if let Some(paths) = table.strings("paths") {
            config.paths = paths.into_iter().map(|path| path.value.into()).collect();
        }
        if let Some(shipped) = table.boolean("shipped") {
            config.shipped = shipped;
        }
        if let Some(networks) = table.strings("trusted") {
            config.trusted.clear();
            for text in networks {
                match text.value.parse() {
                    Ok(network) => config.trusted.push(network),
                    Err(_) => table.error(
                        text.span,
                        format!("`{}` is not a network", text.value),
                        "write \"192.0.2.0/24\", \"2001:db8::/32\" or one address",
                    ),
                }
            }
        }
        if let Some(unproven) = table.string("unproven-close") {
            match unproven.value.as_str() {
                "page" => config.unproven_closes = false,
                "pass" => config.unproven_closes = true,
                _ => table.error(
                    unproven.span,
                    format!("`unproven-close` cannot be `{}`", unproven.value.escape_debug()),
                    "\"page\": the mail pages; \"pass\": it closes",
                ),
            }
        }
        if let Some(domains) = table.strings("closing-domains") {
            let mut known = Vec::new();
            for text in domains {
                match domain(&text.value) {
                    Some(domain) => known.push(domain),
                    None => table.error(
                        text.span,
                        format!("`{}` is not a domain", text.value.escape_debug()),
                        "write \"example.org\", which stands for the domains below it as well",
                    ),
                }
            }
            config.closing_domains = Some(known);
        }
        config.tlp_limit = table.word("tlp-limit");
        if let Some(value) = table.value("redact")
            && let Some(sets) = value.array()
        {
            config.redact = sets.iter().filter_map(|set| set.word()).collect();
        }
        for text in table.strings("redact-patterns").unwrap_or_default() {
            match Regex::new(&text.value) {
                Ok(pattern) => config.redact_patterns.push(pattern),
                Err(error) => {
                    table.error(
                        text.span,
                        "the pattern is wrong",
                        error.to_string().lines().last().unwrap_or(""),
                    );
                }
            }
        }
        if let Some(zone) = table.string("time-zone") {
            match TimeZone::get(&zone.value) {
                Ok(found) => config.zone = found,
                Err(_) => table.error(
                    zone.span,
                    format!("there is no time zone `{}`", zone.value),
                    "a name of the tz database, such as \"Europe/Berlin\"",
                ),
            }
        }
        if let Some(severities) = table.table("severity") {
            config.severities = severity_table(severities, &mut config.colors);
        }
        if let Some(mut values) = table.table("values") {
            for (name, value) in values.entries() {
                config.values.extend(value.string().map(|text| (name.value, text.value)));
            }
        }
        config
    }

    /// What the rules must know of a site with these colours (and the service of each) and these teams.
    pub fn site(&self, colors: Vec<(String, String)>, teams: Vec<String>) -> Site {
        Site {
            colors,
            teams,
            trusted: self.trusted.clone(),
            unproven_closes: self.unproven_closes,
            closing_domains: self.closing_domains.clone(),
            severities: self.severities.clone(),
            tlp_limit: self.tlp_limit,
            mail: mail::Config::default(),
            redaction: Redaction::new(&self.redact, self.redact_patterns.iter().cloned()),
            zone: self.zone.clone(),
            values: self.values.clone(),
        }
    }
}

/// A domain as it is compared: in lower case, without the dot at the end.
fn domain(text: &str) -> Option<String> {
    let domain = text.strip_suffix('.').unwrap_or(text).to_lowercase();
    let label =
        |label: &str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || "-_".contains(c));
    domain.split('.').all(label).then_some(domain)
}

/// Reads `[rules.severity]`: `critical = { service = "...", color = "...", scenario = "..." }` and so on.
fn severity_table(mut table: Table<'_>, colors: &mut Vec<Located<String>>) -> Vec<(Severity, Paging)> {
    let mut read = Vec::new();
    for (word, severity) in Severity::WORDS {
        let Some(mut paging) = table.table(word) else { continue };
        let color = paging.string("color");
        colors.extend(color.clone());
        let found = Paging {
            service: paging.string("service").map(|text| text.value),
            color: color.map(|text| text.value),
            scenario: paging.word("scenario"),
        };
        paging.finish();
        read.push((*severity, found));
    }
    table.finish();
    read
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    #[test]
    fn every_key_is_read() {
        let text = concat!(
            "[rules]\npaths = ['a', 'b']\nshipped = false\ntrusted = ['192.0.2.0/24']\nunproven-close = 'pass'\nclosing-domains = ['Example.org.']\ntlp-limit = 'amber'\n",
            "redact = ['cards']\nredact-patterns = ['x+']\ntime-zone = 'UTC'\n",
            "[rules.severity]\nhigh = { service = 'S', color = 'red', scenario = 'multi_ack' }\n",
            "[rules.values]\nthehive = 'https://hive.example'\n",
        );
        let config = document::read(&Source::new("c", text), |root| {
            let mut table = root.table("rules").unwrap();
            let config = Config::read(&mut table);
            table.finish();
            config
        });
        let config = config.unwrap();
        assert_eq!((config.paths.len(), config.shipped, config.tlp_limit), (2, false, Some(Tlp::Amber)));
        assert!(config.unproven_closes);
        assert_eq!(config.closing_domains.as_deref(), Some(&["example.org".to_owned()][..]));
        assert_eq!(config.redact, [RedactSet::Cards]);
        assert_eq!(config.severities[0].1.service.as_deref(), Some("S"));
        assert_eq!(config.values, [("thehive".to_owned(), "https://hive.example".to_owned())]);
    }

    #[test]
    fn what_is_no_domain_closes_nothing() {
        assert_eq!(domain("Mon.Example.org."), Some("mon.example.org".to_owned()));
        for wrong in ["", ".", "*.example.org", ".example.org", "a@example.org", "example..org", "a b"] {
            assert_eq!(domain(wrong), None, "{wrong}");
        }
    }
}
