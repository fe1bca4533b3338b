//! Reads conditions: `when` and what is nested in it.

use crate::diagnostic::suggest;
use crate::document::{Located, Table, Value};
use crate::event::Severity;

use super::condition::{Bounds, Check, Condition, Test};
use super::field::{Field, Key, Nature};
use super::file::{Reader, words_of};
use super::pattern::Pattern;
use super::schedule::Schedule;
use crate::network::Network;

/// Deepest nesting of conditions; deeper ones are unreadable.
const DEEPEST: usize = 16;

impl Reader<'_> {
    /// Reads a `when`; if it cannot be read, the names that it makes are lost.
    pub(super) fn when(&mut self, value: &Value<'_>) -> Option<Condition> {
        let found = self.condition(value, 0);
        self.names_lost |= found.is_none();
        found
    }

    fn condition(&mut self, value: &Value<'_>, depth: usize) -> Option<Condition> {
        if depth > DEEPEST {
            value.error("conditions are nested too deeply", "split the rule in two");
            return None;
        }
        let mut table = value.table()?;
        let mut all = Vec::new();
        let entries = table.entries();
        if entries.is_empty() {
            value.error("there is no condition here", "leave `when` out for a rule that always applies");
            return None;
        }
        let mut sound = true;
        for (name, value) in entries {
            let before = all.len();
            match name.value.as_str() {
                "any" | "all" => {
                    let items = value.array()?;
                    let inner: Vec<_> =
                        items.iter().filter_map(|item| self.condition(item, depth + 1)).collect();
                    if items.is_empty() {
                        value.error(
                            "there is no condition here",
                            "write one table for each: [{ ... }, { ... }]",
                        );
                    }
                    sound &= inner.len() == items.len();
                    all.push(if name.value == "any" { Condition::Any(inner) } else { Condition::All(inner) });
                }
                "not" => {
                    all.extend(self.condition(&value, depth + 1).map(|inner| Condition::Not(Box::new(inner))))
                }
                "header" => {
                    for (header, value) in value.table()?.entries() {
                        let field = Field::Header(header.value.to_ascii_lowercase().into());
                        all.extend(self.tests(&field, &header, &value));
                    }
                }
                "site" => {
                    for (key, value) in value.table()?.entries() {
                        all.extend(self.tests(&Field::Site(key.value.as_str().into()), &key, &value));
                    }
                }
                "line" => {
                    for (label, value) in value.table()?.entries() {
                        let field = Field::Line(label.value.to_lowercase().into());
                        all.extend(self.tests(&field, &label, &value));
                    }
                }
                "event" => {
                    for (key, value) in value.table()?.entries() {
                        if key.value == "tile" {
                            for (tile, value) in value.table()?.entries() {
                                all.extend(self.tests(
                                    &Field::Tile(tile.value.as_str().into()),
                                    &tile,
                                    &value,
                                ));
                            }
                        } else if let Some(known) = Key::from_name(&key.value) {
                            all.extend(self.tests(&Field::Event(known), &key, &value));
                        } else {
                            let known = Key::ALL.iter().map(|(name, _)| *name).chain(["tile"]);
                            let help = suggest(&key.value, known);
                            self.error(
                                key.span,
                                format!("nothing of an event is called `{}`", key.value),
                                help,
                            );
                        }
                    }
                }
                plain => all.extend(self.tests(&Field::plain(plain), &name, &value)),
            }
            sound &= all.len() > before;
        }
        if !sound {
            return None;
        }
        Some(if all.len() == 1 { all.remove(0) } else { Condition::All(all) })
    }

    /// The tests of one field: a pattern, a flag, or a table of checks that must all hold.
    fn tests(&mut self, field: &Field, name: &Located<String>, value: &Value<'_>) -> Vec<Condition> {
        let nature = match field {
            Field::Mail(field) => field.nature(),
            _ => Nature::Text,
        };
        let label = field.label();
        let mut checks: Vec<(Check, String)> = Vec::new();
        match (nature, value.type_name()) {
            (Nature::Flag, _) => {
                if let Some(flag) = value.boolean() {
                    checks.push((Check::Flag(flag), format!("{label} is {flag}")));
                }
            }
            (Nature::Text, "string") => {
                if let Some(pattern) = self.pattern(value) {
                    let shown = format!("{label} matches '{}'", pattern.regex.as_str());
                    checks.push((Check::Matches(Box::new(pattern)), shown));
                }
            }
            (Nature::Text, "table") => self.text_checks(field, &label, value, &mut checks),
            (Nature::Time, "table") => checks.extend(self.schedule(value).map(|schedule| {
                (Check::Clock(Box::new(schedule)), format!("{label} is within the schedule"))
            })),
            (Nature::Text, _) => value.error(
                format!("`{}` is neither a pattern nor a table of checks", name.value),
                "write 'pattern', or { equals = \"...\" }, { any-word = [...] }, { at-least = 3 }, { present = true }",
            ),
            (Nature::Time, _) => value.error(
                "a time is tested by a table",
                "write { between = [\"22:00\", \"06:00\"], days = [\"sat\", \"sun\"], zone = \"Europe/Berlin\" }",
            ),
        }
        checks
            .into_iter()
            .map(|(check, label)| {
                Condition::Test(Test {
                    field: field.clone(),
                    check,
                    label,
                    span: name.span.clone(),
                    filter: None,
                })
            })
            .collect()
    }

    fn text_checks(&mut self, field: &Field, label: &str, value: &Value<'_>, out: &mut Vec<(Check, String)>) {
        let Some(mut table) = value.table() else { return };
        if let Some(pattern) = table.value("matches").and_then(|value| self.pattern(&value)) {
            let shown = format!("{label} matches '{}'", pattern.regex.as_str());
            out.push((Check::Matches(Box::new(pattern)), shown));
        }
        let plain =
            |texts: Vec<Located<String>>| texts.into_iter().map(|text| text.value).collect::<Vec<_>>();
        if let Some(texts) = table.strings("equals") {
            if let Field::Event(key) = field
                && let Some(words) = words_of(*key)
            {
                for text in texts
                    .iter()
                    .filter(|text| !words.iter().any(|word| word.eq_ignore_ascii_case(&text.value)))
                {
                    let message = format!("`{label}` can never be `{}`", text.value);
                    self.error(text.span.clone(), message, suggest(&text.value, words.iter().copied()));
                }
            }
            let texts = plain(texts);
            let shown = format!("{label} equals {}", texts.join(" or "));
            out.push((Check::Equals(texts), shown));
        }
        for (key, all) in [("any-word", false), ("all-words", true)] {
            let Some(words) = table.strings(key) else { continue };
            let span = words.first().map_or(value.span(), |word| word.span.clone());
            let words = plain(words);
            if words.is_empty() || words.iter().any(|word| word.trim().is_empty()) {
                self.error(
                    span,
                    "there is no word here",
                    "write the words in quotes: [\"down\", \"disk full\"]",
                );
                continue;
            }
            let groups: Vec<Vec<String>> =
                if all { words.into_iter().map(|word| vec![word]).collect() } else { vec![words] };
            for group in groups {
                match Pattern::word(&group) {
                    Ok(pattern) => {
                        let shown = format!("{label} has the word {}", group.join(" or "));
                        out.push((Check::Matches(Box::new(pattern)), shown));
                    }
                    Err(fault) => self.error(span.clone(), fault.message, fault.help),
                }
            }
        }
        self.bounds(field, label, &mut table, out);
        if let Some(networks) = table.strings("in") {
            let mut read = Vec::new();
            for text in networks {
                match text.value.parse::<Network>() {
                    Ok(network) => read.push(network),
                    Err(_) => self.error(
                        text.span,
                        format!("`{}` is not a network", text.value),
                        "write \"192.0.2.0/24\", \"2001:db8::/32\" or one address",
                    ),
                }
            }
            let shown = read.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            out.push((Check::Within(read), format!("{label} is in {shown}")));
        }
        if let Some(present) = table.boolean("present") {
            let shown = if present { "is present" } else { "is absent" };
            out.push((Check::Present(present), format!("{label} {shown}")));
        }
        if out.is_empty() && table.span().len() <= 2 {
            self.error(
                table.span(),
                "there is no check here",
                "write { equals = \"...\" }, { present = true } or the like",
            );
        }
        table.finish();
    }

    fn bounds(&mut self, field: &Field, label: &str, table: &mut Table<'_>, out: &mut Vec<(Check, String)>) {
        const KEYS: [&str; 4] = ["at-least", "above", "at-most", "below"];
        if !KEYS.iter().any(|key| table.has(key)) {
            // Asked for all the same, so that an unknown check is told what there is.
            let _ = KEYS.map(|key| table.value(key).is_some());
            return;
        }
        let values = KEYS.map(|key| table.value(key));
        let words = values.iter().flatten().any(|value| value.type_name() == "string");
        let words = words && !matches!(field, Field::Mail(_) | Field::Header(_));
        let mut shown = Vec::new();
        for (key, value) in KEYS.iter().zip(&values) {
            if let Some(value) = value {
                shown.push(format!("{key} {}", &self.source.text[value.span()]));
            }
        }
        let shown = format!("{label} is {}", shown.join(" and "));
        let contradict;
        if words || *field == Field::Event(Key::Severity) {
            let [at_least, above, at_most, below] =
                values.map(|value| value.and_then(|value| value.word::<Severity>()));
            let bounds = Bounds { at_least, above, at_most, below };
            contradict = bounds.contradict();
            out.push((Check::Severity(bounds), shown));
        } else {
            let [at_least, above, at_most, below] =
                values.map(|value| value.and_then(|value| value.number()).map(|number| number.value));
            let bounds = Bounds { at_least, above, at_most, below };
            contradict = bounds.contradict();
            out.push((Check::Number(bounds), shown));
        }
        if contradict {
            self.error(
                table.span(),
                "no value is within these bounds",
                "the lower bound is above the upper one",
            );
        }
    }

    fn schedule(&mut self, value: &Value<'_>) -> Option<Schedule> {
        let mut table = value.table()?;
        let schedule = Schedule::read(&mut table, self.zone);
        if schedule.is_none() {
            self.error(table.span(), "there is no time here", "write `between`, `days` or both");
        }
        table.finish();
        schedule
    }
}
