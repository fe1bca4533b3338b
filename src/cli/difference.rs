//! What two sets of rules make of the same mail, compared: which events stand for each other, what became
//! of each, and which fields differ. Left out: judging, and how it is shown.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::event::{Event, Status};
use crate::rules::{Judgement, Outcome, Piece};
use crate::time::duration_text;

use super::terminal::excerpt;

/// Most events of a mail that are matched by what they say; more are taken in order, as matching them
/// takes the square of their number.
const MATCHED: usize = 64;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// A page that there was not.
    Added,
    /// A page that there is no more.
    Lost,
    /// It closes what it did not close.
    Closed,
    /// It no longer closes.
    NoLongerClosed,
    /// It reaches others, or pages otherwise.
    Rerouted,
    /// It belongs to another incident.
    Rekeyed,
    /// Its repeats page at other times.
    Retimed,
    /// It says something else.
    Reworded,
    /// Nothing.
    Unchanged,
}

impl Kind {
    /// All of them, the gravest first.
    pub const ALL: [Self; 9] = [
        Self::Lost,
        Self::Added,
        Self::Closed,
        Self::NoLongerClosed,
        Self::Rekeyed,
        Self::Rerouted,
        Self::Retimed,
        Self::Reworded,
        Self::Unchanged,
    ];

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Added => "pages added",
            Self::Lost => "pages lost",
            Self::Closed => "closed",
            Self::NoLongerClosed => "no longer closed",
            Self::Rerouted => "re-routed",
            Self::Rekeyed => "with another key",
            Self::Retimed => "with other repeats",
            Self::Reworded => "with other words",
            Self::Unchanged => "unchanged",
        }
    }

    /// What became of `before` when it is `after`.
    pub fn of(before: Option<&Event>, after: Option<&Event>) -> Self {
        let status = |event: Option<&Event>| event.map(|event| event.status);
        match (status(before), status(after)) {
            (Some(Status::Resolved), Some(Status::Resolved)) => {}
            (_, Some(Status::Resolved)) => return Self::Closed,
            (Some(Status::New), Some(Status::New)) => {}
            (_, Some(Status::New)) => return Self::Added,
            (Some(Status::New), _) => return Self::Lost,
            (Some(Status::Resolved), _) => return Self::NoLongerClosed,
            _ => {}
        }
        let (Some(before), Some(after)) = (before, after) else {
            // A new or missing acknowledgement alone pages nobody.
            return if before.is_some() || after.is_some() { Self::Reworded } else { Self::Unchanged };
        };
        let route = |event: &Event| {
            let Event { team, service, scenario, filtering, severity, color, location, .. } = event.clone();
            (team, service, scenario, filtering, severity, color, location)
        };
        if before == after {
            Self::Unchanged
        } else if before.external_id != after.external_id {
            // Before the route: an open alert whose key changes can no longer be closed.
            Self::Rekeyed
        } else if route(before) != route(after) {
            Self::Rerouted
        } else if (before.repeat, before.quiet) != (after.repeat, after.quiet) {
            Self::Retimed
        } else {
            Self::Reworded
        }
    }
}

/// The events of before and after that stand for each other: those that are equal, else those of one team
/// and key, of one team, and what is left in order.
pub(super) fn pairs<'e>(
    before: &'e [Event],
    after: &'e [Event],
) -> Vec<(Option<&'e Event>, Option<&'e Event>)> {
    let mut after: Vec<Option<&Event>> = after.iter().map(Some).collect();
    let mut pairs: Vec<(Option<&Event>, Option<&Event>)> =
        before.iter().map(|event| (Some(event), None)).collect();
    let alike: [fn(&Event, &Event) -> bool; 4] = [
        |a, b| a == b,
        |a, b| a.team == b.team && a.external_id == b.external_id,
        |a, b| a.team == b.team,
        |_, _| true,
    ];
    let rounds = if before.len().max(after.len()) <= MATCHED { &alike[..] } else { &alike[3..] };
    for alike in rounds {
        let mut from = 0;
        for (before, pair) in pairs.iter_mut().filter(|(_, pair)| pair.is_none()) {
            let before = before.expect("these are the events of before");
            let found = (from..after.len()).find(|&at| after[at].is_some_and(|after| alike(before, after)));
            if let Some(at) = found {
                *pair = after[at].take();
                if rounds.len() == 1 {
                    from = at + 1;
                }
            }
        }
    }
    pairs.extend(after.into_iter().flatten().map(|event| (None, Some(event))));
    pairs
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct FieldChange {
    /// The key of the payload, or `team`.
    pub field: String,
    /// Its value before; none if it was not set.
    pub before: Option<Value>,
    /// Its value after.
    pub after: Option<Value>,
    /// The rule that set it before, where one did.
    pub before_by: Option<String>,
    /// The rule that sets it after.
    pub after_by: Option<String>,
}

impl FieldChange {
    /// The change on one line.
    pub fn line(&self) -> String {
        let shown = |value: &Option<Value>| match value {
            None => "nothing".to_owned(),
            Some(Value::String(text)) => format!("{:?}", excerpt(text)),
            Some(other) => other.to_string(),
        };
        format!("{}: {} → {}", excerpt(&self.field), shown(&self.before), shown(&self.after))
    }
}

/// The fields in which two events differ, in the order of the payload.
pub(super) fn changes(before: Option<&Event>, after: Option<&Event>) -> Vec<FieldChange> {
    let (before, after) = (before.map(fields).unwrap_or_default(), after.map(fields).unwrap_or_default());
    let new = after.keys().filter(|field| !before.contains_key(*field));
    before
        .keys()
        .chain(new)
        .filter(|field| before.get(*field) != after.get(*field))
        .map(|field| FieldChange {
            field: field.clone(),
            before: before.get(field).cloned(),
            after: after.get(field).cloned(),
            before_by: None,
            after_by: None,
        })
        .collect()
}

/// The event as SIGNL4 gets it, its team, and what the gateway alone goes by.
pub(super) fn fields(event: &Event) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("team".to_owned(), Value::String(event.team.clone()));
    let payload: Value = serde_json::from_str(&event.payload()).expect("a payload is JSON");
    if let Value::Object(payload) = payload {
        all.extend(payload);
    }
    if !event.attachments.is_empty() {
        let names: Vec<_> = event.attachments.iter().map(|file| file.name.as_str()).collect();
        all.insert("files".to_owned(), Value::String(names.join(", ")));
    }
    if let Some(repeat) = event.repeat {
        all.insert("repeat".to_owned(), Value::String(repeat.to_string()));
    }
    if let Some(quiet) = event.quiet {
        all.insert("quiet".to_owned(), Value::String(duration_text(quiet)));
    }
    all
}

/// The whole difference for one team.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Difference {
    /// The team that the recipients stand for.
    pub team: String,
    /// Rules that held before and no longer do.
    pub rules_before: Vec<String>,
    /// Rules that hold now and did not.
    pub rules_after: Vec<String>,
    /// Who dropped the mail before, and why.
    pub dropped_before: Option<String>,
    /// Who drops it now.
    pub dropped_after: Option<String>,
    /// What became of each event.
    pub events: Vec<EventChange>,
}

/// What became of an event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct EventChange {
    /// In a word.
    pub kind: Kind,
    /// The title, to tell it by.
    pub title: String,
    /// Every field that differs.
    pub fields: Vec<FieldChange>,
}

impl Difference {
    /// The difference between two judgements, both with a full trace.
    pub fn of(team: &str, before: &Judgement, after: &Judgement) -> Self {
        let (old, new) = (held(before), held(after));
        let only = |these: &[String], those: &[String]| {
            these.iter().filter(|rule| !those.contains(rule)).cloned().collect()
        };
        let dropped = |judgement: &Judgement| {
            judgement.dropped.as_ref().map(|dropped| format!("{}: {}", dropped.rule, dropped.reason))
        };
        let events = pairs(&before.events, &after.events)
            .into_iter()
            .map(|(old, new)| {
                let mut fields = changes(old, new);
                for change in &mut fields {
                    change.before_by = old.and_then(|event| set_by(before, event, &change.field));
                    change.after_by = new.and_then(|event| set_by(after, event, &change.field));
                }
                let title = new.or(old).map(|event| event.title.clone()).unwrap_or_default();
                EventChange { kind: Kind::of(old, new), title, fields }
            })
            .collect();
        Self {
            team: team.to_owned(),
            rules_before: only(&old, &new),
            rules_after: only(&new, &old),
            dropped_before: dropped(before),
            dropped_after: dropped(after),
            events,
        }
    }

    /// Whether the rules do the same, by whatever rules.
    pub fn is_empty(&self) -> bool {
        self.dropped_before == self.dropped_after
            && self.rules_before.is_empty()
            && self.rules_after.is_empty()
            && self.events.iter().all(|event| event.kind == Kind::Unchanged)
    }
}

/// The rules that held, each once.
fn held(judgement: &Judgement) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for source in judgement.trace.pieces.iter().flat_map(|piece| &piece.sources) {
        for rule in source.rules.iter().filter(|rule| rule.outcome == Outcome::Held) {
            let name = format!("{}: {}", source.source, rule.rule);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// The rule that set a field of `event`, one of those of `judgement`. Where a mail has several pieces and
/// they fan out to several teams, that is not known.
fn set_by(judgement: &Judgement, event: &Event, field: &str) -> Option<String> {
    let pieces: Vec<&Piece> = judgement.trace.pieces.iter().filter(|piece| piece.dropped.is_none()).collect();
    let piece = match pieces.as_slice() {
        [one] => one,
        several if several.len() == judgement.events.len() => {
            let at = judgement.events.iter().position(|other| std::ptr::eq(other, event))?;
            several[at]
        }
        _ => return None,
    };
    let tile = format!("tile.{field}");
    let names: &[&str] = match field {
        "Title" => &["title"],
        "Message" => &["message"],
        "X-S4-ExternalID" => &["external-id"],
        "X-S4-Service" => &["service", "color", "severity"],
        "X-S4-Location" => &["location"],
        "X-S4-SourceSystem" => &["source-system"],
        "X-S4-Status" => &["status"],
        "X-S4-AlertingScenario" => &["scenario", "severity"],
        "X-S4-Filtering" => &["filtering"],
        "Severity" => &["severity"],
        "Color" => &["color", "severity"],
        "team" => &["team"],
        "TLP" => &["tlp", "tile.TLP"],
        "Reference" => &["reference", "tile.Reference"],
        "Link" => &["link", "tile.Link"],
        "files" => &["attach"],
        "repeat" => &["repeat"],
        "quiet" => &["quiet"],
        _ => &[&tile],
    };
    let origin = names.iter().find_map(|name| piece.origins.iter().find(|origin| origin.field == *name));
    origin.map(|origin| origin.by.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::event::{Attachment, Repeat};

    fn event(team: &str, id: &str, status: Status) -> Event {
        Event { team: team.into(), external_id: Some(id.into()), status, ..Event::default() }
    }

    #[test]
    fn what_became_of_an_event_is_the_gravest_that_can_be_said_of_it() {
        let page = event("soc", "a", Status::New);
        let close = event("soc", "a", Status::Resolved);
        let other = event("net", "a", Status::New);
        let keyed = event("soc", "b", Status::New);
        let worded = Event { title: "x".into(), ..page.clone() };
        let timed = Event { repeat: Some(Repeat::Update), title: "x".into(), ..page.clone() };
        let quiet = Event { quiet: Some(Duration::from_secs(3_600)), ..page.clone() };
        for (before, after, kind) in [
            (Some(&page), Some(&page), Kind::Unchanged),
            (None, Some(&page), Kind::Added),
            (Some(&page), None, Kind::Lost),
            (Some(&page), Some(&close), Kind::Closed),
            (Some(&close), Some(&page), Kind::Added),
            (Some(&close), None, Kind::NoLongerClosed),
            (Some(&page), Some(&other), Kind::Rerouted),
            (Some(&page), Some(&keyed), Kind::Rekeyed),
            (Some(&page), Some(&worded), Kind::Reworded),
            (Some(&page), Some(&timed), Kind::Retimed),
            (Some(&quiet), Some(&page), Kind::Retimed),
        ] {
            assert_eq!(Kind::of(before, after), kind);
        }
    }

    #[test]
    fn events_of_one_team_and_key_stand_for_each_other_wherever_they_are() {
        let before = [event("soc", "a", Status::New), event("soc", "b", Status::New)];
        let after = [event("soc", "b", Status::Resolved), event("soc", "a", Status::New)];
        let kinds: Vec<Kind> =
            pairs(&before, &after).into_iter().map(|(before, after)| Kind::of(before, after)).collect();
        assert_eq!(kinds, [Kind::Unchanged, Kind::Closed]);
        assert_eq!(pairs(&before, &after[..1]).len(), 2);
        assert_eq!(pairs(&before[..1], &after).len(), 2);
    }

    #[test]
    fn only_the_fields_that_differ_are_told() {
        let before = event("soc", "a", Status::New);
        let after = Event { service: Some("Net".into()), ..before.clone() };
        let [change] = changes(Some(&before), Some(&after)).try_into().unwrap();
        assert_eq!(
            (change.field.as_str(), change.before, change.after),
            ("X-S4-Service", None, Some("Net".into()))
        );
        let file = Attachment { name: "shot.png".into(), ..Attachment::default() };
        let after = Event { attachments: vec![file], ..before.clone() };
        let [change] = changes(Some(&before), Some(&after)).try_into().unwrap();
        assert_eq!((change.field.as_str(), change.after), ("files", Some("shot.png".into())));
        let after = Event { quiet: Some(Duration::from_secs(3_600)), ..before.clone() };
        let [change] = changes(Some(&before), Some(&after)).try_into().unwrap();
        assert_eq!((change.field.as_str(), change.after), ("quiet", Some("1h".into())));
    }
}
