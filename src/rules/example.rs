//! Examples: a mail and what must come of it, written beside the rules that do it. They are tests: of the
//! rules when a site loads them, and of the site when somebody changes them.

use crate::time::{duration_text, parse_duration};
use crate::words::Words;
use std::net::IpAddr;
use std::ops::Range;

use jiff::Timestamp;
use regex::Regex;

use crate::diagnostic::{Diagnostic, Source, suggest};
use crate::document::{Located, Table, Value};
use crate::event::Event;
use crate::mail::{Authenticity, Client, Envelope, Message};

use super::field::Key;
use super::file::Reader;
use super::{RuleSet, Subject, is_shipped};

/// An example of a rule file.
#[derive(Debug, Clone)]
pub struct Example {
    source: Source,
    span: Range<usize>,
    mail: ExampleMail,
    client: IpAddr,
    user: Option<String>,
    authenticated: bool,
    sender: Option<String>,
    recipients: Vec<String>,
    team: Option<String>,
    received: Timestamp,
    expected: Expected,
}

/// The mail of an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExampleMail {
    /// A path relative to the rule file.
    File(String),
    /// The content itself.
    Inline(String),
}

/// Something that came out otherwise than an example says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// The field as examples write it; `events` if their number is wrong, `drop` if the mail was to be
    /// dropped.
    pub field: String,
    /// What was expected, in words.
    pub expected: String,
    /// What came out; none if the field is not set.
    pub found: Option<String>,
    /// The rule, or the fallback, that set it, where that is known.
    pub by: Option<String>,
    /// The same as an error, at its place in the rule file.
    pub diagnostic: Diagnostic,
}

#[derive(Debug, Clone)]
enum Expected {
    /// One table for each event, in order.
    Events(Vec<Vec<Expectation>>),
    /// The mail is dropped, for this reason if one is given.
    Drop(Option<Located<String>>),
}

/// What a field of an event must be.
#[derive(Debug, Clone)]
struct Expectation {
    field: String,
    must: Must,
    span: Range<usize>,
}

#[derive(Debug, Clone)]
enum Must {
    Be(String),
    NotBe(String),
    Match(Regex),
    BePresent(bool),
}

impl Example {
    /// The rule file that the example is in.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The mail to judge.
    pub fn mail(&self) -> &ExampleMail {
        &self.mail
    }

    /// Whether it belongs to the shipped rules, whose mails are not on a site's machine.
    pub fn is_shipped(&self) -> bool {
        is_shipped(&self.source)
    }

    /// A name for reports: the file, the line and the mail.
    pub fn name(&self) -> String {
        let line = self.source.diagnostic(self.span.clone(), "").line;
        let mail = match &self.mail {
            ExampleMail::File(path) => path.rsplit('/').next().unwrap_or(path),
            ExampleMail::Inline(_) => "inline mail",
        };
        format!("{}:{line}: {mail}", self.source.path)
    }

    /// The diagnostic for a mail that cannot be read.
    pub fn unreadable(&self, why: &str) -> Diagnostic {
        let help = "the path is relative to the rule file";
        self.source
            .diagnostic(self.span.clone(), format!("the mail of the example cannot be read: {why}"))
            .help(help)
    }

    /// The envelope that the mail comes with.
    pub fn envelope(&self, message: &Message) -> Envelope {
        let first = |list: &[crate::mail::Address]| list.first().map(|a| a.address.clone());
        Envelope {
            received_at: self.received,
            origin: crate::mail::Origin::Smtp,
            client: Client {
                address: Some(self.client),
                helo: "example".to_owned(),
                user: self.user.clone(),
                ..Client::default()
            },
            reverse_path: self.sender.clone().or_else(|| first(&message.from)).unwrap_or_default(),
            recipients: if self.recipients.is_empty() {
                first(&message.to).into_iter().collect()
            } else {
                self.recipients.clone()
            },
            authenticity: self.authenticated.then(|| Authenticity::assumed(message.sent_by()).into()),
            ..Envelope::default()
        }
    }
}

impl RuleSet {
    /// The examples of all files, in order. Those of shipped files are among them: [`Example::is_shipped`].
    pub fn examples(&self) -> impl Iterator<Item = &Example> {
        self.sheets.iter().flat_map(|sheet| &sheet.examples)
    }

    /// Judges `content` as the mail of `example`; what came out otherwise than expected.
    pub fn check_example(&self, example: &Example, content: &[u8]) -> Vec<Diagnostic> {
        self.deviations(example, content).into_iter().map(|deviation| deviation.diagnostic).collect()
    }

    /// The same, each with what was expected and what set it.
    pub fn deviations(&self, example: &Example, content: &[u8]) -> Vec<Deviation> {
        let message = self.read(content);
        let envelope = example.envelope(&message);
        let team =
            example.team.as_deref().or(self.site.teams.first().map(String::as_str)).unwrap_or("example");
        let subject = Subject { message: &message, envelope: &envelope, team };
        let judgement = self.judge(&subject);
        let one = |field: &str,
                   expected: &str,
                   found: String,
                   by,
                   span: &Range<usize>,
                   what: String,
                   help: String| {
            vec![Deviation {
                field: field.to_owned(),
                expected: expected.to_owned(),
                found: Some(found),
                by,
                diagnostic: example.source.diagnostic(span.clone(), what).help(help),
            }]
        };
        match (&example.expected, &judgement.dropped) {
            (Expected::Drop(None), Some(_)) => Vec::new(),
            (Expected::Drop(Some(reason)), Some(dropped)) if reason.value == dropped.reason => Vec::new(),
            (Expected::Drop(Some(reason)), Some(dropped)) => {
                let what = format!("the mail is dropped by `{}`: {}", dropped.rule, dropped.reason);
                let help = format!("expected: {}", reason.value);
                let by = Some(dropped.rule.clone());
                one("drop", &reason.value, dropped.reason.clone(), by, &reason.span, what, help)
            }
            (Expected::Drop(reason), None) => {
                let expected = reason.as_ref().map_or("true", |reason| reason.value.as_str());
                let title = judgement.events.first().map_or("", |event| &event.title);
                let help = format!("it raises: {title}");
                let what = "the mail is not dropped".to_owned();
                one("drop", expected, help.clone(), None, &example.span, what, help)
            }
            (Expected::Events(_), Some(dropped)) => {
                let what = format!("the mail is dropped by `{}`", dropped.rule);
                let help = format!("its reason: {}", dropped.reason);
                let found = format!("dropped: {}", dropped.reason);
                one("events", "an event", found, Some(dropped.rule.clone()), &example.span, what, help)
            }
            (Expected::Events(expected), None) if expected.len() != judgement.events.len() => {
                let titles: Vec<_> = judgement.events.iter().map(|event| event.title.as_str()).collect();
                let (is, must, titles) = (titles.len(), expected.len(), titles.join("; "));
                let what = format!("{is} events come of the mail");
                let help = format!("expected: {must}; they are: {titles}");
                one("events", &must.to_string(), format!("{is}: {titles}"), None, &example.span, what, help)
            }
            (Expected::Events(expected), None) => {
                let mut found: Vec<Deviation> = expected
                    .iter()
                    .zip(&judgement.events)
                    .flat_map(|(expected, event)| {
                        expected
                            .iter()
                            .filter_map(|expectation| expectation.deviation(&example.source, event))
                    })
                    .collect();
                if !found.is_empty()
                    && let [piece] = self.judge_traced(&subject).trace.pieces.as_slice()
                {
                    for deviation in &mut found {
                        let origin = piece.origins.iter().find(|origin| origin.field == deviation.field);
                        deviation.by = origin.map(|origin| origin.by.clone());
                    }
                }
                found
            }
        }
    }
}

impl Expectation {
    /// What is otherwise in `event`, if anything is.
    fn deviation(&self, source: &Source, event: &Event) -> Option<Deviation> {
        let found = value_of(event, &self.field);
        let is = found.as_deref();
        let (holds, expected) = match &self.must {
            Must::Be(text) => (is == Some(text), text.clone()),
            Must::NotBe(text) => (is != Some(text), format!("not {text}")),
            Must::Match(pattern) => {
                (is.is_some_and(|is| pattern.is_match(is)), format!("a match of {pattern}"))
            }
            Must::BePresent(true) => (is.is_some(), "any value".to_owned()),
            Must::BePresent(false) => (is.is_none(), "not set".to_owned()),
        };
        let shown = is.map_or("not set".to_owned(), |is| format!("`{is}`"));
        let diagnostic = source
            .diagnostic(self.span.clone(), format!("`{}` is {shown}", self.field))
            .help("it is expected otherwise; `explain` shows which rule set it");
        (!holds).then(|| Deviation { field: self.field.clone(), expected, found, by: None, diagnostic })
    }
}

/// The value of a field as an example writes it.
fn value_of(event: &Event, field: &str) -> Option<String> {
    let tile = |name: &str| event.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    match field {
        "title" => Some(event.title.clone()),
        "message" => Some(event.message.clone()),
        "status" => Some(event.status.to_string()),
        "external-id" => event.external_id.clone(),
        "severity" => event.severity.map(|severity| severity.to_string()),
        "mark" => event.identity.guess.as_ref()?.mark.map(|mark| mark.word().to_owned()),
        "service" => event.service.clone(),
        "color" => event.color.clone(),
        "scenario" => event.scenario.map(|scenario| scenario.to_string()),
        "location" => event.location.clone(),
        "filtering" => event.filtering.map(|filtering| filtering.to_string()),
        "source-system" => event.source_system.clone(),
        "instance" => Some(event.identity.instance.clone()),
        "repeat" => event.repeat.map(|repeat| repeat.to_string()),
        "quiet" => event.quiet.map(duration_text),
        "tlp" => tile("TLP"),
        "link" => tile("Link"),
        "reference" => tile("Reference"),
        "team" => Some(event.team.clone()),
        "attach" => {
            let names: Vec<_> = event.attachments.iter().map(|file| file.name.as_str()).collect();
            (!names.is_empty()).then(|| names.join(", "))
        }
        other => tile(other.strip_prefix("tile.").unwrap_or(other)),
    }
}

/// `text` as [`value_of`] writes it: `60s` is the same as `1m`.
fn canonical(field: &str, text: String) -> String {
    match parse_duration(&text) {
        Some(duration) if field == "quiet" => duration_text(duration),
        _ => text,
    }
}

impl Reader<'_> {
    /// Reads an `[[example]]`.
    pub(super) fn example(&mut self, mut table: Table<'_>) -> Option<Example> {
        let span = table.span();
        let mail = table.string("mail");
        if mail.is_none() && !table.has("mail") {
            self.error(
                span.clone(),
                "the example has no mail",
                "write `mail = \"file.eml\"`, or the mail itself in \"\"\"",
            );
        }
        let client = table.string("client").and_then(|text| self.address(&text));
        let received = table.string("received").and_then(|text| {
            let found = text.value.parse().ok();
            if found.is_none() {
                self.error(
                    text.span,
                    format!("`{}` is not a time", text.value),
                    "write \"2026-11-20T18:04:05+01:00\"",
                );
            }
            found
        });
        let authenticated = table.boolean("authenticated").unwrap_or(false);
        let mut text = |key| table.string(key).map(|text| text.value);
        let (user, sender, team) = (text("user"), text("sender"), text("team"));
        let recipients = table.strings("recipient").unwrap_or_default();
        let expected = match table.value("expect") {
            Some(value) => self.expected(&value),
            None => {
                self.error(
                    span.clone(),
                    "the example expects nothing",
                    "write `expect = { status = \"new\", ... }` or `expect = { drop = true }`",
                );
                None
            }
        };
        table.finish();
        let mail = mail?;
        Some(Example {
            source: self.source.clone(),
            span: mail.span,
            mail: if mail.value.contains('\n') {
                ExampleMail::Inline(mail.value)
            } else {
                ExampleMail::File(mail.value)
            },
            client: client.unwrap_or(IpAddr::from([127, 0, 0, 1])),
            user,
            authenticated,
            sender,
            recipients: recipients.into_iter().map(|text| text.value).collect(),
            team,
            received: received.unwrap_or(Timestamp::UNIX_EPOCH),
            expected: expected?,
        })
    }

    fn expected(&mut self, value: &Value<'_>) -> Option<Expected> {
        if value.type_name() == "array" {
            let events = value
                .array()?
                .iter()
                .map(|item| item.table().map(|table| self.expectations(table)))
                .collect::<Option<_>>()?;
            return Some(Expected::Events(events));
        }
        let mut table = value.table()?;
        if table.has("drop") {
            let drop = table.value("drop")?;
            let reason = if drop.type_name() == "boolean" { None } else { drop.string() };
            table.finish();
            return Some(Expected::Drop(reason));
        }
        Some(Expected::Events(vec![self.expectations(table)]))
    }

    fn expectations(&mut self, mut table: Table<'_>) -> Vec<Expectation> {
        let mut all = Vec::new();
        for (name, value) in table.entries() {
            if name.value == "tile" {
                for (tile, value) in value.table().map_or_else(Vec::new, |mut table| table.entries()) {
                    all.extend(self.expectation(format!("tile.{}", tile.value), &value));
                }
            } else if name.value == "team" || Key::from_name(&name.value).is_some() {
                all.extend(self.expectation(name.value, &value));
            } else {
                let known = Key::ALL.iter().map(|(name, _)| *name).chain(["team", "tile", "drop"]);
                let help = suggest(&name.value, known);
                self.error(name.span, format!("nothing of an event is called `{}`", name.value), help);
            }
        }
        all
    }

    fn expectation(&mut self, field: String, value: &Value<'_>) -> Option<Expectation> {
        let must = match value.type_name() {
            "boolean" => Must::Be(value.boolean()?.to_string()),
            "table" => {
                let mut table = value.table()?;
                let (not, matches, present) =
                    (table.string("not"), table.value("matches"), table.boolean("present"));
                table.finish();
                match (not, matches, present) {
                    (Some(text), None, None) => Must::NotBe(canonical(&field, text.value)),
                    (None, Some(value), None) => Must::Match(self.pattern(&value)?.regex),
                    (None, None, Some(present)) => Must::BePresent(present),
                    _ => {
                        value.error(
                            "one thing is expected of a field",
                            "write a text, { matches = '...' }, { not = \"...\" } or { present = false }",
                        );
                        return None;
                    }
                }
            }
            _ => Must::Be(canonical(&field, value.string()?.value)),
        };
        Some(Expectation { field, must, span: value.span() })
    }
}
