//! `[[expect]]`: mails that must come again and again.

use std::time::Duration;

use crate::document::Table;
use crate::event::Severity;
use crate::rules::{self, StandaloneCondition};

use super::teams::Team;

/// The shortest time in which a mail can be expected.
const SHORTEST: Duration = Duration::from_secs(60);

/// A mail that must come.
#[derive(Debug, Clone)]
pub struct Expect {
    /// Its name, in listings and in the external id of its alert.
    pub name: String,
    /// Which mails count.
    pub when: StandaloneCondition,
    /// Whether a stranger's mail counts as well. Default: no; anybody can write one.
    pub strangers: bool,
    /// The longest time from one to the next.
    pub within: Duration,
    /// The team that is paged if none comes. Default: the first.
    pub team: String,
    /// How bad that is. Default: high.
    pub severity: Severity,
    /// The title of the alert. Default: made of the name.
    pub title: String,
}

/// Reads every `[[expect]]`.
pub(super) fn read(root: &mut Table<'_>, rules: &rules::Config, teams: &[Team]) -> Vec<Expect> {
    let mut found: Vec<Expect> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for mut table in root.tables("expect") {
        let name = super::names::name_of(&mut table, "expected mail", names.iter().map(String::as_str));
        names.push(name.clone());
        if !table.has("when") {
            table.error(
                table.span(),
                "it is not said which mail is expected",
                "add `when = { subject = '^Backup' }`",
            );
        }
        let when = StandaloneCondition::read(&mut table, rules);
        let span = table.value("within").map(|value| value.span());
        let within = table.duration("within");
        match (&span, within) {
            (None, _) => table.error(
                table.span(),
                "it is not said how long this mail may take",
                "add `within = \"26h\"`: the longest time from one to the next, with some to spare",
            ),
            (Some(span), Some(within)) if within < SHORTEST => {
                table.error(span.clone(), "`within` is too short", "at least \"1m\"");
            }
            _ => (),
        }
        let strangers = table.boolean("strangers").unwrap_or(false);
        let team = super::names::team_of(&mut table, teams);
        let severity = table.word("severity").unwrap_or(Severity::High);
        let title = table.string("title").map(|title| title.value).filter(|title| !title.trim().is_empty());
        let title = title.unwrap_or_else(|| format!("Expected mail did not come: {name}"));
        table.finish();
        if let (Some(when), Some(within)) = (when, within) {
            found.push(Expect { name, when, strangers, within, team, severity, title });
        }
    }
    found
}
