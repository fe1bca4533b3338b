//! The `[rules]` section of the config: where the site's rule files are, and what the rules must know of
//! the site.

use std::path::PathBuf;
use strum::VariantArray;

use jiff::tz::TimeZone;
use regex::Regex;

use crate::address::Pattern;
use crate::authenticity::Trusted;
use crate::diagnostic::suggest;
use crate::document::{Located, Table};
use crate::event::Severity;
use crate::mail;
use crate::network::Network;
use crate::words::Words;

use super::redact::{RedactSet, Redaction};
use super::site::{Paging, Site};
use super::tlp::Tlp;

/// Longest name of an installation in characters: it stands in external ids.
const INSTANCE_LIMIT: usize = 64;

/// The `[rules]` section.
#[derive(Debug, Clone)]
pub struct Config {
    /// Files and folders of the site's rules, in order; a folder's `*.toml` in lexical order. Default: none.
    pub paths: Vec<PathBuf>,
    /// Whether the shipped rules run. Default: yes.
    pub shipped: bool,
    /// The networks whose mails may steer by `X-S4-*`. Default: loopback and private networks.
    pub trusted: Vec<Network>,
    /// The domains, and those below them, whose mail from outside those networks is proven by DMARC or DKIM, in lower
    /// case. Default: none.
    pub closing_domains: Vec<String>,
    /// The highest severity of a stranger's event that a shipped rule sets; none if it is not capped. Default: medium.
    pub stranger_severity: Option<Severity>,
    /// The From mailboxes whose `X-S4-*` lines in a body count also where a shipped rule knows the product.
    /// Default: none.
    pub parameter_senders: Vec<Pattern>,
    /// From mailboxes and the name of the installation that each sends for. Default: each mailbox is its own.
    pub instances: Vec<(Pattern, String)>,
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
            closing_domains: Vec::new(),
            stranger_severity: Some(Severity::Medium),
            parameter_senders: Vec::new(),
            instances: Vec::new(),
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
        if let Some(unproven) = table.value("unproven-close") {
            table.error(
                unproven.span(),
                "there is no `unproven-close` any more: a mail that nothing proves closes no alert",
                "take the line out, and name whose mail is yours: `closing-domains = [\"example.org\"]` for domains \
                 by DKIM and DMARC, `trusted` for networks",
            );
        }
        config.closing_domains = closing_domains(table);
        config.stranger_severity = stranger_severity(table).unwrap_or(config.stranger_severity);
        config.parameter_senders = patterns(table, "parameter-senders");
        config.instances = instances(table);
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

    /// The networks and domains that the site trusts.
    pub fn trusted(&self) -> Trusted {
        Trusted { networks: self.trusted.clone(), domains: self.closing_domains.clone() }
    }

    /// What the rules must know of a site with these colours (and the service of each) and these teams.
    pub fn site(&self, colors: Vec<(String, String)>, teams: Vec<String>) -> Site {
        Site {
            colors,
            teams,
            trusted: self.trusted(),
            stranger_severity: self.stranger_severity,
            parameter_senders: self.parameter_senders.clone(),
            instances: self.instances.clone(),
            severities: self.severities.clone(),
            tlp_limit: self.tlp_limit,
            mail: mail::Config::default(),
            redaction: Redaction::new(&self.redact, self.redact_patterns.iter().cloned()),
            zone: self.zone.clone(),
            values: self.values.clone(),
        }
    }
}

/// Reads `closing-domains`.
fn closing_domains(table: &mut Table<'_>) -> Vec<String> {
    let mut known = Vec::new();
    for text in table.strings("closing-domains").unwrap_or_default() {
        match domain(&text.value) {
            Some(domain) => known.push(domain),
            None => table.error(
                text.span,
                format!("`{}` is not a domain", text.value.escape_debug()),
                "write \"example.org\", which stands for the domains below it as well",
            ),
        }
    }
    known
}

/// Reads `stranger-severity`: a severity, or `"off"` for no cap.
fn stranger_severity(table: &mut Table<'_>) -> Option<Option<Severity>> {
    let word = table.string("stranger-severity")?;
    if word.value.eq_ignore_ascii_case("off") {
        return Some(None);
    }
    let severity = Severity::from_word(&word.value);
    if severity.is_none() {
        let known = Severity::words().chain(["off"]);
        let help = suggest(&word.value, known);
        let message = format!("`stranger-severity` cannot be `{}`", word.value.escape_debug());
        table.error(word.span, message, help);
    }
    Some(severity)
}

/// Reads a list of patterns for From mailboxes.
fn patterns(table: &mut Table<'_>, key: &'static str) -> Vec<Pattern> {
    let texts = table.strings(key).unwrap_or_default();
    texts.iter().filter_map(|text| pattern(table, text)).collect()
}

/// Reads `[rules.instances]`: mailboxes and the name of the installation behind each. Those without `*` come first,
/// so that the order of the lines says nothing.
fn instances(table: &mut Table<'_>) -> Vec<(Pattern, String)> {
    let Some(mut lines) = table.table("instances") else { return Vec::new() };
    let mut found: Vec<(bool, Pattern, String)> = Vec::new();
    for (mailbox, value) in lines.entries() {
        let Some(name) = value.string() else { continue };
        if name.value.is_empty()
            || name.value.chars().count() > INSTANCE_LIMIT
            || name.value.contains(|c: char| c.is_whitespace() || mail::is_hidden(c))
        {
            lines.error(
                name.span,
                format!("`{}` is not a name for an installation", name.value.escape_debug()),
                "one word, such as \"zabbix-berlin\"; two mailboxes of one installation have the same",
            );
        } else if let Some(pattern) = pattern(&mut lines, &mailbox) {
            found.push((mailbox.value.contains('*'), pattern, name.value));
        }
    }
    found.sort_by_key(|(wide, ..)| *wide);
    found.into_iter().map(|(_, pattern, name)| (pattern, name)).collect()
}

fn pattern(table: &mut Table<'_>, text: &Located<String>) -> Option<Pattern> {
    let pattern = text.value.parse().ok();
    if pattern.is_none() {
        table.error(
            text.span.clone(),
            format!("`{}` is not a pattern for senders", text.value.escape_debug()),
            "the address in From, either part with `*` in it for any characters: \"zabbix@example.org\"",
        );
    }
    pattern
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
    for &severity in Severity::VARIANTS {
        let Some(mut paging) = table.table(severity.word()) else { continue };
        let color = paging.string("color");
        colors.extend(color.clone());
        let found = Paging {
            service: paging.string("service").map(|text| text.value),
            color: color.map(|text| text.value),
            scenario: paging.word("scenario"),
        };
        paging.finish();
        read.push((severity, found));
    }
    table.finish();
    read
}

impl Default for Site {
    /// No teams, no colours, private networks trusted, passwords and tokens redacted.
    fn default() -> Self {
        Config::default().site(Vec::new(), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document;

    #[test]
    fn every_key_is_read() {
        let text = concat!(
            "[rules]\npaths = ['a', 'b']\nshipped = false\ntrusted = ['192.0.2.0/24']\nclosing-domains = ['Example.org.']\nstranger-severity = 'off'\nparameter-senders = 'xsoar@*'\ntlp-limit = 'amber'\n",
            "redact = ['cards']\nredact-patterns = ['x+']\ntime-zone = 'UTC'\n",
            "[rules.severity]\nhigh = { service = 'S', color = 'red', scenario = 'multi_ack' }\n",
            "[rules.instances]\n'*@b.example' = 'any'\n'Zabbix@b.example' = 'zabbix-berlin'\n",
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
        assert_eq!(config.closing_domains, ["example.org"]);
        assert_eq!(config.stranger_severity, None);
        assert!(config.parameter_senders[0].matches("XSOAR@soc.example"));
        let names: Vec<_> = config.instances.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["zabbix-berlin", "any"], "the exact mailbox is asked first");
        assert_eq!(config.redact, [RedactSet::Cards]);
        assert_eq!(config.severities[0].1.service.as_deref(), Some("S"));
        assert_eq!(config.values, [("thehive".to_owned(), "https://hive.example".to_owned())]);
    }

    #[test]
    fn what_cannot_be_is_said_at_its_place() {
        let wrong = |line: &str| {
            let source = Source::new("c", format!("[rules]\n{line}\n"));
            let read = document::read(&source, |root| {
                let mut table = root.table("rules").unwrap();
                Config::read(&mut table);
                table.finish();
            });
            let found = read.unwrap_err();
            assert_eq!(found.len(), 1, "{found:?}");
            format!("{} ({})", found[0].message, found[0].help.as_deref().unwrap_or_default())
        };
        let gone = wrong("unproven-close = 'pass'");
        assert!(gone.contains("no `unproven-close` any more") && gone.contains("closing-domains"), "{gone}");
        assert!(wrong("stranger-severity = 'hihg'").contains("did you mean `high`"));
        assert!(wrong("parameter-senders = ['a b']").contains("not a pattern for senders"));
        assert!(wrong("instances = { 'a b' = 'x' }").contains("not a pattern for senders"));
        assert!(wrong("instances = { 'a@b' = 'two words' }").contains("not a name for an installation"));
    }

    #[test]
    fn what_is_no_domain_closes_nothing() {
        assert_eq!(domain("Mon.Example.org."), Some("mon.example.org".to_owned()));
        for wrong in ["", ".", "*.example.org", ".example.org", "a@example.org", "example..org", "a b"] {
            assert_eq!(domain(wrong), None, "{wrong}");
        }
    }
}
