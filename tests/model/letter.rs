//! What is said to a gateway in a history: mails in words that the rules of the model read.

use super::record::{Millis, Repeat, Status};

/// The teams; in the simulated histories each but the first has the one before as its fallback.
pub const TEAMS: [&str; 3] = ["soc", "ops", "lab"];

/// The words of the severities, from 0 on.
const WORTH: [&str; 5] = ["critical", "high", "medium", "low", "info"];

/// A mail.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The teams that it is for.
    pub teams: Vec<usize>,
    /// Its incident; none if it has no key.
    pub incident: Option<u16>,
    pub status: Status,
    pub severity: Option<u8>,
    pub source: u8,
    /// Whether SIGNL4 refuses what is made of it.
    pub refused: bool,
}

/// How the rules treat repeats of an incident, and whether they give it its quiet time: its number says it.
pub fn repeat(incident: Option<u16>) -> (Repeat, bool) {
    match incident.map(|incident| incident % 8) {
        Some(5) => (Repeat::Count, false),
        Some(6) => (Repeat::Update, false),
        Some(7) => (Repeat::Quiet, true),
        _ => (Repeat::Quiet, false),
    }
}

/// What ties the mails of an incident together. The last number says how the rules treat repeats.
fn key(incident: u16) -> String {
    format!("incident-{incident}-{}", incident % 8)
}

/// The incident of a key.
pub fn read_key(key: &str) -> Option<u16> {
    key.strip_prefix("incident-")?.split('-').next()?.parse().ok()
}

/// The number of a mail and what is special about it: `m12` is fine, `m12x` is refused.
pub fn read_title(title: &str) -> Option<(u32, bool)> {
    let rest = title.strip_prefix('m')?;
    let (digits, marked) = rest.strip_suffix('x').map_or((rest, false), |digits| (digits, true));
    Some((digits.parse().ok()?, marked))
}

impl Letter {
    /// A mail that opens `incident` for `team`.
    pub fn open(incident: u16, team: usize, severity: u8) -> Self {
        let (incident, severity) = (Some(incident), Some(severity));
        Self { teams: vec![team], incident, status: Status::New, severity, source: 0, refused: false }
    }

    /// The mail as it is sent for the `serial`th time that any is, with CRLF line ends.
    pub fn content(&self, serial: u32) -> String {
        let worth = self.severity.map_or("unsaid", |severity| WORTH[usize::from(severity)]);
        let word = match self.status {
            Status::New => "new",
            Status::Acknowledged => "acknowledged",
            Status::Resolved => "resolved",
        };
        let key = self.incident.map_or("none".to_owned(), key);
        let mark = if self.refused { "x" } else { "" };
        let subject = format!("m{serial}{mark} product{} {word} {worth} {key}", self.source);
        format!("From: tool@site.example\r\nSubject: {subject}\r\n\r\nText.\r\n")
    }

    /// Its recipients.
    pub fn recipients(&self) -> Vec<String> {
        self.teams.iter().map(|&team| format!("{}@site.example", TEAMS[team])).collect()
    }
}

/// Rules that read such mails and say of themselves which they are; `quiet` is the quiet time that they give some incidents.
pub fn rules(generation: u32, quiet: Millis) -> String {
    format!(
        "version = 1\n[source]\nname = 'Model'\n\
         when = {{ subject = '^(?<serial>m\\d+x?) (?<product>\\S+) (?<word>\\S+) (?<worth>\\S+) (?<key>\\S+)$' }}\n\
         [[rule]]\nname = 'all'\n\
         set = {{ title = '{{{{ serial }}}}', status = '{{{{ word }}}}', severity = '{{{{ worth }}}}', source-system = '{{{{ product }}}}', \
         tile.Generation = '{generation}' }}\n\
         [[rule]]\nname = 'key'\nwhen = {{ key = '^incident' }}\nset = {{ external-id = '{{{{ key }}}}' }}\n\
         [[rule]]\nname = 'count'\nwhen = {{ key = '-5$' }}\nset = {{ repeat = 'count' }}\n\
         [[rule]]\nname = 'update'\nwhen = {{ key = '-6$' }}\nset = {{ repeat = 'update' }}\n\
         [[rule]]\nname = 'quiet'\nwhen = {{ key = '-7$' }}\nset = {{ quiet = '{}s' }}\n",
        quiet / 1_000
    )
}
