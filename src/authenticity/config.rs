//! The `[authenticity]` section of the config.

use std::time::Duration;

use crate::document::Table;

/// The `[authenticity]` section. The defaults are those of [`Config::default`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `check`: which mails are checked. Those from outside the trusted networks.
    pub check: Check,
    /// `trusted-authserv-ids`: the names under which relays in the trusted networks write
    /// Authentication-Results that are believed, and spare the check. None.
    pub authserv_ids: Vec<String>,
    /// `relay-removes-forged`: whether those relays take out of each mail what others wrote under their names,
    /// as RFC 8601 section 5 demands. If so, results below their own Received field are believed too. No.
    pub relay_removes_forged: bool,
    /// `trusted-arc-sealers`: the domains, and those below them, whose ARC seal counts: what such a sealer found of DMARC
    /// is taken, if its chain is valid. In lower case; none.
    pub arc_sealers: Vec<String>,
    /// `reject`: whether a mail that fails DMARC is refused if its domain wants that. No: it pages.
    pub reject: bool,
    /// `timeout`: how long a check may take. 5 seconds: senders wait for it, and the most impatient that are
    /// known wait 40.
    pub timeout: Duration,
}

/// Which mails are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Those that came from outside the trusted networks, whose client has not authenticated itself.
    Outside,
    /// Every mail that came by SMTP.
    All,
    /// None.
    None,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            check: Check::Outside,
            authserv_ids: Vec::new(),
            relay_removes_forged: false,
            arc_sealers: Vec::new(),
            reject: false,
            timeout: Duration::from_secs(5),
        }
    }
}

/// Longest time that a check may be given: below the 40 seconds that senders wait at least.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(30);

impl Config {
    /// Reads the section. The caller finishes the table.
    pub fn read(table: &mut Table<'_>) -> Self {
        let mut config = Self::default();
        if let Some(value) = table.value("check") {
            if value.type_name() == "boolean" {
                config.check = if value.boolean() == Some(true) { Check::All } else { Check::None };
            } else if let Some(word) = value.string()
                && word.value != "auto"
            {
                table.error(
                    word.span,
                    format!("`check` cannot be `{}`", word.value.escape_debug()),
                    "\"auto\" for mails from outside the trusted networks, `true` for all, `false` for none",
                );
            }
        }
        for id in table.strings("trusted-authserv-ids").unwrap_or_default() {
            if id.value.is_empty() || id.value.contains(|c: char| c.is_whitespace() || c == ';') {
                table.error(
                    id.span,
                    format!("`{}` is not an authserv-id", id.value.escape_debug()),
                    "the first word of the relay's Authentication-Results, such as \"mx.example.org\"",
                );
            } else {
                config.authserv_ids.push(id.value);
            }
        }
        if let Some(removes) = table.boolean("relay-removes-forged") {
            config.relay_removes_forged = removes;
        }
        for sealer in table.strings("trusted-arc-sealers").unwrap_or_default() {
            let name = sealer.value.trim_end_matches('.').to_lowercase();
            let is_domain = name.contains('.')
                && name.split('.').all(|label| !label.is_empty())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
            if is_domain {
                config.arc_sealers.push(name);
            } else {
                table.error(
                    sealer.span,
                    format!("`{}` is not the domain of a sealer", sealer.value.escape_debug()),
                    "the `d=` of its ARC-Seal: \"microsoft.com\" for Microsoft 365, \"google.com\" for Google Workspace",
                );
            }
        }
        if let Some(reject) = table.boolean("reject") {
            config.reject = reject;
        }
        let span = table.value("timeout").map(|value| value.span());
        if let Some(timeout) = table.duration("timeout") {
            if timeout.is_zero() || timeout > LONGEST_TIMEOUT {
                table.error(
                    span.unwrap_or_else(|| table.span()),
                    "`timeout` is out of range",
                    "between \"1s\" and \"30s\": senders wait for it",
                );
            }
            config.timeout = timeout;
        }
        config
    }
}
