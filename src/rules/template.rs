//! Templates: text with `{{ name | filter }}` and `{% if %}`, by minijinja. What a template inserts is
//! data and never evaluated. There are no loops, so that a template costs no more than what it inserts;
//! it reaches nothing but the names of its rule. A name that is missing is an error and no empty text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};

use super::field::Field;

/// The tables of one file, by name: `[table.NAME]`, from value to value.
pub(super) type Tables = BTreeMap<String, BTreeMap<String, String>>;

/// The filters of the language and whether they can find nothing.
pub(super) const FILTERS: [&str; 10] =
    ["default", "first_line", "truncate", "between", "lower", "upper", "trim", "slug", "map", "date"];

/// The statements of the language.
const STATEMENTS: [&str; 4] = ["if", "elif", "else", "endif"];

/// A text that is rendered for each mail.
#[derive(Debug, Clone)]
pub(super) struct Template {
    body: Body,
    /// What it inserts: the dotted path as written, and what that means.
    pub(super) names: Vec<(String, Field)>,
}

#[derive(Debug, Clone)]
enum Body {
    /// Nothing to insert.
    Literal(Arc<str>),
    /// The template with this name in the engine.
    Compiled(String),
}

/// The templates of one file.
#[derive(Debug)]
pub(super) struct Engine {
    environment: Environment<'static>,
    count: usize,
}

/// Why a template gave no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It shows something that is missing.
    Missing,
    /// Anything else, in words.
    Broken(String),
}

/// What is wrong with a template, and the word in it that is.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) word: Option<String>,
    pub(super) message: String,
    pub(super) help: String,
}

impl Engine {
    pub(super) fn new(tables: Tables) -> Self {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.add_filter("default", default);
        environment.add_filter("first_line", first_line);
        environment.add_filter("truncate", truncate);
        environment.add_filter("between", between);
        environment.add_filter("lower", |text: Cow<'_, str>| text.to_lowercase());
        environment.add_filter("upper", |text: Cow<'_, str>| text.to_uppercase());
        environment.add_filter("trim", |text: Cow<'_, str>| text.trim().to_owned());
        environment.add_filter("slug", slug);
        environment.add_filter("date", date);
        environment.add_filter("map", move |text: Cow<'_, str>, table: Cow<'_, str>| {
            let table = tables.get(table.as_ref()).ok_or_else(|| {
                minijinja::Error::new(ErrorKind::InvalidOperation, format!("there is no table `{table}`"))
            })?;
            let key = text.trim().to_lowercase();
            Ok::<_, minijinja::Error>(table.get(&key).map_or(Value::UNDEFINED, Value::from))
        });
        environment.add_test("defined", |value: &Value| !value.is_undefined());
        Self { environment, count: 0 }
    }

    /// Compiles `text`. What its names mean is for the caller to resolve.
    pub(super) fn compile(&mut self, text: &str) -> Result<Template, Fault> {
        if !text.contains("{{") && !text.contains("{%") && !text.contains("{#") {
            return Ok(Template { body: Body::Literal(text.trim().into()), names: Vec::new() });
        }
        for statement in words_after(text, "{%") {
            if !STATEMENTS.contains(&statement) {
                return Err(Fault {
                    word: Some(statement.to_owned()),
                    message: format!("a template has no `{statement}`"),
                    help: "`if`, `elif`, `else` and `endif` are all there is".to_owned(),
                });
            }
        }
        for filter in words_after(&without_strings(text), "|") {
            if !FILTERS.contains(&filter) {
                return Err(Fault {
                    word: Some(filter.to_owned()),
                    message: format!("unknown filter `{filter}`"),
                    help: crate::diagnostic::suggest(filter, FILTERS),
                });
            }
        }
        let id = self.count.to_string();
        self.count += 1;
        self.environment.add_template_owned(id.clone(), text.to_owned()).map_err(|error| Fault {
            word: None,
            message: error.detail().map_or_else(|| error.kind().to_string(), str::to_owned),
            help: "a template is text with {{ name }} and {% if name %} ... {% endif %}".to_owned(),
        })?;
        let template = self.environment.get_template(&id).expect("it was just added");
        let mut names = Vec::new();
        let mut paths: Vec<_> = template.undeclared_variables(true).into_iter().collect();
        paths.sort();
        for path in paths {
            let Some(field) = Field::in_template(&path) else {
                let word = path.split('.').next().map(str::to_owned);
                return Err(Fault {
                    word,
                    message: format!("a template cannot show `{path}`"),
                    help: "fields of the mail, captures, `event.KEY`, `event.tile.NAME` and `site.NAME` can be shown"
                        .to_owned(),
                });
            };
            names.push((path, field));
        }
        Ok(Template { body: Body::Compiled(id), names })
    }

    /// Renders `template`; `value` tells what a name stands for.
    pub(super) fn render<'v>(
        &self,
        template: &Template,
        mut value: impl FnMut(&str, &Field) -> Option<Cow<'v, str>>,
    ) -> Result<String, Failure> {
        let id = match &template.body {
            Body::Literal(text) => return Ok(text.to_string()),
            Body::Compiled(id) => id,
        };
        let mut root = Node::default();
        for (path, field) in &template.names {
            root.insert(path, value(path, field).map(Value::from));
        }
        let compiled = self.environment.get_template(id).expect("every template is in its engine");
        match compiled.render(root.value()) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) if error.kind() == ErrorKind::UndefinedError => Err(Failure::Missing),
            Err(error) => {
                Err(Failure::Broken(error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)))
            }
        }
    }
}

impl Template {
    /// The text, if it is the same for every mail.
    pub(super) fn literal(&self) -> Option<&str> {
        match &self.body {
            Body::Literal(text) => Some(text),
            Body::Compiled(_) => None,
        }
    }
}

/// Names nested by their dots, as a template looks them up.
#[derive(Default)]
struct Node {
    value: Option<Value>,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn insert(&mut self, path: &str, value: Option<Value>) {
        match path.split_once('.') {
            None => self.children.entry(path.to_owned()).or_default().value = value,
            Some((head, rest)) => self.children.entry(head.to_owned()).or_default().insert(rest, value),
        }
    }

    fn value(self) -> Value {
        if let Some(value) = self.value {
            return value;
        }
        Value::from(
            self.children
                .into_iter()
                // A missing name is left out, which is what makes it undefined.
                .filter(|(_, node)| node.value.is_some() || !node.children.is_empty())
                .map(|(name, node)| (name, node.value()))
                .collect::<BTreeMap<String, Value>>(),
        )
    }
}

/// The identifiers that directly follow `mark`.
fn words_after<'t>(text: &'t str, mark: &str) -> Vec<&'t str> {
    text.split(mark)
        .skip(1)
        .map(|rest| {
            let rest = rest.trim_start_matches(['-', '+']).trim_start();
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            &rest[..end]
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// The code of a template: all that is outside of `{{ }}` and `{% %}`, and strings in quotes, left out.
fn without_strings(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{").into_iter().chain(rest.find("{%")).min() {
        let mut quote = None;
        let mut end = rest.len();
        for (at, c) in rest[start + 2..].char_indices().map(|(at, c)| (start + 2 + at, c)) {
            match quote {
                Some(open) if c == open => quote = None,
                Some(_) => (),
                None if c == '"' || c == '\'' => quote = Some(c),
                None if c == '}' && rest[at - 1..].starts_with(['}', '%']) => {
                    end = at + 1;
                    break;
                }
                None => code.push(c),
            }
        }
        code.push(' ');
        rest = &rest[end..];
    }
    code
}

/// `other` for what is missing or empty.
fn default(value: &Value, other: Cow<'_, str>) -> String {
    match value.as_str() {
        Some(text) if !text.trim().is_empty() => text.to_owned(),
        Some(_) => other.into_owned(),
        None if value.is_undefined() || value.is_none() => other.into_owned(),
        None => value.to_string(),
    }
}

/// The first line that is not blank.
fn first_line(text: Cow<'_, str>) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("").to_owned()
}

/// At most `limit` characters; what is longer is cut and ends in an ellipsis.
fn truncate(text: Cow<'_, str>, limit: usize) -> String {
    if text.char_indices().nth(limit).is_none() {
        return text.into_owned();
    }
    let end = text.char_indices().nth(limit.saturating_sub(1)).map_or(0, |(at, _)| at);
    format!("{}…", text[..end].trim_end())
}

/// What stands after the first `start` and before the next `end`; undefined if either is not there.
fn between(text: Cow<'_, str>, start: Cow<'_, str>, end: Cow<'_, str>) -> Value {
    let found = text.find(start.as_ref()).and_then(|at| {
        let rest = &text[at + start.len()..];
        rest.find(end.as_ref()).map(|to| rest[..to].trim())
    });
    found.map_or(Value::UNDEFINED, Value::from)
}

/// Lower-case letters and digits, all else one hyphen: a key that survives changes of spelling.
fn slug(text: Cow<'_, str>) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}

/// A date (RFC 3339, RFC 2822, seconds or milliseconds since 1970) in another form (strftime) and zone;
/// what is no date stays as it is.
fn date(
    text: Cow<'_, str>,
    format: Cow<'_, str>,
    zone: Option<Cow<'_, str>>,
) -> Result<String, minijinja::Error> {
    let wrong = |message: String| minijinja::Error::new(ErrorKind::InvalidOperation, message);
    let zone = match zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(&name).map_err(|_| wrong(format!("there is no time zone `{name}`")))?,
    };
    let trimmed = text.trim();
    let number = trimmed.parse::<i64>().ok().and_then(|n| {
        // Seconds reach this in the year 5138.
        if n.abs() < 100_000_000_000 {
            Timestamp::from_second(n).ok()
        } else {
            Timestamp::from_millisecond(n).ok()
        }
    });
    let found = number
        .or_else(|| trimmed.parse().ok())
        .or_else(|| jiff::fmt::rfc2822::parse(trimmed).ok().map(|zoned| zoned.timestamp()));
    let Some(time) = found else { return Ok(text.into_owned()) };
    jiff::fmt::strtime::format(format.as_ref(), &time.to_zoned(zone))
        .map_err(|error| wrong(format!("the date format is wrong: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> Engine {
        let levels = [("1".to_owned(), "low".to_owned()), ("high".to_owned(), "critical".to_owned())];
        Engine::new([("level".to_owned(), levels.into())].into())
    }

    fn render(text: &str, value: Option<&'static str>) -> Result<String, Failure> {
        let mut engine = engine();
        let template = engine.compile(text).unwrap();
        engine.render(&template, |_, _| value.map(Cow::Borrowed))
    }

    #[test]
    fn the_filters_do_what_the_language_says() {
        for (text, value, expected) in [
            ("{{ x | first_line }}", "\n  one \ntwo", "one"),
            ("{{ x | truncate(5) }}", "äöüäöü", "äöüä…"),
            ("{{ x | between('[#', ']') }}", "Fwd: [#12] a", "12"),
            ("{{ x | slug }}", " Web Server 01/HTTP!", "web-server-01-http"),
            ("{{ x | map('level') }}", "HIGH", "critical"),
            ("{{ x | date('%H:%M') }}", "2026-11-20T18:04:05+01:00", "17:04"),
            ("{{ x | date('%Y') }}", "yesterday", "yesterday"),
            ("{{ x | date('%d.%m.') }}", "Fri, 20 Nov 2026 18:04:05 +0100", "20.11."),
            ("{{ x | date('%Y') }}", "1795194245", "2026"),
            ("{{ x | default('-') }}", " ", "-"),
            ("{% if x == 'a' %}A{% else %}B{% endif %}", "a", "A"),
        ] {
            assert_eq!(render(text, Some(value)), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_inserted_is_never_evaluated() {
        assert_eq!(render("{{ x }}", Some("{{ 7 * 7 }}{% if %}")), Ok("{{ 7 * 7 }}{% if %}".into()));
        assert_eq!(render("{{ x }}", Some("<b>&")), Ok("<b>&".into()));
    }

    #[test]
    fn what_is_missing_is_a_failure_unless_the_template_says_what_instead() {
        assert_eq!(render("a {{ x }}", None), Err(Failure::Missing));
        assert_eq!(render("a {{ x | upper }}", None), Err(Failure::Missing));
        assert_eq!(render("{{ x | between('a', 'b') }}", Some("none")), Err(Failure::Missing));
        assert_eq!(render("{{ x | map('level') }}", Some("9")), Err(Failure::Missing));
        assert_eq!(render("{{ x | map('level') | default('info') }}", Some("9")), Ok("info".into()));
        assert_eq!(render("{{ x or 'b' }}", None), Ok("b".into()));
        assert_eq!(render("{% if x is defined %}a{% endif %}", None), Ok(String::new()));
    }

    #[test]
    fn loops_and_unknown_filters_are_refused() {
        let refuse = |text: &str| engine().compile(text).unwrap_err().message;
        assert_eq!(refuse("{% for a in x %}{% endfor %}"), "a template has no `for`");
        assert_eq!(refuse("{{ x | tojson }}"), "unknown filter `tojson`");
        assert!(engine().compile("a | b {{ x | default('|c') }}").is_ok());
        assert!(engine().compile("{{ x ").is_err());
    }
}
