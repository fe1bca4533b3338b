//! Reads a rule file: TOML to what was written, with the place of each part. What can be wrong in one
//! value is found here; what depends on other values, on other files or on the site is found by `load`.

mod reader;
mod set;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use jiff::tz::TimeZone;
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::diagnostic::{Diagnostic, Source};
use crate::document::{self, Located, Table, Value};

use super::condition::{Check, Condition};
use super::example::Example;
use super::field::{Field, MailField};
use super::lines::Bounds;
use super::pattern::{self, Pattern};
use super::template::{self, Engine, Tables, Template};

pub(super) use reader::Reader;
pub(super) use set::{Set, Target, is_location, words_of};

/// The version of the language.
const VERSION: i64 = 1;

/// What a file says.
pub(super) struct File {
    pub(super) source: Source,
    pub(super) name: Located<String>,
    /// The product family, where it is not the name.
    pub(super) family: Option<Located<String>>,
    pub(super) when: Option<Condition>,
    pub(super) split: Option<Pattern>,
    /// Where the labelled lines end and the free text begins; a file without it has no `line.*`.
    pub(super) lines: Option<Bounds>,
    pub(super) rules: Vec<Rule>,
    pub(super) engine: Engine,
    /// The names of shipped rules, or of whole sources, to switch off.
    pub(super) off: Vec<Located<String>>,
    pub(super) examples: Vec<Example>,
    /// What the file says of its sender to people.
    pub(super) about: About,
    /// Whether the source's condition could not be read, and with it the names that it makes.
    pub(super) lost: bool,
    /// Whether a pattern was wrong, and another stands in its place.
    patched: bool,
}

/// What a file says of its sender to people, in the words of the table of senders.
#[derive(Debug, Default)]
pub(super) struct About {
    /// The sender, where the name of the source says too little.
    pub(super) sender: Option<String>,
    /// What opens an incident.
    pub(super) opens: Option<String>,
    /// What updates it, and what acknowledges it.
    pub(super) updates: Option<String>,
    /// What closes it.
    pub(super) closes: Option<String>,
    /// What the key is made of.
    pub(super) key: Option<String>,
    /// How grave it is.
    pub(super) severity: Option<String>,
}

/// What a rule says.
pub(super) struct Rule {
    pub(super) name: Located<String>,
    pub(super) when: Option<Condition>,
    pub(super) lets: Vec<Let>,
    pub(super) sets: Vec<Set>,
    pub(super) teams: Option<Vec<Located<String>>>,
    pub(super) parameters: Option<Parameters>,
    pub(super) drop: Option<Located<String>>,
    pub(super) keep: bool,
    pub(super) stop: bool,
    /// The shipped rule whose place this one takes.
    pub(super) overrides: Option<Located<String>>,
    /// Whether a condition or a `let` of it could not be read, and with it the names that it makes.
    pub(super) lost: bool,
    /// The file that the rule is written in, once the files have numbers.
    pub(super) home: usize,
}

/// A name that a rule makes.
#[derive(Debug, Clone)]
pub(super) struct Let {
    pub(super) name: Located<String>,
    pub(super) value: Located<Template>,
    pub(super) slot: usize,
}

/// Where SIGNL4's own parameters are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub(super) enum Parameters {
    /// Header fields called `X-S4-*`.
    Headers,
    /// A body of `Key: value` lines throughout.
    Body,
}

/// Reads `source`. What is wrong goes to `found`; there is a file unless the TOML itself is broken.
pub(super) fn read(source: &Source, zone: &TimeZone, found: &mut Vec<Diagnostic>) -> Option<File> {
    let mut reader = Reader::new(source, zone);
    let mut file = None;
    let read = document::read(source, |root| file = Some(reader.file(root)));
    found.extend(read.err().unwrap_or_default());
    found.append(&mut reader.errors);
    file
}

impl Reader<'_> {
    fn file(&mut self, root: &mut Table<'_>) -> File {
        match root.value("version") {
            Some(version) => {
                if let Some(number) = version.integer(0..=i64::MAX).filter(|n| n.value != VERSION) {
                    self.error(
                        number.span,
                        format!("version {} is not known", number.value),
                        "write `version = 1`",
                    );
                }
            }
            None => self.error(0..0, "the file has no version", "its first line must be `version = 1`"),
        }
        if let Some(mut tables) = root.table("table") {
            for (name, entries) in tables.entries() {
                let table = entries.table().map_or_else(BTreeMap::new, |t| self.lookup(t));
                self.tables.insert(name.value, table);
            }
        }
        self.engine = Engine::new(self.tables.clone());
        let (mut name, mut family, mut when, mut split, mut lines) = (None, None, None, None, None);
        if let Some(mut source) = root.table("source") {
            name = source.string("name");
            family = source.string("family").filter(|family| !family.value.trim().is_empty());
            when = source.value("when").and_then(|value| self.when(&value));
            split = source.value("split").and_then(|value| self.pattern(&value));
            lines = source.table("lines").and_then(|table| self.lines(table));
            source.finish();
        }
        if name.is_none() {
            let span =
                if root.has("source") { root.table("source").map_or(0..0, |t| t.span()) } else { 0..0 };
            self.error(span, "the source has no name", "write `[source]` and below it `name = \"...\"`");
        }
        let about = root.table("about").map_or_else(About::default, about);
        let lost = std::mem::take(&mut self.names_lost);
        let mut rules: Vec<_> = root.tables("rule").into_iter().map(|table| self.rule(table)).collect();
        let off = root.table("off").map_or_else(Vec::new, |mut off| {
            let names = off.strings("rules").unwrap_or_default();
            off.finish();
            names
        });
        let examples = root.tables("example").into_iter().filter_map(|table| self.example(table)).collect();
        rules.retain(|rule| !rule.name.value.is_empty());
        File {
            source: self.source.clone(),
            name: name.unwrap_or(Located { value: self.source.path.to_string(), span: 0..0 }),
            family,
            when,
            split,
            lines,
            rules,
            engine: std::mem::replace(&mut self.engine, Engine::new(Tables::new())),
            off,
            examples,
            about,
            lost,
            patched: self.patched,
        }
    }

    /// `[source] lines`: where the free text begins.
    fn lines(&mut self, mut table: Table<'_>) -> Option<Bounds> {
        let place = table.span();
        let until = table.value("until").and_then(|value| self.pattern(&value));
        if until.is_none() && !table.has("until") {
            self.error(
                place,
                "`lines` does not say where they end",
                "write `until = '^Description:'`: what stands below is others' text",
            );
        }
        if let Some(capture) = until.as_ref().and_then(|until| until.captures.first()) {
            let name = capture.name.clone();
            self.error(table.span(), format!("`{name}` cannot be captured here"), "write `(?:...)`");
        }
        let free = table.string("free").map(|label| label.value.to_lowercase());
        table.finish();
        Some(Bounds { until: until?, free })
    }

    /// A `[table.NAME]`. Its keys are compared without case.
    fn lookup(&mut self, mut table: Table<'_>) -> BTreeMap<String, String> {
        table
            .entries()
            .into_iter()
            .filter_map(|(key, value)| Some((key.value.to_lowercase(), value.string()?.value)))
            .collect()
    }

    fn rule(&mut self, mut table: Table<'_>) -> Rule {
        let place = table.span();
        let name = table.string("name").filter(|name| !name.value.trim().is_empty());
        if name.is_none() {
            self.error(
                place.clone(),
                "a rule has no name",
                "write `name = \"...\"`: the trace and the other files know it by that",
            );
        }
        let when_value = table.value("when");
        let when = when_value.and_then(|value| self.when(&value));
        let lets = table.table("let").map_or_else(Vec::new, |lets| self.lets(lets));
        let mut teams = None;
        let sets = table.table("set").map_or_else(Vec::new, |sets| self.sets(sets, &mut teams));
        let lost = std::mem::take(&mut self.names_lost);
        let rule = Rule {
            lost,
            name: name.unwrap_or(Located { value: String::new(), span: place.clone() }),
            when,
            lets,
            sets,
            teams,
            parameters: table.word("parameters"),
            drop: table.string("drop"),
            keep: table.boolean("keep").unwrap_or(false),
            stop: table.boolean("stop").unwrap_or(false),
            overrides: table.string("override"),
            home: 0,
        };
        if let Some(reason) = rule.drop.as_ref().filter(|reason| reason.value.trim().is_empty()) {
            self.error(
                reason.span.clone(),
                "a drop needs its reason",
                "it is what `queue` and the log show for the mail",
            );
        }
        if rule.drop.is_some() && (rule.keep || !rule.sets.is_empty() || rule.teams.is_some()) {
            let span = rule.drop.as_ref().map_or(place.clone(), |reason| reason.span.clone());
            self.error(span, "a rule that drops the mail cannot also set or keep", "split it in two rules");
        }
        let acts = rule.drop.is_some()
            || rule.keep
            || rule.stop
            || rule.teams.is_some()
            || rule.parameters.is_some();
        let captures = rule.when.as_ref().is_some_and(has_captures);
        if !acts
            && !rule.lost
            && !captures
            && rule.sets.is_empty()
            && rule.lets.is_empty()
            && !table.has("set")
            && !table.has("let")
        {
            self.error(
                rule.name.span.clone(),
                "the rule does nothing",
                "give it `set`, `let`, `drop`, `keep` or `stop`",
            );
        }
        table.finish();
        rule
    }

    fn lets(&mut self, mut table: Table<'_>) -> Vec<Let> {
        let mut lets = Vec::new();
        for (name, value) in table.entries() {
            if !self.may_name(&name.value, name.span.clone()) {
                continue;
            }
            let value = self.template(&value);
            self.names_lost |= value.is_none();
            if let Some(value) = value {
                lets.push(Let { name, value, slot: usize::MAX });
            }
        }
        lets
    }

    /// Whether a capture or `let` may have this name.
    fn may_name(&mut self, name: &str, span: Range<usize>) -> bool {
        if Field::reserves(name) {
            self.error(span, format!("`{name}` has a meaning of its own"), "choose another name");
            return false;
        }
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain {
            self.error(
                span,
                format!("`{name}` cannot be a name"),
                "a name has letters, digits and underscores",
            );
        }
        plain
    }

    pub(super) fn template(&mut self, value: &Value<'_>) -> Option<Located<Template>> {
        let text = value.string()?;
        match self.engine.compile(&text.value) {
            Ok(template) => Some(Located { value: template, span: text.span }),
            Err(template::Fault { word, message, help }) => {
                let span = word.map_or(text.span.clone(), |word| find_word(self.source, &text.span, &word));
                self.error(span, message, help);
                None
            }
        }
    }

    pub(super) fn pattern(&mut self, value: &Value<'_>) -> Option<Pattern> {
        let text = value.string()?;
        match Pattern::new(&text.value) {
            Ok(pattern) => {
                let mut sound = true;
                for capture in &pattern.captures {
                    let span = find_word(self.source, &text.span, &capture.name);
                    sound &= self.may_name(&capture.name, span);
                }
                sound.then_some(pattern)
            }
            Err(pattern::Fault { at, message, help }) => {
                let span = inner_span(self.source, &text.span, &text.value, at);
                self.error(span, format!("the pattern is wrong: {message}"), help);
                // One with the same names stands in, so that the errors behind this one are found as well.
                self.patched = true;
                Pattern::new(&names_alone(&text.value)).ok()
            }
        }
    }

    pub(super) fn address(&mut self, text: &Located<String>) -> Option<IpAddr> {
        let found = text.value.parse().ok();
        if found.is_none() {
            self.error(
                text.span.clone(),
                format!("`{}` is not an address", text.value),
                "write an IPv4 or IPv6 address",
            );
        }
        found
    }
}

fn about(mut table: Table<'_>) -> About {
    let mut text = |key| table.string(key).map(|text| text.value);
    let about = About {
        sender: text("sender"),
        opens: text("opens"),
        updates: text("updates"),
        closes: text("closes"),
        key: text("key"),
        severity: text("severity"),
    };
    table.finish();
    about
}

fn has_captures(condition: &Condition) -> bool {
    let mut found = false;
    condition.tests(&mut |test| {
        found |= matches!(&test.check, Check::Matches(pattern) if !pattern.captures.is_empty());
    });
    found
}

/// Where the bytes `at` of a text stand in the source: exact for a text that is written as it is, else
/// the place of the whole.
pub(super) fn inner_span(source: &Source, span: &Range<usize>, text: &str, at: Range<usize>) -> Range<usize> {
    let written = &source.text[span.clone()];
    match written.find(text) {
        Some(start) if !text.is_empty() => span.start + start + at.start..span.start + start + at.end,
        _ => span.clone(),
    }
}

/// Where `word` stands within `span` as a whole word; the whole span if it does not.
pub(super) fn find_word(source: &Source, span: &Range<usize>, word: &str) -> Range<usize> {
    let written = &source.text[span.clone()];
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let place = written
        .match_indices(word)
        .map(|(at, _)| at)
        .find(|&at| !written[..at].ends_with(part) && !written[at + word.len()..].starts_with(part));
    place.map_or(span.clone(), |at| span.start + at..span.start + at + word.len())
}

/// A pattern with the names of `pattern`, which need not be a pattern itself.
fn names_alone(pattern: &str) -> String {
    let mut names: Vec<&str> = pattern
        .split("(?")
        .skip(1)
        .filter_map(|rest| rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<')))
        .filter_map(|rest| Some(&rest[..rest.find('>')?]))
        .filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    names.sort_unstable();
    names.dedup();
    names.iter().map(|name| format!("(?<{name}>)")).collect()
}

/// The names that a condition may start with, for suggestions.
pub(super) fn condition_names() -> impl Iterator<Item = &'static str> + Clone {
    MailField::ALL
        .iter()
        .map(|(name, _)| *name)
        .chain(["any", "all", "not", "header", "event", "site", "line"])
}

impl File {
    /// Whether all its conditions could be read, so that what seems to be wrong with their order is.
    pub(super) fn is_sound(&self) -> bool {
        !self.lost && !self.patched && !self.rules.iter().any(|rule| rule.lost)
    }
}
