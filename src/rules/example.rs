//! Examples: a mail and what must come of it, written beside the rules that do it. They are tests: of the
//! rules when a site loads them, and of the site when the rules change.

mod deviation;

pub use deviation::Deviation;

use crate::time::{duration_text, parse_duration};
use std::net::IpAddr;
use std::ops::Range;

use jiff::Timestamp;
use regex::Regex;

use crate::diagnostic::{Diagnostic, Source, suggest};
use crate::document::{Located, Table, Value};
use crate::mail::{Authenticity, Client, Envelope, Message};

use super::field::Key;
use super::file::Reader;
use super::shipped::is_shipped;

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

/// `text` as [`deviation::value_of`] writes it: `60s` is the same as `1m`.
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
