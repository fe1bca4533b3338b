//! Reads a TOML document key by key, and finds every error in it, each with its place: a syntax error,
//! an unknown field, a wrong type, a value out of range. Serde would stop at the first.
//!
//! A reader asks a [`Table`] for the keys that it knows. A key that was not asked for is an unknown field.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Source, suggest};
use crate::time::parse_duration;
use crate::words::Words;

/// How a duration is written, for who wrote it otherwise.
pub const DURATION_HELP: &str = "a number and its unit: \"500ms\", \"90s\", \"5m\", \"3h\" or \"7d\"";

/// A value and the bytes of the document that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Its place. That of a text includes the quotes.
    pub span: Range<usize>,
}

/// A file that a document names. What is found wrong with it later is told at the place of the name.
#[derive(Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// Its path; a relative one counts from the folder of the document.
    pub path: PathBuf,
    source: Source,
    span: Range<usize>,
}

impl NamedFile {
    /// An error about the file, at the place that names it.
    pub fn diagnostic(&self, message: impl Into<String>) -> Diagnostic {
        self.source.diagnostic(self.span.clone(), message)
    }
}

impl fmt::Debug for NamedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// Reads `source` by `body`.
///
/// # Errors
/// Every diagnostic of the document: its syntax errors, or else all that `body` found and all unknown
/// fields, in the order of their places.
pub fn read<T>(source: &Source, body: impl FnOnce(&mut Table<'_>) -> T) -> Result<T, Vec<Diagnostic>> {
    match examine(source, body) {
        (Some(value), found) if found.is_empty() => Ok(value),
        (_, found) => Err(found),
    }
}

/// The same for somebody who goes on with what could be read: the value is there unless the syntax is wrong.
pub fn examine<T>(source: &Source, body: impl FnOnce(&mut Table<'_>) -> T) -> (Option<T>, Vec<Diagnostic>) {
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    if !errors.is_empty() {
        let end = source.text.len();
        let place = |error: &toml::de::Error| error.span().unwrap_or(end..end);
        return (None, errors.iter().map(|error| source.diagnostic(place(error), error.message())).collect());
    }
    let found = RefCell::new(Vec::new());
    let mut table = Table {
        source,
        found: &found,
        path: String::new(),
        span: root.span(),
        entries: root.get_ref(),
        asked: Vec::new(),
    };
    let value = body(&mut table);
    table.finish();
    let mut found = found.into_inner();
    found.sort_by_key(|d: &Diagnostic| (d.line, d.column));
    (Some(value), found)
}

/// A table of the document.
pub struct Table<'d> {
    source: &'d Source,
    found: &'d RefCell<Vec<Diagnostic>>,
    /// The dotted path from the root, for messages.
    path: String,
    span: Range<usize>,
    entries: &'d DeTable<'d>,
    asked: Vec<&'static str>,
}

/// A value of the document whose type the reader has yet to look at.
#[derive(Clone)]
pub struct Value<'d> {
    source: &'d Source,
    found: &'d RefCell<Vec<Diagnostic>>,
    /// The dotted path from the root, for messages.
    path: String,
    inner: &'d Spanned<DeValue<'d>>,
}

impl<'d> Table<'d> {
    /// An empty table in the place of a section `key` that is not written, so that one reader serves both.
    pub fn absent(&self, key: &str) -> Table<'d> {
        Table {
            source: self.source,
            found: self.found,
            path: self.join(key),
            span: self.span(),
            entries: empty(),
            asked: Vec::new(),
        }
    }

    /// The place of the table.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The text that the table stands in.
    pub fn source(&self) -> &'d Source {
        self.source
    }

    /// Reports an error at `span`, with what to do about it.
    pub fn error(&self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.found.borrow_mut().push(self.source.diagnostic(span, message).help(help));
    }

    /// Reports a diagnostic that was made elsewhere.
    pub fn report(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    /// Whether `key` is written, without asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The value of `key`.
    pub fn value(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.asked.push(key);
        let inner = self.entries.get(key)?;
        Some(Value { source: self.source, found: self.found, path: self.join(key), inner })
    }

    /// The text of `key`.
    pub fn string(&mut self, key: &'static str) -> Option<Located<String>> {
        self.value(key)?.string()
    }

    /// The texts of `key`: an array of strings, or one string.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        self.value(key)?.strings()
    }

    /// The file of `key`, whose place is kept for what is wrong with the file itself.
    pub fn file(&mut self, key: &'static str) -> Option<NamedFile> {
        let text = self.string(key)?;
        let folder = Path::new(&*self.source.path).parent().unwrap_or(Path::new(""));
        Some(NamedFile { path: folder.join(text.value), source: self.source.clone(), span: text.span })
    }

    /// The whole number of `key`, within `range`.
    pub fn integer(&mut self, key: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        self.value(key)?.integer(range).map(|n| n.value)
    }

    /// The boolean of `key`.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        self.value(key)?.boolean()
    }

    /// The duration of `key`, such as `"90s"`, `"5m"`, `"3d"`.
    pub fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let text = self.string(key)?;
        let found = parse_duration(&text.value);
        if found.is_none() {
            self.error(text.span, format!("`{}` is not a duration", text.value), DURATION_HELP);
        }
        found
    }

    /// The size in bytes of `key`, such as `"25 MiB"` or a number of bytes.
    pub fn size(&mut self, key: &'static str) -> Option<usize> {
        let value = self.value(key)?;
        if matches!(value.inner.get_ref(), DeValue::Integer(_)) {
            return value.integer(0..=i64::MAX).and_then(|n| usize::try_from(n.value).ok());
        }
        let text = value.string()?;
        let found = parse_size(&text.value);
        if found.is_none() {
            self.error(
                text.span,
                format!("`{}` is not a size", text.value),
                "a whole number and its unit: \"512 KiB\", \"25 MiB\" or \"1 GiB\"",
            );
        }
        found
    }

    /// One word of a closed list.
    pub fn word<W: Words>(&mut self, key: &'static str) -> Option<W> {
        self.value(key)?.word()
    }

    /// The table of `key`.
    pub fn table(&mut self, key: &'static str) -> Option<Table<'d>> {
        self.value(key)?.table()
    }

    /// The tables of `key`: `[[key]]` as often as it is written.
    pub fn tables(&mut self, key: &'static str) -> Vec<Table<'d>> {
        self.value(key)
            .and_then(|value| value.array())
            .map_or_else(Vec::new, |items| items.into_iter().filter_map(|item| item.table()).collect())
    }

    /// Every key and value in the order written, for a table whose names are free. Counts as asked.
    pub fn entries(&mut self) -> Vec<(Located<String>, Value<'d>)> {
        let entries = self.entries;
        let all = entries
            .iter()
            .map(|(key, inner)| {
                let name = key.get_ref().to_string();
                let value = Value { source: self.source, found: self.found, path: self.join(&name), inner };
                (Located { value: name, span: key.span() }, value)
            })
            .collect();
        self.entries = empty();
        all
    }

    /// Reports what was written and never asked for. Call it when every known key was asked for.
    pub fn finish(self) {
        for (key, _) in self.entries {
            let name: &str = key.get_ref();
            if !self.asked.contains(&name) {
                let place = if self.path.is_empty() { String::new() } else { format!(" in `{}`", self.path) };
                self.error(
                    key.span(),
                    format!("unknown field `{name}`{place}"),
                    suggest(name, self.asked.iter().copied()),
                );
            }
        }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A table without entries that lives as long as anybody wants.
fn empty() -> &'static DeTable<'static> {
    static EMPTY: std::sync::LazyLock<DeTable<'static>> = std::sync::LazyLock::new(DeTable::new);
    &EMPTY
}

impl<'d> Value<'d> {
    /// The place of the value.
    pub fn span(&self) -> Range<usize> {
        self.inner.span()
    }

    /// The dotted path of the value from the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What TOML calls its type: `string`, `integer`, `float`, `boolean`, `datetime`, `array`, `table`.
    pub fn type_name(&self) -> &'static str {
        self.inner.get_ref().type_str()
    }

    /// Reports an error at the value.
    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) {
        self.found.borrow_mut().push(self.source.diagnostic(self.span(), message).help(help));
    }

    fn mismatch<T>(&self, wanted: &str) -> Option<T> {
        self.error(
            format!("`{}` is {} {}", self.path, article(self.type_name()), self.type_name()),
            format!("it must be {wanted}"),
        );
        None
    }

    /// The text, or an error if it is none.
    pub fn string(&self) -> Option<Located<String>> {
        match self.inner.get_ref() {
            DeValue::String(text) => Some(Located { value: text.to_string(), span: self.span() }),
            _ => self.mismatch("a string in quotes"),
        }
    }

    /// One text or an array of them.
    pub fn strings(&self) -> Option<Vec<Located<String>>> {
        match self.inner.get_ref() {
            DeValue::String(_) => self.string().map(|one| vec![one]),
            DeValue::Array(_) => self.array()?.iter().map(Value::string).collect(),
            _ => self.mismatch("a string or an array of strings"),
        }
    }

    /// A date or a time as text: in quotes, or in TOML's own form.
    pub fn time(&self) -> Option<Located<String>> {
        match self.inner.get_ref() {
            DeValue::Datetime(time) => Some(Located { value: time.to_string(), span: self.span() }),
            DeValue::String(_) => self.string(),
            _ => self.mismatch("a date or a time, such as \"2026-12-24\""),
        }
    }

    /// A whole number within `range`.
    pub fn integer(&self, range: std::ops::RangeInclusive<i64>) -> Option<Located<i64>> {
        let DeValue::Integer(written) = self.inner.get_ref() else {
            return self.mismatch("a whole number");
        };
        match i64::from_str_radix(written.as_str(), written.radix()) {
            Ok(value) if range.contains(&value) => Some(Located { value, span: self.span() }),
            _ => {
                self.error(
                    format!("`{}` is out of range", self.path),
                    format!("from {} to {}", range.start(), range.end()),
                );
                None
            }
        }
    }

    /// A number, whole or not.
    pub fn number(&self) -> Option<Located<f64>> {
        let text = match self.inner.get_ref() {
            DeValue::Float(written) => written.as_str(),
            DeValue::Integer(written) if written.radix() == 10 => written.as_str(),
            _ => return self.mismatch("a number"),
        };
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Some(Located { value, span: self.span() }),
            _ => self.mismatch("a finite number"),
        }
    }

    /// A boolean.
    pub fn boolean(&self) -> Option<bool> {
        match self.inner.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.mismatch("`true` or `false`"),
        }
    }

    /// One word of a closed list.
    pub fn word<W: Words>(&self) -> Option<W> {
        let text = self.string()?;
        let found = W::from_word(&text.value);
        if found.is_none() {
            self.error(
                format!("`{}` cannot be `{}`", self.path, text.value),
                suggest(&text.value, W::words()),
            );
        }
        found
    }

    /// The items of an array.
    pub fn array(&self) -> Option<Vec<Value<'d>>> {
        match self.inner.get_ref() {
            DeValue::Array(items) => Some(
                items
                    .iter()
                    .enumerate()
                    .map(|(at, inner)| Value {
                        source: self.source,
                        found: self.found,
                        path: format!("{}[{at}]", self.path),
                        inner,
                    })
                    .collect(),
            ),
            _ => self.mismatch("an array"),
        }
    }

    /// The table, whose keys the reader then asks for; call [`Table::finish`] at the end.
    pub fn table(&self) -> Option<Table<'d>> {
        match self.inner.get_ref() {
            DeValue::Table(entries) => Some(Table {
                source: self.source,
                found: self.found,
                path: self.path.clone(),
                span: self.span(),
                entries,
                asked: Vec::new(),
            }),
            _ => self.mismatch("a table"),
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Reads `25 MiB`, `512 KiB`, `100 B` and the like.
fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let bytes: u64 = match unit.trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(bytes).and_then(|n| usize::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use strum::{EnumString, IntoStaticStr, VariantArray};

    use super::*;

    /// A closed list of words.
    #[derive(Debug, Clone, Copy, EnumString, IntoStaticStr, VariantArray)]
    #[strum(serialize_all = "lowercase")]
    enum Level {
        Critical,
        High,
        Medium,
        Low,
        Info,
    }

    fn errors(text: &str, body: impl FnOnce(&mut Table<'_>)) -> Vec<String> {
        let found = read(&Source::new("t.toml", text), body).unwrap_err();
        found.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
    }

    #[test]
    fn every_error_is_found_at_once_and_in_order() {
        let found = errors("lsten = 'x'\nsize = '3 bananas'\nlevel = 'hihg'\ncount = 99\n", |table| {
            table.word::<Level>("level");
            table.integer("count", 1..=9);
            table.string("listen");
            table.size("size");
        });
        assert_eq!(
            found,
            [
                "1:1: unknown field `lsten`",
                "2:8: `3 bananas` is not a size",
                "3:9: `level` cannot be `hihg`",
                "4:9: `count` is out of range",
            ]
        );
    }

    #[test]
    fn syntax_errors_have_their_place() {
        assert!(errors("a = 1\nb = \n", |_| ())[0].starts_with("2:"));
    }

    #[test]
    fn free_tables_keep_their_order() {
        let source = Source::new("t", "[colors]\nred = 'A'\nblue = 'B'\namber = 'C'\n");
        let names = read(&source, |root| {
            let mut colors = root.table("colors").unwrap();
            let names: Vec<_> = colors.entries().into_iter().map(|(name, _)| name.value).collect();
            colors.finish();
            names
        });
        assert_eq!(names.unwrap(), ["red", "blue", "amber"]);
    }

    #[test]
    fn a_size_needs_a_unit() {
        assert_eq!(parse_size("25 MiB"), Some(25 << 20));
        assert_eq!(parse_size("1GB"), None);
        assert_eq!(parse_size("25"), None);
    }
}
