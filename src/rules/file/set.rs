//! What the `set` of a rule may say: the keys of an event, its tiles and its team, and the values that each takes.

use crate::diagnostic::suggest;
use crate::document::{self, Located, Table, Value};
use crate::event::{Mark, Repeat, Scenario, Severity, Status, refuse_field};
use crate::time::parse_duration;
use crate::words::Words;

use super::reader::Reader;
use crate::rules::attach;
use crate::rules::field::Key;
use crate::rules::template::Template;
use crate::rules::tlp::Tlp;

/// A value that a rule sets.
#[derive(Debug, Clone)]
pub(in crate::rules) struct Set {
    pub(in crate::rules) target: Target,
    pub(in crate::rules) value: Located<Template>,
}

/// What a `set` sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::rules) enum Target {
    Key(Key),
    Tile(String),
}

impl Target {
    pub(in crate::rules) fn label(&self) -> String {
        match self {
            Self::Key(key) => key.name().to_owned(),
            Self::Tile(name) => format!("tile.{name}"),
        }
    }
}

/// The words that `key` takes, if it takes only certain words.
pub(in crate::rules) fn words_of(key: Key) -> Option<Vec<&'static str>> {
    fn words<W: Words>() -> Option<Vec<&'static str>> {
        Some(W::words().collect())
    }
    match key {
        Key::Status => words::<Status>(),
        Key::Severity => words::<Severity>(),
        Key::Scenario => words::<Scenario>(),
        Key::Tlp => words::<Tlp>(),
        Key::Repeat => words::<Repeat>(),
        Key::Mark => words::<Mark>(),
        Key::Filtering => Some(vec!["true", "false"]),
        _ => None,
    }
}

/// Whether `text` is a place on the map as SIGNL4 takes it: `latitude,longitude`.
pub(in crate::rules) fn is_location(text: &str) -> bool {
    let within = |text: &str, limit: f64| text.trim().parse::<f64>().is_ok_and(|n| n.abs() <= limit);
    text.split_once(',').is_some_and(|(lat, lon)| within(lat, 90.0) && within(lon, 180.0))
}

impl Reader<'_> {
    pub(super) fn sets(
        &mut self,
        mut table: Table<'_>,
        teams: &mut Option<Vec<Located<String>>>,
    ) -> Vec<Set> {
        let mut sets = Vec::new();
        for (name, value) in table.entries() {
            match name.value.as_str() {
                "team" => {
                    *teams = value.strings();
                    if teams.as_ref().is_some_and(Vec::is_empty) {
                        value.error("the event goes to no team", "name one, or drop the mail with a reason");
                    }
                }
                "tile" => {
                    let Some(mut tiles) = value.table() else { continue };
                    for (tile, value) in tiles.entries() {
                        if let Some(why) = refuse_field(&tile.value) {
                            self.error(tile.span, format!("a tile cannot be called `{}`", tile.value), why);
                        } else if let Some(value) = self.template(&value) {
                            sets.push(Set { target: Target::Tile(tile.value), value });
                        }
                    }
                }
                other => match Key::from_name(other) {
                    Some(key) => {
                        if let Some(value) = self.value_of(key, &value) {
                            sets.push(Set { target: Target::Key(key), value });
                        }
                    }
                    None => {
                        let known = Key::ALL.iter().map(|(name, _)| *name).chain(["team", "tile"]);
                        let help = suggest(other, known);
                        self.error(name.span, format!("nothing of an event is called `{other}`"), help);
                    }
                },
            }
        }
        sets
    }

    /// The template for `key`, checked where it is a literal.
    fn value_of(&mut self, key: Key, value: &Value<'_>) -> Option<Located<Template>> {
        if key == Key::Filtering && value.type_name() == "boolean" {
            let text = if value.boolean()? { "true" } else { "false" };
            let template = self.engine.compile(text).ok()?;
            return Some(Located { value: template, span: value.span() });
        }
        if key == Key::Attach && value.type_name() != "string" {
            return self.kinds(value);
        }
        let template = self.template(value)?;
        let Some(literal) = template.value.literal() else { return Some(template) };
        if literal.is_empty() {
            value.error(
                format!("`{}` is set to nothing", key.name()),
                "a set that comes out empty leaves the value as it was; leave it out",
            );
            return None;
        }
        if let Some(words) = words_of(key)
            && !words.iter().any(|word| word.eq_ignore_ascii_case(literal))
            && !(key == Key::Tlp && Tlp::read(literal).is_some())
        {
            let message = format!("`{}` cannot be `{literal}`", key.name());
            value.error(message, suggest(literal, words));
            return None;
        }
        if key == Key::Attach && attach::kinds(literal).is_none() {
            value.error(format!("`attach` cannot be `{literal}`"), attach::HELP);
            return None;
        }
        if key == Key::Location && !is_location(literal) {
            value.error(format!("`{literal}` is not a location"), "write \"latitude,longitude\" in degrees");
            return None;
        }
        if key == Key::Quiet && parse_duration(literal).is_none() {
            value.error(format!("`{literal}` is not a duration"), document::DURATION_HELP);
            return None;
        }
        Some(template)
    }

    /// The kinds of files in a list, or `false` for none.
    fn kinds(&mut self, value: &Value<'_>) -> Option<Located<Template>> {
        let words = match value.type_name() {
            "boolean" if value.boolean() == Some(false) => "none".to_owned(),
            "boolean" => {
                value.error("`attach` does not say which files", attach::HELP);
                return None;
            }
            _ => {
                let words: Vec<String> = value.strings()?.into_iter().map(|word| word.value).collect();
                words.join(",")
            }
        };
        let Some(kinds) = attach::kinds(&words) else {
            value.error(format!("`attach` cannot be `{words}`"), attach::HELP);
            return None;
        };
        let template = self.engine.compile(&kinds).ok()?;
        Some(Located { value: template, span: value.span() })
    }
}
