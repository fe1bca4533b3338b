//! The teams: their names, their secrets, and which recipients reach them.

use std::path::Path;

use crate::address::Pattern;
use crate::document::{Located, Table};

use super::{SecretSource, Signl4};

/// The name of the one team of a config that names none.
const ONLY_TEAM: &str = "default";

/// A SIGNL4 team.
#[derive(Debug, Clone)]
pub struct Team {
    /// Its name here, in rules, logs and listings.
    pub name: String,
    /// Where its secret is.
    pub secret: SecretSource,
    /// The recipients that reach it.
    pub recipients: Vec<Pattern>,
}

/// Which teams a recipient reaches.
#[derive(Debug, Clone)]
pub struct Routes(Vec<(String, Vec<Pattern>)>);

impl Routes {
    /// The routes to `teams`.
    pub fn new(teams: &[Team]) -> Self {
        Self(teams.iter().map(|team| (team.name.clone(), team.recipients.clone())).collect())
    }

    /// Whether there is a team of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(team, _)| team == name)
    }

    /// The teams that `address` reaches, in the order of the config. A single team without patterns takes
    /// every recipient.
    pub fn teams<'a>(&'a self, address: &'a str) -> impl Iterator<Item = &'a str> {
        let open = matches!(self.0.as_slice(), [(_, patterns)] if patterns.is_empty());
        self.0
            .iter()
            .filter(move |(_, patterns)| open || patterns.iter().any(|pattern| pattern.matches(address)))
            .map(|(team, _)| team.as_str())
    }
}

/// Reads `[[team]]`, or makes the one team of `[signl4]`.
pub(super) fn read(root: &mut Table<'_>, signl4: &Signl4, folder: &Path) -> Vec<Team> {
    let mut teams: Vec<Team> = Vec::new();
    let tables = root.tables("team");
    let several = tables.len() > 1;
    let mut reachable = false;
    let mut first = None;
    for mut table in tables {
        first = first.or_else(|| Some(table.span()));
        let span = table.span();
        let name = table.string("name").unwrap_or_else(|| {
            table.error(span.clone(), "this team has no name", "add `name = \"...\"`");
            Located { value: String::new(), span: span.clone() }
        });
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.value.is_empty() && !name.value.chars().all(plain) {
            table.error(
                name.span.clone(),
                "a team's name has letters, digits, `-`, `_` and `.` only",
                "choose a short one",
            );
        }
        if teams.iter().any(|team| team.name == name.value) {
            table.error(
                name.span.clone(),
                format!("there is a team `{}` already", name.value),
                "give each its own name",
            );
        }
        let secret = SecretSource::read_for(&mut table, folder, &name.value);
        let recipients = read_patterns(&mut table);
        reachable |= !recipients.is_empty();
        table.finish();
        teams.push(Team { name: name.value, secret, recipients });
    }
    match first {
        None => teams.push(Team {
            name: ONLY_TEAM.to_owned(),
            secret: signl4.secret.clone(),
            recipients: Vec::new(),
        }),
        Some(span) if several && !reachable => root.error(
            span,
            "no recipient reaches any of the teams, so every mail would be refused",
            "give at least one of them `recipients = [\"soc@*\"]`",
        ),
        Some(span) if signl4.secret.file.is_some() => root.error(
            span,
            "with [[team]] each team has its own secret, and that of [signl4] is used by none",
            "move `secret-file` from [signl4] to the team",
        ),
        Some(_) => {}
    }
    teams
}

fn read_patterns(table: &mut Table<'_>) -> Vec<Pattern> {
    let mut found = Vec::new();
    for text in table.strings("recipients").unwrap_or_default() {
        match text.value.parse::<Pattern>() {
            Ok(pattern) if !pattern.is_null() => found.push(pattern),
            _ => table.error(
                text.span,
                format!("`{}` is not a pattern for recipients", text.value),
                "an address, a local part, or either with `*` in it: \"soc@example.org\", \"soc\", \"*@example.org\"",
            ),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_team_without_patterns_takes_everybody() {
        let team = |name: &str, patterns: &[&str]| Team {
            name: name.into(),
            secret: SecretSource::default(),
            recipients: patterns.iter().map(|p| p.parse().unwrap()).collect(),
        };
        let one = Routes::new(&[team("a", &[])]);
        assert_eq!(one.teams("x@y").collect::<Vec<_>>(), ["a"]);
        let two = Routes::new(&[team("a", &["soc"]), team("b", &["*@lab"]), team("c", &[])]);
        assert_eq!(two.teams("soc@lab").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(two.teams("x@y").count(), 0);
    }
}
