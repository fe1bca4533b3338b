//! What a digest says: each text that its storm has folded, word for word, as far as there is room.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use crate::event::{Event, Repeat, Severity, Status, bounded};
use crate::incident::Kind;
use crate::mail::Trust;
use crate::spool::{Error, Folded, Spool, Storm, StormState};
use crate::time::local;
use crate::watch::own;

/// Folded events that are read at once.
const PAGE: usize = 1_000;

/// Texts that a digest quotes.
const QUOTED: usize = 30;

/// Longest title and longest start of a text that are quoted, in characters: all together fit into a message.
const TITLE: usize = 120;
const START: usize = 160;

/// Texts that are told apart; of the others only the number is told.
const TEXTS: usize = 10_000;

/// What the mails of a storm say.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub count: u64,
    severities: HashMap<Option<Severity>, u64>,
    /// By the title and a hash of the text.
    texts: HashMap<(String, u64), Text>,
    /// Those that are not among them, since there are too many.
    others: u64,
}

/// Mails that say the same.
#[derive(Debug)]
struct Text {
    start: String,
    severity: Option<Severity>,
    count: u64,
    /// The place of the first of them.
    first: u64,
    /// Whether no digest told any of them.
    is_new: bool,
}

impl Summary {
    /// Reads what `storm` has folded.
    pub async fn read(spool: &Spool, storm: &Storm) -> Result<Self, Error> {
        let mut summary = Self::default();
        let mut after = 0;
        loop {
            let page = spool.reader().folded(storm.id, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(summary) };
            after = last.seq;
            for event in page {
                summary.add(event, storm.told);
            }
        }
    }

    /// Adds what comes next; the first `told` were told before.
    fn add(&mut self, event: Folded, told: u64) {
        let first = self.count;
        self.count += 1;
        *self.severities.entry(event.severity).or_default() += 1;
        let mut hasher = DefaultHasher::new();
        event.message.hash(&mut hasher);
        let key = (event.title, hasher.finish());
        if let Some(text) = self.texts.get_mut(&key) {
            text.count += 1;
            text.severity = text.severity.max(event.severity);
        } else if self.texts.len() < TEXTS {
            let start = start(&event.message);
            let text = Text { start, severity: event.severity, count: 1, first, is_new: first >= told };
            self.texts.insert(key, text);
        } else {
            self.others += 1;
        }
    }

    /// How many there are of each severity, the worst first.
    fn severities(&self) -> String {
        let mut all: Vec<_> = self.severities.iter().collect();
        all.sort_by_key(|(severity, _)| std::cmp::Reverse(**severity));
        let word = |severity: &Option<Severity>| {
            severity.map_or_else(|| "without severity".to_owned(), |severity| severity.to_string())
        };
        let told: Vec<_> =
            all.iter().map(|(severity, count)| format!("{count} {}", word(severity))).collect();
        told.join(", ")
    }

    /// A line for each text: new ones first, the worst of them first.
    fn quotes(&self) -> String {
        let mut texts: Vec<_> = self.texts.iter().collect();
        texts.sort_by_key(|(_, text)| (!text.is_new, std::cmp::Reverse(text.severity), text.first));
        let mut lines = String::new();
        for ((title, _), text) in texts.iter().take(QUOTED) {
            let severity = text.severity.map_or_else(String::new, |severity| format!("[{severity}] "));
            let times = if text.count == 1 { String::new() } else { format!("{} x ", text.count) };
            lines.push_str(&format!("- {times}{severity}{}", bounded(title, TITLE)));
            if !text.start.is_empty() {
                lines.push_str(&format!(": {}", text.start));
            }
            lines.push('\n');
        }
        let left: u64 = texts.iter().skip(QUOTED).map(|(_, text)| text.count).sum();
        if left + self.others > 0 {
            lines.push_str(&format!("{} more are not quoted here.\n", left + self.others));
        }
        lines
    }

    /// The title of the first of them.
    fn first_title(&self) -> &str {
        let first = self.texts.iter().min_by_key(|(_, text)| text.first);
        first.map_or("", |((title, _), _)| title)
    }
}

/// The start of a text on one line.
fn start(message: &str) -> String {
    let mut line = String::new();
    for word in message.split_whitespace() {
        if line.len() > 4 * START {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    bounded(&line, START).into_owned()
}

/// The event that tells of `storm`, which then stands as `state` says.
pub(super) fn digest(storm: &Storm, state: StormState, summary: &Summary, now: Timestamp) -> Event {
    let count = summary.count;
    let strangers = if storm.stranger { " (senders that nothing proves)" } else { "" };
    let of = match (storm.kind, storm.source.as_deref()) {
        (Kind::Texts, _) => format!("mails like \"{}\"{strangers}", bounded(summary.first_title(), TITLE)),
        (Kind::Pages, Some("")) => format!("mails of an unknown product{strangers}"),
        (Kind::Pages, Some(source)) => format!("mails from {source}{strangers}"),
        (Kind::Pages, None) => format!("mails from many sources{strangers}"),
    };
    let title = match state {
        StormState::Raging => format!("Storm of {of}: {count} folded so far"),
        StormState::Over => format!("The storm of {of} is over: {count} were folded"),
        StormState::Closed => format!("The storm of {of} is over: all {count} folded are closed"),
    };
    let came = match storm.kind {
        Kind::Pages => "came too fast to page one by one",
        Kind::Texts => "say different things under one subject, after five that paged one by one",
    };
    let more = match (state, storm.kind) {
        (StormState::Raging, Kind::Pages) => {
            "More are added to this alert while the storm lasts. Critical ones page."
        }
        (StormState::Raging, Kind::Texts) => "More are added to this alert while they come.",
        (StormState::Over | StormState::Closed, _) => "From now on mails page one by one again.",
    };
    let message = format!(
        "{count} mails {came}, from {} to {}: {}.\n{more}\n\n{}\nAll of them: smtp2signl4 queue list --digest {}\n",
        local(storm.first_at),
        local(storm.last_at),
        summary.severities(),
        summary.quotes(),
        storm.id
    );
    let mut event = Event {
        team: storm.team.clone(),
        title,
        message,
        status: if state == StormState::Closed { Status::Resolved } else { Status::New },
        external_id: Some(format!("{}:storm:{}-{}", own::SOURCE, storm.id, storm.began_at.as_second())),
        severity: summary.severities.keys().copied().flatten().max(),
        fields: vec![("Folded".to_owned(), count.to_string()), ("As of".to_owned(), local(now))],
        repeat: Some(Repeat::Update),
        ..Event::default()
    };
    if storm.stranger {
        // It goes behind what known senders say, as its mails would.
        event.identity.trust = Trust::Stranger;
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::storm::tests::{at, storm};

    fn folded(title: String, message: &str, severity: Option<Severity>) -> Folded {
        Folded { seq: 0, title, severity, message: message.to_owned() }
    }

    #[test]
    fn a_digest_quotes_each_text_and_says_how_many_it_could_not_quote_and_where_they_are() {
        let mut summary = Summary::default();
        for n in 0..29 {
            summary.add(folded(format!("Disk {n}"), "It is\n full.", Some(Severity::High)), 0);
        }
        for _ in 0..3 {
            summary.add(folded("Case opened".into(), "By Eve.", None), 0);
        }
        for n in 0..5 {
            summary.add(folded(format!("Note {n}"), "", Some(Severity::Low)), 0);
        }
        let event = digest(&storm(), StormState::Raging, &summary, at(100));
        assert_eq!(event.title, "Storm of mails from TheHive: 37 folded so far");
        assert_eq!(event.severity, Some(Severity::High));
        assert_eq!((event.status, event.repeat), (Status::New, Some(Repeat::Update)));
        assert_eq!(event.external_id.as_deref(), Some("smtp2signl4:storm:7-1795194000"));
        for told in [
            "37 mails came too fast",
            ": 29 high, 5 low, 3 without severity.",
            "- [high] Disk 0: It is full.\n- [high] Disk 1: It is full.\n",
            "- [low] Note 0\n7 more are not quoted here.\n",
            "smtp2signl4 queue list --digest 7",
        ] {
            assert!(event.message.contains(told), "{told} is not in:\n{}", event.message);
        }
        let closed = digest(&storm(), StormState::Closed, &summary, at(100));
        assert_eq!(closed.status, Status::Resolved);
    }

    #[test]
    fn what_nobody_was_told_yet_is_quoted_first_and_the_same_text_once() {
        let mut summary = Summary::default();
        for n in 0..40 {
            summary.add(folded(format!("Old {n}"), "a", Some(Severity::High)), 40);
        }
        for text in ["PSU 1 failed", "PSU 1 failed", "PSU 2 failed"] {
            summary.add(folded("Fault".into(), text, None), 40);
        }
        let message = digest(&storm(), StormState::Raging, &summary, at(100)).message;
        assert!(message.contains("\n\n- 2 x Fault: PSU 1 failed\n- Fault: PSU 2 failed\n"), "{message}");
    }

    #[test]
    fn a_digest_of_strangers_goes_behind_what_known_senders_say() {
        let strangers = Storm { stranger: true, ..storm() };
        let event = digest(&strangers, StormState::Raging, &Summary::default(), at(100));
        assert!(event.identity.trust.is_stranger());
        assert!(event.title.contains("nothing proves"), "{}", event.title);
    }
}
