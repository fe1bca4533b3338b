//! The digests of storms: what is told of the mails that a storm has folded, and when.
//!
//! A digest goes out seconds after the storm begins, again at each interval while there is news, and when it is over;
//! when every incident that it folded is closed, so is the alert of the digest. Each is put into the spool
//! in one transaction with the note of what it tells, so that a crash repeats none and leaves none out.
//! Left out: which mails are folded, which the spool decides as it takes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::clock::Clock;
use crate::event::{Event, Repeat, Severity, Status};
use crate::incident;
use crate::mail::{Envelope, MailId, Origin};
use crate::spool::{Entry, Error, PutError, Spool, Storm, StormState, Told};

/// How long a storm is let grow before its first digest, so that this tells of more than one mail.
const GATHER: SignedDuration = SignedDuration::from_secs(2);

/// Longest wait until storms are looked at again, so that a clock that was set back delays none for long.
const LOOK: Duration = Duration::from_secs(30);

/// Folded events that are read at once.
const PAGE: usize = 1_000;

/// Groups of subjects that a digest names.
const NAMED: usize = 20;

/// Groups of subjects that are told apart; what is in none of them is counted as one more.
const GROUPS: usize = 10_000;

/// What the external ids and the source of the gateway's own events begin with.
const SOURCE: &str = "smtp2signl4";

/// Puts the digests of storms into `spool` as they are due, until `stop` turns true. `news` is told when the
/// spool has news of a storm.
pub(super) async fn tell(
    spool: Spool,
    config: incident::Storm,
    clock: Arc<dyn Clock>,
    news: Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) {
    let mut since = clock.now();
    loop {
        // A clock that was set back must not prolong a storm.
        since = since.min(clock.now());
        let wait = match tell_due(&spool, &config, &*clock, since).await {
            Ok(next) => next.map_or(LOOK, |at| {
                let wait = Duration::try_from(at.duration_since(clock.now())).unwrap_or_default();
                wait.min(LOOK)
            }),
            Err(problem) => {
                warn!(%problem, "the digest of a storm cannot be kept; it is tried again");
                LOOK
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = news.notified() => {}
            () = async { _ = stop.wait_for(|stop| *stop).await; } => return,
        }
    }
}

/// Puts every digest that is due, and says when the next one may be. Nobody has seen before `since` whether it was
/// calm: a storm goes on through a restart, however long that takes.
///
/// # Errors
/// One could not be put; it stays due.
pub async fn tell_due(
    spool: &Spool,
    config: &incident::Storm,
    clock: &dyn Clock,
    since: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    loop {
        let now = clock.now();
        let (mut next, mut told): (Option<Timestamp>, bool) = (None, false);
        for storm in spool.reader().storms().await? {
            match step(&storm, config, (since, now)) {
                Step::Tell(state) => {
                    put(spool, &storm, state, now).await?;
                    told = true;
                }
                Step::Wait(at) => next = next.into_iter().chain(at).min(),
            }
        }
        if !told {
            return Ok(next);
        }
    }
}

/// What is to be done about a storm.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Tell of it; it then stands so.
    Tell(StormState),
    /// Wait, for as long as nothing happens.
    Wait(Option<Timestamp>),
}

/// Decides what is to be done about `storm`, which is watched `since` then. Pure.
fn step(storm: &Storm, config: &incident::Storm, (since, now): (Timestamp, Timestamp)) -> Step {
    let after = |at: Timestamp, span: SignedDuration| at.checked_add(span).unwrap_or(Timestamp::MAX);
    let news = storm.folded > storm.told;
    let all_closed = storm.open == 0 && storm.keyless == 0;
    match (storm.state, storm.told_at) {
        (StormState::Raging, None) => {
            let due_at = after(storm.began_at, GATHER);
            // A clock that was set back must not keep it.
            if due_at <= now || now < storm.began_at {
                Step::Tell(StormState::Raging)
            } else {
                Step::Wait(Some(due_at))
            }
        }
        (StormState::Raging, Some(told_at)) => {
            let calm_at = after(storm.excess_at.max(since), config.calm);
            let due_at = after(told_at, config.interval);
            if calm_at <= now {
                // What nobody has read yet must not be told by a close, which pages nobody.
                Step::Tell(if all_closed && !news { StormState::Closed } else { StormState::Over })
            } else if news && due_at <= now {
                Step::Tell(StormState::Raging)
            } else {
                Step::Wait(Some(if news { due_at.min(calm_at) } else { calm_at }))
            }
        }
        (StormState::Over, _) if all_closed => Step::Tell(StormState::Closed),
        (StormState::Over | StormState::Closed, _) => Step::Wait(None),
    }
}

/// Puts the digest by which `storm` then stands as `state` says.
async fn put(spool: &Spool, storm: &Storm, state: StormState, now: Timestamp) -> Result<(), Error> {
    let mut summary = Summary::read(spool, storm.id).await?;
    // Fewer if some were kept for long enough and are deleted.
    summary.count = summary.count.max(storm.folded);
    let event = digest(storm, state, &summary, now);
    let told = Told { storm: storm.id, state, folded: storm.folded, excess_at: storm.excess_at };
    let mut salt = 0;
    loop {
        let entry = Entry {
            id: MailId::new(now, salt),
            envelope: Envelope { received_at: now, origin: Origin::Gateway, ..Envelope::default() },
            content: None,
            story: serde_json::json!({ "digest-of-storm": storm.id, "tells": summary.count }),
            events: vec![event.clone()],
            dropped: None,
        };
        match spool.put_digest(entry, told.clone()).await {
            // False: there is more to tell, and the next look tells it.
            Ok(_) => break,
            Err(PutError::IdTaken) => salt += 1,
            Err(PutError::Full) => return Err(Error::Full),
            Err(PutError::Io(detail)) => return Err(Error::Io(detail)),
        }
    }
    let (team, source) = (storm.team.as_str(), storm.source.as_deref().unwrap_or("many sources"));
    info!(team, source, storm = storm.id, state = state.word(), folded = summary.count, "storm");
    Ok(())
}

/// What the mails of a storm were about.
#[derive(Debug, Default)]
struct Summary {
    count: u64,
    severities: HashMap<Option<Severity>, u64>,
    /// Subjects without what differs from mail to mail, each with an example and how many there are.
    groups: HashMap<String, (String, u64)>,
    /// Those in no group, since there are too many.
    others: u64,
}

impl Summary {
    /// Reads what `storm` has folded.
    async fn read(spool: &Spool, storm: u64) -> Result<Self, Error> {
        let mut summary = Self::default();
        let mut after = 0;
        loop {
            let page = spool.reader().folded(storm, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(summary) };
            after = last.seq;
            for event in page {
                summary.add(event.title, event.severity);
            }
        }
    }

    fn add(&mut self, title: String, severity: Option<Severity>) {
        self.count += 1;
        *self.severities.entry(severity).or_default() += 1;
        let key = pattern(&title);
        if let Some((_, count)) = self.groups.get_mut(&key) {
            *count += 1;
        } else if self.groups.len() < GROUPS {
            self.groups.insert(key, (title, 1));
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

    /// The largest groups, a line each: one mail by its own subject, several by what they share.
    fn subjects(&self) -> String {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(pattern, (_, count))| (std::cmp::Reverse(*count), *pattern));
        let mut text = String::new();
        for (pattern, (title, count)) in groups.iter().take(NAMED) {
            text.push_str(&format!("{count} x {}\n", if *count == 1 { title } else { pattern }));
        }
        let left = groups.len().saturating_sub(NAMED);
        if left > 0 || self.others > 0 {
            let mails: u64 = groups.iter().skip(NAMED).map(|(_, (_, count))| count).sum();
            let mails = mails + self.others;
            let least = if self.others > 0 { "at least " } else { "" };
            text.push_str(&format!("and {mails} in {least}{left} more groups\n"));
        }
        text
    }
}

/// The event that tells of `storm`, which then stands as `state` says.
fn digest(storm: &Storm, state: StormState, summary: &Summary, now: Timestamp) -> Event {
    let count = summary.count;
    let source = match storm.source.as_deref() {
        Some("") => "mails of an unknown product".to_owned(),
        Some(source) => format!("mails from {source}"),
        None => "mails from many sources".to_owned(),
    };
    let title = match state {
        StormState::Raging => format!("Storm of {source}: {count} folded so far"),
        StormState::Over => format!("The storm of {source} is over: {count} were folded"),
        StormState::Closed => format!("The storm of {source} is over: all {count} folded are closed"),
    };
    let when = |at: Timestamp| at.to_zoned(TimeZone::system()).strftime("%H:%M:%S %Z").to_string();
    let message = format!(
        "{count} mails came too fast to page one by one, from {} to {}: {}.\n{}{}\nAll of them: \
         smtp2signl4 queue list --digest {}\n",
        when(storm.first_at),
        when(storm.last_at),
        summary.severities(),
        match state {
            StormState::Raging =>
                "More are added to this alert while the storm lasts. Critical ones page.\n\n",
            StormState::Over | StormState::Closed => "From now on mails page one by one again.\n\n",
        },
        summary.subjects(),
        storm.id
    );
    Event {
        team: storm.team.clone(),
        title,
        message,
        status: if state == StormState::Closed { Status::Resolved } else { Status::New },
        external_id: Some(format!("{SOURCE}:storm:{}-{}", storm.id, storm.began_at.as_second())),
        source_system: Some(SOURCE.to_owned()),
        severity: summary.severities.keys().copied().flatten().max(),
        fields: vec![("Folded".to_owned(), count.to_string()), ("As of".to_owned(), when(now))],
        repeat: Some(Repeat::Update),
        ..Event::default()
    }
}

/// What a subject shares with those that differ in numbers and ids alone.
fn pattern(title: &str) -> String {
    let mut shared = String::with_capacity(title.len());
    for (at, word) in title.split(' ').enumerate() {
        if at > 0 {
            shared.push(' ');
        }
        let mut rest = word;
        while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
            shared.push_str(&rest[..start]);
            let run = &rest[start..];
            let end = run.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(run.len());
            add_run(&mut shared, &run[..end]);
            rest = &run[end..];
        }
        shared.push_str(rest);
    }
    shared
}

/// Adds a run of letters and digits: `#` for one that is an id, and for the digits in a name.
fn add_run(shared: &mut String, run: &str) {
    let digits = run.bytes().any(|byte| byte.is_ascii_digit());
    if digits && run.len() >= 6 && run.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return shared.push('#');
    }
    let mut within = false;
    for c in run.chars() {
        if !c.is_ascii_digit() {
            shared.push(c);
        } else if !within {
            shared.push('#');
        }
        within = c.is_ascii_digit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_194_000 + seconds).unwrap()
    }

    /// A storm that began at second 0 and has told two mails then.
    fn storm() -> Storm {
        Storm {
            id: 7,
            team: "soc".into(),
            source: Some("TheHive".into()),
            state: StormState::Raging,
            began_at: at(0),
            excess_at: at(0),
            first_at: at(0),
            last_at: at(60),
            folded: 2,
            open: 2,
            keyless: 0,
            told: 2,
            told_at: Some(at(0)),
        }
    }

    fn at_step(storm: &Storm, seconds: i64) -> Step {
        step(storm, &incident::Storm::default(), (at(-1_000), at(seconds)))
    }

    #[test]
    fn a_storm_goes_on_after_a_restart_until_it_was_seen_to_be_calm() {
        let storm = Storm { folded: 9, ..storm() };
        let step = |seconds| step(&storm, &incident::Storm::default(), (at(3_600), at(seconds)));
        assert_eq!(step(3_600), Step::Tell(StormState::Raging), "what was folded before it is told");
        assert_eq!(step(3_900), Step::Tell(StormState::Over));
        let storm = Storm { told: 9, ..storm };
        assert_eq!(
            super::step(&storm, &incident::Storm::default(), (at(3_600), at(3_601))),
            Step::Wait(Some(at(3_900)))
        );
    }

    #[test]
    fn a_storm_is_told_within_seconds_then_at_intervals_if_there_is_news_and_when_it_is_over() {
        let begun = Storm { told: 0, told_at: None, ..storm() };
        assert_eq!(at_step(&begun, 1), Step::Wait(Some(at(2))));
        assert_eq!(at_step(&begun, 2), Step::Tell(StormState::Raging));
        assert_eq!(at_step(&begun, -60), Step::Tell(StormState::Raging), "the clock was set back");
        let rages = Storm { folded: 9, excess_at: at(200), ..storm() };
        assert_eq!(at_step(&rages, 299), Step::Wait(Some(at(300))));
        assert_eq!(at_step(&rages, 300), Step::Tell(StormState::Raging));
        let told = Storm { told: 9, told_at: Some(at(300)), ..rages };
        assert_eq!(at_step(&told, 301), Step::Wait(Some(at(500))), "no news, no digest");
        assert_eq!(at_step(&told, 500), Step::Tell(StormState::Over));
    }

    #[test]
    fn the_alert_is_closed_when_every_folded_incident_is() {
        let over = Storm { state: StormState::Over, ..storm() };
        assert_eq!(at_step(&over, 1_000), Step::Wait(None));
        assert_eq!(at_step(&Storm { open: 0, ..over.clone() }, 1_000), Step::Tell(StormState::Closed));
        let keyless = Storm { open: 0, keyless: 1, ..over };
        assert_eq!(at_step(&keyless, 1_000), Step::Wait(None), "nobody can know that it is over");
    }

    #[test]
    fn a_storm_that_is_over_with_all_closed_is_told_before_it_is_closed() {
        let closed = Storm { open: 0, ..storm() };
        assert_eq!(at_step(&closed, 300), Step::Tell(StormState::Closed));
        assert_eq!(at_step(&Storm { folded: 3, ..closed }, 300), Step::Tell(StormState::Over));
    }

    #[test]
    fn a_digest_tells_how_many_what_and_where_the_list_is() {
        let mut summary = Summary::default();
        for n in 0..40 {
            summary.add(format!("Disk {n} on db{n} is full"), Some(Severity::High));
        }
        for n in ["a", "b"] {
            summary.add(format!("Case ~{n} opened"), None);
        }
        for n in 0..25 {
            let name: String = (0..5).map(|at| char::from(b'g' + (n >> at & 1))).collect();
            summary.add(name, Some(Severity::Low));
        }
        let event = digest(&storm(), StormState::Raging, &summary, at(100));
        assert_eq!(event.title, "Storm of mails from TheHive: 67 folded so far");
        assert_eq!(event.severity, Some(Severity::High));
        assert_eq!((event.status, event.repeat), (Status::New, Some(Repeat::Update)));
        assert_eq!(event.external_id.as_deref(), Some("smtp2signl4:storm:7-1795194000"));
        let when = |at: Timestamp| at.to_zoned(TimeZone::system()).strftime("%H:%M:%S %Z").to_string();
        let first_and_last = format!(", from {} to {}: ", when(at(0)), when(at(60)));
        for told in [
            "67 mails came",
            &first_and_last,
            ": 40 high, 25 low, 2 without severity.",
            "40 x Disk # on db# is full\n1 x Case ~a opened\n1 x Case ~b opened\n",
            "and 8 in 8 more groups",
            "smtp2signl4 queue list --digest 7",
        ] {
            assert!(event.message.contains(told), "{told} is not in:\n{}", event.message);
        }
        let closed = digest(&storm(), StormState::Closed, &summary, at(100));
        assert_eq!(closed.status, Status::Resolved);
    }

    #[test]
    fn subjects_that_differ_in_numbers_and_ids_are_one() {
        for (title, shared) in [
            ("Case #1208 Phishing", "Case ## Phishing"),
            ("Host db01.example is DOWN", "Host db#.example is DOWN"),
            ("Alert 4f2a9c1b77 in 10.0.0.17", "Alert # in #.#.#.#"),
            ("Decade of facade", "Decade of facade"),
        ] {
            assert_eq!(pattern(title), shared);
        }
    }
}
