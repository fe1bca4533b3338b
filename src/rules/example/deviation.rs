//! What comes of the mail of an example, compared with what it expects.

use std::ops::Range;

use super::{Example, Expectation, Expected, Must};
use crate::diagnostic::{Diagnostic, Source};
use crate::event::Event;
use crate::rules::mail_fields::Subject;
use crate::rules::rule_set::RuleSet;
use crate::time::duration_text;
use crate::words::Words;

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

impl RuleSet {
    /// The examples of all files, in order. Those of shipped files are among them: [`Example::is_shipped`].
    pub fn examples(&self) -> impl Iterator<Item = &Example> {
        self.files.iter().flat_map(|file| &file.examples)
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
pub(super) fn value_of(event: &Event, field: &str) -> Option<String> {
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
