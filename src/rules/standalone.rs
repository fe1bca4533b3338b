//! Conditions that stand alone, outside rule files: on a mail, and on what the rules made of it. Maintenance
//! windows, mutes and expected mails are told by them.
//!
//! The language is that of a rule's `when`, but that nothing is captured: a name can only be that of a field.

use crate::words::Words;
use std::cell::OnceCell;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Source, suggest};
use crate::document::Table;
use crate::event::Event;

use super::attach;
use super::condition::{Check, Condition, Test};
use super::config::Config;
use super::field::{Field, Key, MailField, Nature};
use super::file::{Reader, condition_names, inner_span};
use super::judge::TEXT_LIMIT;
use super::mail_fields::{MailFields, Subject};
use super::pattern::Pattern;
use super::site::Site;

/// A condition on a mail and on an event that was made of it.
#[derive(Debug, Clone)]
pub struct StandaloneCondition {
    condition: Condition,
    site: Arc<Site>,
}

impl StandaloneCondition {
    /// Reads the key `when` of `table`; none if it is not written or is wrong, and then that is reported.
    /// `config` has the site's time zone, networks and values.
    pub fn read(table: &mut Table<'_>, config: &Config) -> Option<Self> {
        let value = table.value("when")?;
        let mut reader = Reader::new(table.source(), &config.zone);
        let condition = reader.when(&value);
        let mut errors = reader.errors;
        if let Some(condition) = &condition {
            condition.tests(&mut |test| errors.extend(unknown(table.source(), test, config)));
        }
        errors.into_iter().for_each(|error| table.report(error));
        Some(Self::of(condition?, config))
    }

    /// Reads `KEY=REGEX` of the command line, each in one of `arguments`; all must hold. A key is a field as in
    /// `when`, with dots: `subject`, `header.x-host`, `event.title`, `event.tile.Host`.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with its place in its argument. `flag` is the name to show.
    pub fn parse(flag: &str, arguments: &[String], config: &Config) -> Result<Self, Vec<Diagnostic>> {
        let (mut tests, mut errors) = (Vec::new(), Vec::new());
        for argument in arguments {
            match test_of(&Source::new(flag, argument.as_str())) {
                Ok(test) => tests.push(Condition::Test(test)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(Self::of(Condition::All(tests), config)) } else { Err(errors) }
    }

    fn of(condition: Condition, config: &Config) -> Self {
        Self { condition, site: Arc::new(config.site(Vec::new(), Vec::new())) }
    }

    /// Whether it holds for `subject` and, where one was made of it, for `event`.
    pub fn holds(&self, subject: &Subject<'_>, event: Option<&Event>) -> bool {
        let text = &subject.message.text;
        let text = &text[..text.floor_char_boundary(TEXT_LIMIT)];
        let standing = OnceCell::new();
        let mail = MailFields::new(subject, text, &self.site, &standing, 0);
        self.test_tree(&self.condition, &mail, event)
    }

    fn test_tree(&self, condition: &Condition, mail: &MailFields<'_>, event: Option<&Event>) -> bool {
        match condition {
            Condition::All(inner) => inner.iter().all(|inner| self.test_tree(inner, mail, event)),
            Condition::Any(inner) => inner.iter().any(|inner| self.test_tree(inner, mail, event)),
            Condition::Not(inner) => !self.test_tree(inner, mail, event),
            Condition::Test(test) => self.test(test, mail, event),
        }
    }

    fn test(&self, test: &Test, mail: &MailFields<'_>, event: Option<&Event>) -> bool {
        let wanted = match &test.check {
            Check::Present(wanted) => *wanted,
            Check::Clock(schedule) => return schedule.holds(mail.envelope.received_at),
            _ => true,
        };
        let passes = |value: &str| !value.is_empty() && test.check.passes(value);
        let passed = match &test.field {
            field @ (Field::Mail(_) | Field::Header(_)) => mail.any_value(field, passes),
            Field::Event(key) => {
                event.and_then(|event| value_of(event, *key)).is_some_and(|value| passes(&value))
            }
            Field::Tile(name) => event.and_then(|event| tile(event, name)).is_some_and(passes),
            Field::Site(name) => self.site.value(name).is_some_and(passes),
            Field::Line(_) | Field::Name { .. } => false,
        };
        passed == wanted
    }
}

/// What is wrong with the field of `test`, outside of a rule file.
fn unknown(source: &Source, test: &Test, config: &Config) -> Option<Diagnostic> {
    match &test.field {
        Field::Name { name, .. } => {
            let problem = source.diagnostic(test.span.clone(), format!("unknown field `{name}`"));
            Some(problem.help(suggest(name, condition_names())))
        }
        Field::Line(_) => {
            let message = "a labelled line is known to rule files alone";
            Some(source.diagnostic(test.span.clone(), message).help("test `text` instead"))
        }
        Field::Site(name) if !config.values.iter().any(|(known, _)| *known == **name) => {
            let problem = source.diagnostic(test.span.clone(), format!("the site has no value `{name}`"));
            Some(problem.help(format!("add `{name} = \"...\"` to [rules.values]")))
        }
        _ => None,
    }
}

/// Reads one `KEY=REGEX`.
fn test_of(source: &Source) -> Result<Test, Diagnostic> {
    let text = &*source.text;
    let wrong = |span, message: String, help: &str| Err(source.diagnostic(span, message).help(help));
    let Some((key, value)) = text.split_once('=') else {
        return wrong(
            0..text.len(),
            "there is no `=`".to_owned(),
            "write KEY=REGEX, such as subject='^Backup'",
        );
    };
    let (key_span, value_at) = (0..key.len(), key.len() + 1);
    let field = match field_of(key) {
        Ok(field) => field,
        Err(help) => return wrong(key_span, format!("unknown field `{key}`"), &help),
    };
    let nature = if let Field::Mail(field) = &field { field.nature() } else { Nature::Text };
    let check = match nature {
        Nature::Text if value.is_empty() => {
            return wrong(
                0..text.len(),
                "there is no pattern".to_owned(),
                "write KEY=REGEX; `.` is any value",
            );
        }
        Nature::Text => match Pattern::new(value) {
            Ok(pattern) => Check::Matches(Box::new(pattern)),
            Err(fault) => {
                let span = inner_span(source, &(value_at..text.len()), value, fault.at);
                return wrong(span, format!("the pattern is wrong: {}", fault.message), fault.help);
            }
        },
        Nature::Flag => match value.parse() {
            Ok(flag) => Check::Flag(flag),
            Err(_) => {
                let message = format!("`{key}` cannot be `{value}`");
                return wrong(value_at..text.len(), message, "write `true` or `false`");
            }
        },
        Nature::Time => {
            return wrong(key_span, format!("`{key}` is no text"), "say when it ends by --for or --until");
        }
    };
    Ok(Test { field, check, label: text.to_owned(), span: key_span, filter: None })
}

/// The field that `key` names, or what to write instead.
fn field_of(key: &str) -> Result<Field, String> {
    match key.split_once('.') {
        Some(("header", name)) if !name.is_empty() => Ok(Field::Header(name.to_ascii_lowercase().into())),
        Some(("event", name)) => match name.split_once('.') {
            Some(("tile", tile)) if !tile.is_empty() => Ok(Field::Tile(tile.into())),
            _ => Key::from_name(name).map(Field::Event).ok_or_else(|| {
                let known: Vec<String> = Key::ALL.iter().map(|(name, _)| format!("event.{name}")).collect();
                suggest(key, known.iter().map(String::as_str))
            }),
        },
        _ => match Field::plain(key) {
            field @ Field::Mail(_) => Ok(field),
            _ => Err(suggest(
                key,
                MailField::ALL.iter().map(|(name, _)| *name).chain(["header.NAME", "event.KEY"]),
            )),
        },
    }
}

/// What `event` has for `key`.
fn value_of(event: &Event, key: Key) -> Option<String> {
    match key {
        Key::Title => Some(event.title.clone()),
        Key::Message => Some(event.message.clone()),
        Key::Status => Some(event.status.to_string()),
        Key::ExternalId => event.external_id.clone(),
        Key::Severity => event.severity.map(|severity| severity.to_string()),
        Key::Service => event.service.clone(),
        Key::Color => event.color.clone(),
        Key::Scenario => event.scenario.map(|scenario| scenario.to_string()),
        Key::Location => event.location.clone(),
        Key::Filtering => event.filtering.map(|filtering| filtering.to_string()),
        Key::SourceSystem => event.source_system.clone(),
        Key::Mark => event.identity.guess.as_ref()?.mark.map(|mark| mark.word().to_owned()),
        // It is in the base of the key, and nowhere else.
        Key::About => None,
        Key::Instance => Some(event.identity.instance.clone()),
        Key::Repeat => event.repeat.map(|repeat| repeat.to_string()),
        Key::Quiet => event.quiet.map(|quiet| format!("{}s", quiet.as_secs())),
        Key::Attach => attach::kinds_of(event),
        // These three leave as tiles.
        Key::Tlp => tile(event, "TLP").map(str::to_owned),
        Key::Link => tile(event, "Link").map(str::to_owned),
        Key::Reference => tile(event, "Reference").map(str::to_owned),
    }
}

fn tile<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    event.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;
    use crate::event::Severity;
    use crate::mail::{Envelope, Message};

    fn read(text: &str) -> Result<Option<StandaloneCondition>, Vec<String>> {
        let config = Config { values: vec![("host".into(), "db1".into())], ..Config::default() };
        document::read(&Source::new("t.toml", text), |table| StandaloneCondition::read(table, &config))
            .map_err(|found| {
                found.iter().map(|d| format!("{}:{}: {}", d.line, d.column, d.message)).collect()
            })
    }

    fn parse(arguments: &[&str]) -> Result<StandaloneCondition, Vec<String>> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        StandaloneCondition::parse("--match", &arguments, &Config::default()).map_err(|found| {
            found.iter().map(|d| format!("{}:{}: {}", d.path, d.column, d.message)).collect()
        })
    }

    fn event() -> Event {
        Event {
            team: "soc".into(),
            title: "db1 is DOWN".into(),
            source_system: Some("Nagios".into()),
            external_id: Some("nagios:db1".into()),
            severity: Some(Severity::High),
            fields: vec![("Host".into(), "db1".into()), ("TLP".into(), "amber".into())],
            ..Event::default()
        }
    }

    fn holds(when: &StandaloneCondition, event: Option<&Event>) -> bool {
        let message =
            Message::parse(b"Subject: ** PROBLEM Host Alert: db1 is DOWN **\r\nX-Site: berlin\r\n\r\nt\r\n");
        let envelope =
            Envelope { received_at: "2026-11-21T23:00:00Z".parse().unwrap(), ..Envelope::default() };
        when.holds(&Subject { message: &message, envelope: &envelope, team: "soc" }, event)
    }

    #[test]
    fn mail_envelope_and_resulting_event_are_one_condition() {
        let event = event();
        let law = |text: &str| holds(&read(text).unwrap().unwrap(), Some(&event));
        assert!(law("when = { event.source-system = 'Nagios', subject = 'db1', team = '^soc$' }"));
        assert!(law(
            "when = { event = { severity = { at-least = 'high' }, tlp = 'amber', tile.Host = '^db' } }"
        ));
        assert!(law("when = { header.x-site = { equals = 'BERLIN' }, event.status = { equals = 'new' } }"));
        assert!(law(
            "when = { received = { days = ['sat'] }, event.external-id = '^nagios:', site.host = 'db1' }"
        ));
        assert!(law(
            "when = { any = [{ subject = 'web' }, { not = { event.service = { present = true } } }] }"
        ));
        assert!(!law("when = { event.source-system = 'Zabbix', subject = 'db1' }"));
        assert!(!law("when = { event.severity = { at-least = 'critical' } }"));
        assert!(!law("when = { event.service = 'x' }"));
        // Of a mail that made no event, what is asked of the event does not hold.
        assert!(!holds(&read("when = { event.title = 'db1' }").unwrap().unwrap(), None));
        assert!(holds(&read("when = { subject = 'db1' }").unwrap().unwrap(), None));
    }

    #[test]
    fn what_is_no_field_is_told_at_its_place() {
        for (text, told) in [
            ("when = { subjct = 'x' }", "1:10: unknown field `subjct`"),
            ("when = { event = { titel = 'x' } }", "1:20: nothing of an event is called `titel`"),
            ("when = { site.port = 'x' }", "1:15: the site has no value `port`"),
            ("when = { text = '(' }", "1:18: the pattern is wrong: unclosed group"),
        ] {
            assert_eq!(read(text).unwrap_err(), [told]);
        }
        assert!(read("").unwrap().is_none());
    }

    #[test]
    fn arguments_are_the_same_fields_and_their_errors_point_into_them() {
        let event = event();
        let law = |arguments: &[&str]| holds(&parse(arguments).unwrap(), Some(&event));
        assert!(law(&[
            "event.source-system=Nagios",
            "subject=db1",
            "header.X-Site=berlin",
            "event.tile.Host=^db1$"
        ]));
        assert!(law(&["event.severity=high|critical", "encrypted=false"]));
        assert!(!law(&["subject=PROBLEM=1"]), "only the first `=` ends the key");
        assert!(!law(&["event.source-system=Nagios", "subject=db2"]));
        assert_eq!(
            parse(&[
                "subjct=x",
                "subject",
                "subject=",
                "event.titel=x",
                "subject=a(b",
                "trusted=yes",
                "received=x"
            ])
            .unwrap_err(),
            [
                "--match:1: unknown field `subjct`",
                "--match:1: there is no `=`",
                "--match:1: there is no pattern",
                "--match:1: unknown field `event.titel`",
                "--match:10: the pattern is wrong: unclosed group",
                "--match:9: `trusted` cannot be `yes`",
                "--match:1: `received` is no text",
            ]
        );
    }
}
