//! The teams: their names, their secrets, and which recipients reach them.

use std::path::Path;

use crate::address::Pattern;
use crate::delivery::DEFAULT_ACCOUNT;
use crate::diagnostic::suggest;
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
    /// The SIGNL4 account that its secret belongs to, by any name.
    pub account: String,
    /// The team that gets its events while its secret is refused for long.
    pub fallback: Option<String>,
}

/// Which teams a recipient reaches.
#[derive(Debug, Clone)]
pub struct Routes(Vec<(String, Vec<Pattern>)>);

impl Routes {
    /// The routes to `teams`.
    pub fn new(teams: &[Team]) -> Self {
        Self(teams.iter().map(|team| (team.name.clone(), team.recipients.clone())).collect())
    }

    /// The teams that `recipients` reach, each once, in the order of the recipients; the first team of the config if
    /// they reach none, as those of a mail that a program hands in may.
    pub fn reached(&self, recipients: &[String]) -> Vec<String> {
        let mut teams: Vec<String> = Vec::new();
        for team in recipients.iter().flat_map(|recipient| self.teams(recipient)) {
            if !teams.iter().any(|known| known == team) {
                teams.push(team.to_owned());
            }
        }
        if teams.is_empty() {
            teams.extend(self.0.first().map(|(first, _)| first.clone()));
        }
        teams
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
    let mut fallbacks = Vec::new();
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
        let account = read_account(&mut table);
        let fallback = table.string("fallback");
        reachable |= !recipients.is_empty();
        table.finish();
        let to = fallback.as_ref().map(|fallback| fallback.value.clone());
        fallbacks.extend(fallback.map(|fallback| (name.value.clone(), fallback)));
        teams.push(Team { name: name.value, secret, recipients, account, fallback: to });
    }
    for (team, fallback) in fallbacks {
        refuse_fallback(root, &teams, &team, &fallback);
    }
    match first {
        None => teams.push(Team {
            name: ONLY_TEAM.to_owned(),
            secret: signl4.secret.clone(),
            recipients: Vec::new(),
            account: DEFAULT_ACCOUNT.to_owned(),
            fallback: None,
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

fn read_account(table: &mut Table<'_>) -> String {
    let Some(account) = table.string("account") else { return DEFAULT_ACCOUNT.to_owned() };
    if account.value.trim().is_empty() {
        table.error(account.span, "this account has no name", "any word that the teams of the account share");
    }
    account.value
}

/// Refuses a fallback that is no other team, or that leads back to where it began.
fn refuse_fallback(root: &Table<'_>, teams: &[Team], team: &str, fallback: &Located<String>) {
    let find = |name: &str| teams.iter().find(|team| team.name == name);
    if find(&fallback.value).is_none() {
        let known = teams.iter().map(|team| team.name.as_str()).filter(|name| *name != team);
        return root.error(
            fallback.span.clone(),
            format!("there is no team `{}`", fallback.value),
            suggest(&fallback.value, known),
        );
    }
    let mut next = Some(fallback.value.as_str());
    for _ in 0..teams.len() {
        if next == Some(team) {
            return root.error(
                fallback.span.clone(),
                format!("the fallbacks of `{team}` lead back to it"),
                "let the last of them have none",
            );
        }
        next = next.and_then(find).and_then(|team| team.fallback.as_deref());
    }
}

fn read_patterns(table: &mut Table<'_>) -> Vec<Pattern> {
    let mut found = Vec::new();
    for text in table.strings("recipients").unwrap_or_default() {
        match text.value.parse::<Pattern>() {
            Ok(pattern) if !pattern.is_null() => found.push(pattern),
            _ => table.error(
                text.span,
                format!("`{}` is not a pattern for recipients", text.value.escape_debug()),
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
            account: DEFAULT_ACCOUNT.to_owned(),
            fallback: None,
        };
        let one = Routes::new(&[team("a", &[])]);
        assert_eq!(one.teams("x@y").collect::<Vec<_>>(), ["a"]);
        let two = Routes::new(&[team("a", &["soc"]), team("b", &["*@lab"]), team("c", &[])]);
        assert_eq!(two.teams("soc@lab").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(two.teams("x@y").count(), 0);
    }
    fn read_text(text: &str) -> Result<Vec<Team>, Vec<String>> {
        let config = crate::config::parse(None, &crate::diagnostic::Source::new("t", text));
        config.map(|config| config.teams).map_err(|found| {
            found.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
        })
    }

    #[test]
    fn a_fallback_is_another_team_and_leads_nowhere_back() {
        let team =
            |name: &str, more: &str| format!("[[team]]\nname = '{name}'\nrecipients = ['{name}']\n{more}\n");
        let chain = [team("a", "fallback = 'b'"), team("b", "fallback = 'c'\naccount = 'x'"), team("c", "")];
        let teams = read_text(&chain.concat()).unwrap();
        let read: Vec<_> =
            teams.iter().map(|team| (team.account.as_str(), team.fallback.as_deref())).collect();
        assert_eq!(read, [("default", Some("b")), ("x", Some("c")), ("default", None)]);
        let law = |text: String| read_text(&text).unwrap_err();
        assert_eq!(law(team("a", "fallback = 'a'")), ["4:12: the fallbacks of `a` lead back to it"]);
        assert_eq!(law(team("a", "fallback = 'd'")), ["4:12: there is no team `d`"]);
        let loops = team("a", "fallback = 'b'") + &team("b", "fallback = 'a'");
        assert_eq!(
            law(loops),
            ["4:12: the fallbacks of `a` lead back to it", "8:12: the fallbacks of `b` lead back to it"]
        );
    }
}
