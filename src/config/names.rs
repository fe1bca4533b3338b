//! The names that sections of the config have and refer to.

use super::teams::Team;
use crate::diagnostic::suggest;
use crate::document::Table;

/// The name in `table`, of which there may be one only among those that are `known`.
pub(super) fn name_of<'n>(
    table: &mut Table<'_>,
    what: &str,
    mut known: impl Iterator<Item = &'n str>,
) -> String {
    let Some(name) = table.string("name").filter(|name| !name.value.trim().is_empty()) else {
        table.error(table.span(), format!("this {what} has no name"), "add `name = \"...\"`");
        return String::new();
    };
    if name.value.contains(char::is_control) {
        table.error(name.span, "a name is one line of text", "choose a short one");
    } else if known.any(|known| known == name.value) {
        let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        table.error(
            name.span,
            format!("there is {article} {what} `{}` already", name.value),
            "give each its own name",
        );
    }
    name.value
}

/// The team that `table` names, or the first.
pub(super) fn team_of(table: &mut Table<'_>, teams: &[Team]) -> String {
    let first = teams.first().map(|team| team.name.clone()).unwrap_or_default();
    let Some(name) = table.string("team") else { return first };
    let known = teams.iter().map(|team| team.name.as_str());
    if !known.clone().any(|known| known == name.value) {
        table.error(name.span, format!("there is no team `{}`", name.value), suggest(&name.value, known));
    }
    name.value
}
