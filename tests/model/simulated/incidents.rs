//! The law of incidents: which mails must be told to people and which must not, from the mails and from what
//! SIGNL4 got. Where the two sides saw an event at times that do not decide it, either is right.

use std::collections::{BTreeMap, BTreeSet};

use super::laws::{Breach, breach};
use super::record::{Event, Line, Millis, Post, Record, Repeat, Status, rank};

/// How long the end of a page may be on its way into the spool.
const SLACK: Millis = 1_500;

/// What must become of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// It is sent, or told in a digest.
    Told(&'static str),
    /// It is kept and not sent.
    Kept(&'static str),
    /// Nobody can say.
    Either,
}

/// An event with what became of it.
struct Fate<'a> {
    event: &'a Event,
    state: &'a str,
    posts: &'a [&'a Post],
}

impl Fate<'_> {
    fn is_told(&self) -> bool {
        self.state != "counted"
    }

    /// When SIGNL4 had it first.
    fn arrived(&self) -> Option<Millis> {
        self.posts.iter().filter(|post| post.is_taken()).filter_map(|post| post.arrived).min()
    }

    /// When the gateway knew for the last time that SIGNL4 has it.
    fn answered(&self) -> Option<Millis> {
        self.posts.iter().filter(|post| post.answer == 201).filter_map(|post| post.ended).max()
    }
}

/// What is known of an incident from the mails before.
#[derive(Default)]
struct Incident<'a> {
    known: bool,
    /// Whether a mail closed or acknowledged it before any opened it.
    strange: bool,
    closed: bool,
    acknowledged: bool,
    /// What was told of it since it opened.
    told: Vec<&'a Fate<'a>>,
    /// What was posted of it before.
    before: Vec<&'a Fate<'a>>,
}

/// Every mail about an incident is told or kept as the law says.
pub fn judge(record: &Record) -> Vec<Breach> {
    let posts = record.posts_by_event();
    let lines: BTreeMap<(u32, usize), &Line> =
        record.lines.iter().filter_map(|line| Some(((line.serial?, line.team), line))).collect();
    let mut found = Vec::new();
    let followed = followed(record);
    for (_, lane) in record.lanes().iter().filter(|(incident, _)| !followed.contains(incident)) {
        let fates: Vec<Fate<'_>> = lane
            .iter()
            .filter_map(|event| {
                let name = (event.serial, event.team);
                let posts = posts.get(&name).map_or(&[][..], Vec::as_slice);
                Some(Fate { event, state: &lines.get(&name)?.state, posts })
            })
            .collect();
        let mut incident = Incident::default();
        for (at, fate) in fates.iter().enumerate() {
            let mut expected = incident.expect(record, fate);
            if held(&fates, at) {
                expected = Expected::Either;
            }
            if let Some(early) = early(fate).filter(|_| incident.closed || !incident.known) {
                let what = format!(
                    "m{} left at {early} and is held until its close may have come",
                    fate.event.serial
                );
                found.push(breach("what is held does not leave", what));
            }
            let wrong = match expected {
                Expected::Told(why) if !fate.is_told() => {
                    Some(("nothing acknowledged is missing", "kept", why))
                }
                Expected::Kept(why) if fate.is_told() => {
                    Some(("no incident pages twice within its quiet time", fate.state, why))
                }
                _ => None,
            };
            if let Some((law, became, why)) = wrong {
                let event = fate.event;
                let name = format!("m{} ({:?} at {})", event.serial, event.status, event.begun);
                found.push(breach(law, format!("{name} is {became}: {why}")));
            }
            incident.take(fate);
        }
    }
    found
}

/// The incidents that the close of another team's has closed as well, for its open had gone there: nothing but that
/// close knows of it.
fn followed(record: &Record) -> BTreeSet<(usize, u16)> {
    record.followers().iter().filter_map(|event| Some((event.team, event.incident?))).collect()
}

/// Whether a page of the incident was held, or may have been, so that another mail changed what became of it.
fn held(fates: &[Fate<'_>], at: usize) -> bool {
    let until = |fate: &Fate<'_>| {
        let event = fate.event;
        let kept = event.kept.unwrap_or(event.begun);
        if event.policy.hold > 0 { kept + event.policy.hold + SLACK } else { Millis::MIN }
    };
    let begun = fates[at].event.begun;
    let was_held = fates[..at].iter().any(|before| until(before) >= begun);
    was_held || fates.get(at + 1).is_some_and(|next| until(&fates[at]) >= next.event.begun)
}

/// When an open that is held has left, if it has before its time.
fn early(fate: &Fate<'_>) -> Option<Millis> {
    let event = fate.event;
    let first = fate.posts.first().filter(|_| event.status == Status::New)?;
    (first.sent < event.begun + event.policy.hold).then_some(first.sent)
}

impl<'a> Incident<'a> {
    fn expect(&self, record: &Record, fate: &Fate<'_>) -> Expected {
        match fate.event.status {
            Status::New => self.expect_open(record, fate.event),
            _ if !self.known => Expected::Told("nothing is known of its incident"),
            _ if self.closed || self.strange || self.is_haunted() => Expected::Either,
            _ if self.told.iter().any(|told| told.state != "folded") => {
                Expected::Told("its incident was paged")
            }
            _ => Expected::Kept("no page of its incident was sent"),
        }
    }

    /// Whether a page of the time before it opened left after that: a close more does no harm.
    fn is_haunted(&self) -> bool {
        let opened = self.told.first().map_or(Millis::MAX, |first| first.event.begun);
        self.before.iter().any(|page| page.answered().is_none_or(|answered| answered >= opened))
    }

    fn expect_open(&self, record: &Record, event: &Event) -> Expected {
        let (Some(last), false) = (self.told.last(), self.closed) else {
            return Expected::Told("its incident is not open");
        };
        // What failed told nobody, and when it is known to have failed the next one pages.
        if self.told.iter().any(|told| told.state == "failed") {
            return Expected::Either;
        }
        let worst = self.told.iter().map(|told| rank(told.event.severity)).min().unwrap_or(2);
        if event.severity.is_some_and(|severity| severity < worst) {
            return Expected::Told("it is worse than all before");
        }
        if event.policy.repeat == Repeat::Update {
            return Expected::Told("it is an update");
        }
        let (begun, kept) = (event.begun, event.kept.unwrap_or(event.begun));
        if event.policy.repeat == Repeat::Count {
            return Expected::Kept("repeats are counted");
        }
        // From when on the quiet time counts: surely, and at the latest.
        let (surely, latest) = match last.state {
            "folded" => (last.event.begun, last.event.kept.unwrap_or(last.event.begun)),
            _ => {
                let (Some(arrived), Some(answered)) = (last.arrived(), last.answered()) else {
                    return Expected::Kept("its page has not left");
                };
                (arrived, answered)
            }
        };
        if surely > kept {
            return Expected::Kept("its page had not left");
        }
        let mut quiet = event.policy.quiet;
        if self.acknowledged {
            quiet = quiet.max(event.policy.acknowledged_quiet);
        }
        if kept - surely < quiet {
            return Expected::Kept("its page is too recent");
        }
        if begun - latest >= quiet && begun - latest > SLACK && !record.had_trouble(latest, kept) {
            return Expected::Told("its page was long ago");
        }
        Expected::Either
    }

    fn take(&mut self, fate: &'a Fate<'a>) {
        match fate.event.status {
            Status::New => {
                if self.closed {
                    let mut before = std::mem::take(&mut self.before);
                    before.extend(self.told.drain(..).filter(|told| !told.posts.is_empty()));
                    *self = Self { known: true, before, ..Self::default() };
                }
                if fate.is_told() {
                    self.acknowledged = false;
                    self.told.push(fate);
                }
            }
            Status::Acknowledged => {
                self.strange |= !self.known;
                self.acknowledged |= !self.closed;
            }
            Status::Resolved => {
                self.strange |= !self.known;
                self.closed = true;
            }
        }
        self.known = true;
    }
}
