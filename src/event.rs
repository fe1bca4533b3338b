//! The event: what a SIGNL4 team gets, and the exact JSON of its webhook
//! (<https://docs.signl4.com/integrations/webhook/webhook.html>). Plain data.

mod identity;

use std::time::Duration;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use strum::{EnumString, IntoStaticStr, VariantArray};

pub use identity::{Guess, Identity, KeySource, Mark};

/// What the event does to the alert with its external id. SIGNL4 discards an event whose status it does
/// not know and still answers 201, so no other text can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(EnumString, IntoStaticStr, VariantArray, strum::Display)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Status {
    /// Raises an alert.
    #[default]
    New,
    /// Acknowledges it.
    Acknowledged,
    /// Closes it.
    Resolved,
}

/// Who must acknowledge (`X-S4-AlertingScenario`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(EnumString, IntoStaticStr, VariantArray, strum::Display)]
#[strum(serialize_all = "snake_case", ascii_case_insensitive)]
pub enum Scenario {
    /// One person on duty.
    SingleAck,
    /// As many as are on duty when the alert is made.
    MultiAck,
    /// Everyone, on duty or not.
    Emergency,
}

/// How bad it is, on the one scale that all senders' scales are mapped to. Greater is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(EnumString, IntoStaticStr, VariantArray, strum::Display)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Severity {
    /// Worth knowing, not worth waking anyone.
    Info,
    /// Can wait for the morning.
    Low,
    /// Should be looked at today.
    Medium,
    /// Should be looked at now.
    High,
    /// Everybody.
    Critical,
}

/// What becomes of a further open mail about an incident that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(EnumString, IntoStaticStr, VariantArray, strum::Display)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Repeat {
    /// It is counted while the last page is recent, and pages again after that.
    #[default]
    Quiet,
    /// It is counted for as long as the incident is open.
    Count,
    /// It is sent. SIGNL4 has no update of its own, so it most likely pages.
    Update,
}

/// An event for one team.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Event {
    /// The team, by its name in the config.
    pub team: String,
    /// What push, SMS and voice carry.
    pub title: String,
    /// The text of the alert.
    pub message: String,
    /// What it does.
    pub status: Status,
    /// What ties the mails of one incident together (`X-S4-ExternalID`).
    pub external_id: Option<String>,
    /// The service or system category, by name; it decides colour and sound in the app.
    pub service: Option<String>,
    /// Who must acknowledge.
    pub scenario: Option<Scenario>,
    /// `latitude,longitude`.
    pub location: Option<String>,
    /// Whether the team's keyword filter decides over the alert.
    pub filtering: Option<bool>,
    /// The product that the mail came from (`X-S4-SourceSystem`).
    pub source_system: Option<String>,
    /// How bad it is; sent as a tile.
    pub severity: Option<Severity>,
    /// The colour that a rule asked for; sent as a tile, shown by way of the service.
    pub color: Option<String>,
    /// Tiles in order: name and value.
    pub fields: Vec<(String, String)>,
    /// Files of the mail that go along. They are no part of the JSON.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// What becomes of it if its incident is open already; the config's word if there is none. Not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Repeat>,
    /// How long after a page of its incident it is only counted; the config's word if there is none. Not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Duration>,
    /// Why it is kept and not sent, as in a maintenance window; none if it is sent. Not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muted: Option<String>,
    /// What it is about and who says so. Not sent.
    pub identity: Identity,
}

/// A file of the mail that goes along with its event. Its content stays in the mail until it is posted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Attachment {
    /// Its place among the attachments of the message.
    pub place: usize,
    /// The name that it goes under.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: usize,
    /// What of a text must not leave: for one pattern after the other, the ranges that it takes out of what
    /// the ones before have left, each a place and a length in bytes. None if the text was not examined: then it
    /// does not go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redactions: Option<Vec<Vec<(usize, usize)>>>,
}

/// What stands in the place of what must not leave.
pub const REDACTED: &str = "[redacted]";

/// The name of the tile that tells of files that stay behind.
pub const ATTACHMENTS_TILE: &str = "Attachments";

impl Attachment {
    /// `text`, the content of this file, without what must not leave; none if it is not the text that was examined,
    /// or none was.
    pub fn redacted(&self, text: &str) -> Option<String> {
        let mut text = text.to_owned();
        for pass in self.redactions.as_ref()? {
            text = without(&text, pass)?;
        }
        Some(text)
    }
}

/// `text` with [`REDACTED`] in the place of each of `ranges`, which are in order; none if they do not fit.
pub fn without(text: &str, ranges: &[(usize, usize)]) -> Option<String> {
    let mut left = String::with_capacity(text.len());
    let mut from = 0;
    for &(start, length) in ranges {
        left.push_str(text.get(from..start)?);
        left.push_str(REDACTED);
        from = start.checked_add(length)?;
    }
    left.push_str(text.get(from..)?);
    Some(left)
}

/// Longest title in characters. SIGNL4 documents no bound; a title is pushed, sent as SMS and read aloud.
pub const TITLE_LIMIT: usize = 250;

/// Longest message in characters. SIGNL4 documents no bound; more is not read on a phone.
pub const MESSAGE_LIMIT: usize = 10_000;

/// Longest value of a tile in characters.
pub const FIELD_LIMIT: usize = 1_000;

/// Names that SIGNL4 takes for the title or the text, in whatever case; as tiles they would replace ours.
const CLAIMED: [&str; 14] = [
    "title",
    "subject",
    "job",
    "task",
    "case",
    "incident",
    "text",
    "message",
    "messagetext",
    "description",
    "body",
    "content",
    "color",
    "severity",
];

/// Why a tile cannot have this name, or none if it can.
pub fn refuse_field(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        Some("a tile needs a name")
    } else if name.to_ascii_lowercase().starts_with("x-s4-") {
        Some("X-S4-* are SIGNL4's own parameters, set by their own keys")
    } else if name.eq_ignore_ascii_case("color") || name.eq_ignore_ascii_case("severity") {
        Some("this tile is made from the key of the same name")
    } else if CLAIMED.iter().any(|claimed| claimed.eq_ignore_ascii_case(name)) {
        Some("SIGNL4 would take it for the title or the text of the alert")
    } else {
        None
    }
}

/// `text` of at most `limit` characters; what is longer is cut on a character and says so.
pub fn bounded(text: &str, limit: usize) -> std::borrow::Cow<'_, str> {
    const MARK: &str = " […]";
    if text.len() <= limit || text.char_indices().nth(limit).is_none() {
        return text.into();
    }
    let keep = limit.saturating_sub(MARK.chars().count());
    let end = text.char_indices().nth(keep).map_or(text.len(), |(at, _)| at);
    format!("{}{MARK}", text[..end].trim_end()).into()
}

/// A size in bytes as people read it.
pub fn shown_size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

impl Event {
    /// The body of the webhook request: `Title`, `Message`, the `X-S4-*` parameters that are set, the
    /// tiles. Lengths are bounded here, so that every way into the spool is.
    pub fn payload(&self) -> String {
        serde_json::to_string(&Payload(self)).expect("strings and booleans always serialise")
    }
}

/// `payload`, as [`Event::payload`] made it, with one more tile at its end. A tile that is there stays.
pub fn with_tile(payload: &str, name: &str, value: &str) -> String {
    let quoted = |text: &str| serde_json::to_string(text).expect("a string always serialises");
    match payload.strip_suffix('}') {
        Some(open) if !payload.contains(&format!("{}:", quoted(name))) => {
            format!("{open},{}:{}}}", quoted(name), quoted(&bounded(value, FIELD_LIMIT)))
        }
        _ => payload.to_owned(),
    }
}

/// `payload`, as [`Event::payload`] made it, under another external id, and with another status and severity where they
/// are others than they were.
pub fn readdressed(
    payload: &str,
    external_id: Option<&str>,
    status: Status,
    severity: Option<Severity>,
) -> String {
    let Ok(mut map) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(payload) else {
        return payload.to_owned();
    };
    if let (Some(id), Some(place)) = (external_id, map.get_mut("X-S4-ExternalID")) {
        *place = id.into();
    }
    map.insert("X-S4-Status".to_owned(), status.to_string().into());
    if let Some(severity) = severity {
        map.insert("Severity".to_owned(), severity.to_string().into());
    }
    serde_json::Value::Object(map).to_string()
}

/// An event as SIGNL4 wants it.
struct Payload<'a>(&'a Event);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let mut map = serializer.serialize_map(None)?;
        for (key, text, limit) in
            [("Title", &event.title, TITLE_LIMIT), ("Message", &event.message, MESSAGE_LIMIT)]
        {
            if !text.is_empty() {
                map.serialize_entry(key, &bounded(text, limit))?;
            }
        }
        for (key, value) in [
            ("X-S4-ExternalID", &event.external_id),
            ("X-S4-Service", &event.service),
            ("X-S4-Location", &event.location),
            ("X-S4-SourceSystem", &event.source_system),
        ] {
            if let Some(value) = value {
                map.serialize_entry(key, value)?;
            }
        }
        map.serialize_entry("X-S4-Status", &event.status)?;
        if let Some(scenario) = event.scenario {
            map.serialize_entry("X-S4-AlertingScenario", &scenario)?;
        }
        if let Some(filtering) = event.filtering {
            map.serialize_entry("X-S4-Filtering", &filtering)?;
        }
        if let Some(severity) = event.severity {
            map.serialize_entry("Severity", &severity)?;
        }
        if let Some(color) = &event.color {
            map.serialize_entry("Color", color)?;
        }
        for (name, value) in &event.fields {
            map.serialize_entry(name, &bounded(value, FIELD_LIMIT))?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_the_webhooks_json() {
        let event = Event {
            team: "soc".into(),
            title: "[TheHive] New alert".into(),
            message: "Phishing".into(),
            external_id: Some("thehive:~4120".into()),
            service: Some("Security".into()),
            scenario: Some(Scenario::SingleAck),
            filtering: Some(false),
            source_system: Some("TheHive".into()),
            severity: Some(Severity::High),
            color: Some("red".into()),
            fields: vec![("TLP".into(), "amber".into())],
            ..Event::default()
        };
        assert_eq!(
            event.payload(),
            concat!(
                r#"{"Title":"[TheHive] New alert","Message":"Phishing","X-S4-ExternalID":"thehive:~4120","#,
                r#""X-S4-Service":"Security","X-S4-SourceSystem":"TheHive","X-S4-Status":"new","#,
                r#""X-S4-AlertingScenario":"single_ack","X-S4-Filtering":false,"Severity":"high","#,
                r#""Color":"red","TLP":"amber"}"#
            )
        );
    }

    #[test]
    fn a_text_goes_along_only_as_it_was_looked_at() {
        let mut file = Attachment::default();
        assert_eq!(file.redacted("a password"), None, "nobody has looked");
        file.redactions = Some(vec![vec![(0, 1), (4, 2)], vec![(2, 3)]]);
        assert_eq!(file.redacted("xyzwab!").as_deref(), Some("[r[redacted]cted]yzw[redacted]!"));
        assert_eq!(file.redacted("xyz"), None, "another text than the one that was looked at");
    }

    #[test]
    fn the_files_are_no_part_of_the_json() {
        let file = Attachment { name: "shot.png".into(), ..Attachment::default() };
        let event = Event { title: "t".into(), attachments: vec![file], ..Event::default() };
        assert_eq!(event.payload(), r#"{"Title":"t","X-S4-Status":"new"}"#);
        let kept = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&kept).unwrap(), event);
    }

    #[test]
    fn a_tile_is_added_to_a_payload_once() {
        let event = Event { title: "a}".into(), ..Event::default() };
        let added = with_tile(&event.payload(), "Repeated", "4 \"times\"");
        assert_eq!(added, r#"{"Title":"a}","X-S4-Status":"new","Repeated":"4 \"times\""}"#);
        assert_eq!(with_tile(&added, "Repeated", "5 times"), added);
    }

    #[test]
    fn a_payload_goes_to_another_incident_without_being_made_anew() {
        let event = Event {
            title: "a \",\"X-S4-ExternalID\":\"b".into(),
            external_id: Some("1".into()),
            severity: Some(Severity::High),
            fields: vec![("Ä".into(), "\u{1}".into())],
            ..Event::default()
        };
        let same = readdressed(&event.payload(), Some("1"), Status::New, Some(Severity::High));
        assert_eq!(same, event.payload());
        let other = Event { external_id: Some("1@b".into()), status: Status::Resolved, ..event.clone() };
        assert_eq!(readdressed(&event.payload(), Some("1@b"), Status::Resolved, None), other.payload());
    }

    #[test]
    fn what_the_gateway_alone_needs_to_know_is_not_sent() {
        let plain = Event { title: "a".into(), ..Event::default() };
        let told = Event {
            repeat: Some(Repeat::Update),
            quiet: Some(Duration::from_secs(60)),
            muted: Some("maintenance".into()),
            ..plain.clone()
        };
        assert_eq!(told.payload(), plain.payload());
        assert!(!serde_json::to_string(&plain).unwrap().contains("muted"));
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), told);
    }

    #[test]
    fn long_text_is_cut_on_a_character_and_says_so() {
        assert_eq!(bounded("äöü", 3), "äöü");
        assert_eq!(bounded("äöüäöüäöü", 8), "äöüä […]");
        assert_eq!(bounded(&"x".repeat(TITLE_LIMIT + 1), TITLE_LIMIT).chars().count(), TITLE_LIMIT);
    }

    #[test]
    fn tiles_cannot_take_the_place_of_title_or_text() {
        for name in ["Title", "subject", "Text", "BODY", "X-S4-Status", "color", ""] {
            assert!(refuse_field(name).is_some(), "{name}");
        }
        assert_eq!(refuse_field("TLP"), None);
    }
}
