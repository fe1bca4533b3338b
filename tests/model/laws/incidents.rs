//! The law of incidents: which mails must be told to people and which must not, from the mails and from what
//! SIGNL4 got. Where the two sides saw an event at times that do not decide it, either is right.

mod known;

use std::collections::BTreeSet;

use super::super::record::{Event, Line, Millis, Post, Record, Repeat, Status, rank};
use super::{Breach, breach};

pub use known::{a_mail_is_judged_by_rules_in_force, the_gateway_knows_what_is_open};

/// How long the end of what is held may be on its way into the spool.
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
    line: &'a Line,
    posts: &'a [&'a Post],
}

impl Fate<'_> {
    fn is_told(&self) -> bool {
        self.line.state != "counted"
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
    /// The opens since the last page that were counted.
    unpaged: u64,
    /// Whether anything of it was folded, held or refused, so that what its mails say of it is another law's.
    mixed: bool,
}

/// Follows each incident in the order of acceptance, and shows each of its events with all of them and with what was
/// known before it.
fn follow(record: &Record, mut see: impl FnMut(&Incident<'_>, &[Fate<'_>], usize)) {
    let (posts, lines, followed) = (record.posts_by_event(), record.lines_by_name(), followed(record));
    for (_, lane) in record.lanes().iter().filter(|(incident, _)| !followed.contains(incident)) {
        let fates: Vec<Fate<'_>> = lane
            .iter()
            .filter_map(|event| {
                let posts = posts.get(&event.name()).map_or(&[][..], Vec::as_slice);
                Some(Fate { event, line: lines.get(&event.name())?, posts })
            })
            .collect();
        let mut incident = Incident::default();
        for (at, fate) in fates.iter().enumerate() {
            see(&incident, &fates, at);
            incident.take(fate);
        }
    }
}

/// Every mail about an incident is told or kept as the law says, and a page says how many mails it stands for.
pub fn what_pages_follows_from_what_came_before(record: &Record, found: &mut Vec<Breach>) {
    follow(record, |incident, fates, at| {
        let fate = &fates[at];
        let (event, state) = (fate.event, fate.line.state.as_str());
        let mut expected = incident.expect(record, fate);
        if held(fates, at) {
            expected = Expected::Either;
        }
        if let Some(early) = early(fate).filter(|_| incident.closed || !incident.known) {
            let what = format!("m{} left at {early} and is held until its close may have come", event.serial);
            found.push(breach("what is held does not leave", what));
        }
        let wrong = match expected {
            Expected::Told(why) if !fate.is_told() => Some(("nothing acknowledged is missing", "kept", why)),
            Expected::Kept(why) if fate.is_told() => {
                Some(("no incident pages twice within its quiet time", state, why))
            }
            _ => None,
        };
        if let Some((law, became, why)) = wrong {
            let name = format!("m{} ({:?} at {})", event.serial, event.status, event.begun);
            found.push(breach(law, format!("{name} is {became}: {why}")));
        }
        if let Some(what) = incident.is_told_wrong(fate) {
            found.push(breach("a page says how many mails it stands for", what));
        }
    });
}

/// Between two pages of an incident that is not worse there is the quiet time of the rules that judged the second, from
/// when the first came last to when the second came first.
pub fn between_two_pages_is_the_quiet_time(record: &Record, found: &mut Vec<Breach>) {
    follow(record, |incident, fates, at| {
        let (event, posts) = (fates[at].event, fates[at].posts);
        let Some(page) = incident.told.last().filter(|_| !incident.closed) else { return };
        let worst = incident.told.iter().map(|told| rank(told.event.severity)).min().unwrap_or(2);
        let rises = event.severity.is_some_and(|severity| severity < worst);
        if event.status != Status::New || event.policy.repeat != Repeat::Quiet || rises {
            return;
        }
        let taken = |posts: &[&Post]| {
            posts.iter().filter(|post| post.is_taken()).filter_map(|post| post.arrived).collect::<Vec<_>>()
        };
        if let (Some(&before), Some(&after)) = (taken(page.posts).last(), taken(posts).first()) {
            let mut least = record.quiet(event, posts).0;
            if incident.acknowledged {
                least = least.max(event.policy.acknowledged_quiet);
            }
            // The spool counts in milliseconds.
            if after - before + 1 < least && page.line.state != "failed" {
                let what = format!(
                    "m{} came {} ms after m{}, quiet for {least} ms",
                    event.serial,
                    after - before,
                    page.event.serial
                );
                found.push(breach("no incident pages twice within its quiet time", what));
            }
        }
    });
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
            Status::New => self.expect_open(record, fate),
            _ if !self.known => Expected::Told("nothing is known of its incident"),
            _ if !self.mixed => Expected::Told("what closes or acknowledges is passed on"),
            _ if self.closed || self.strange || self.is_haunted() => Expected::Either,
            _ if self.told.iter().any(|told| told.line.state != "folded") => {
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

    fn expect_open(&self, record: &Record, fate: &Fate<'_>) -> Expected {
        let event = fate.event;
        let (Some(last), false) = (self.told.last(), self.closed) else {
            return Expected::Told("its incident is not open");
        };
        // What failed told nobody, and when it is known to have failed the next one pages.
        if self.told.iter().any(|told| told.line.state == "failed") {
            return Expected::Either;
        }
        let worst = self.told.iter().map(|told| rank(told.event.severity)).min().unwrap_or(2);
        if event.severity.is_some_and(|severity| severity < worst) {
            return Expected::Told("it is worse than all before");
        }
        if event.policy.repeat == Repeat::Update {
            return Expected::Told("it is an update");
        }
        let kept = event.kept.unwrap_or(event.begun);
        if event.policy.repeat == Repeat::Count {
            return Expected::Kept("repeats are counted");
        }
        // From when on the quiet time counts: surely, and at the latest.
        let (surely, latest) = match last.line.state.as_str() {
            "folded" => (last.event.begun, last.event.kept.unwrap_or(last.event.begun)),
            _ => {
                let (Some(arrived), Some(settled)) = (last.arrived(), last.line.settled) else {
                    return Expected::Kept("its page has not left");
                };
                (arrived, settled)
            }
        };
        if surely > kept {
            return Expected::Kept("its page had not left");
        }
        let (mut least, mut most) = record.quiet(event, fate.posts);
        if self.acknowledged {
            least = least.max(event.policy.acknowledged_quiet);
            most = most.max(event.policy.acknowledged_quiet);
        }
        if kept - surely < least {
            return Expected::Kept("its page is too recent");
        }
        // By then the end of the page is in the spool, unless the disk failed.
        if fate.line.received - latest >= most && !record.had_disk_trouble(latest, kept) {
            return Expected::Told("its page was long ago");
        }
        Expected::Either
    }

    /// What a page that repeats others says wrong of how many those are.
    fn is_told_wrong(&self, fate: &Fate<'_>) -> Option<String> {
        let said = fate.posts.first()?.text("Repeated");
        let repeats = match fate.event.policy.repeat {
            Repeat::Update => 0,
            Repeat::Quiet | Repeat::Count => self.unpaged,
        };
        let opens = fate.event.status == Status::New && !self.closed;
        let expected = match repeats {
            1 if opens => Some("once since the last page".to_owned()),
            2.. if opens => Some(format!("{repeats} times since the last page")),
            _ => None,
        };
        let wrong = !self.mixed && fate.event.policy.hold == 0 && said != expected.as_deref();
        wrong.then(|| format!("m{} says {said:?}, and it is {expected:?}", fate.event.serial))
    }

    fn take(&mut self, fate: &'a Fate<'a>) {
        self.mixed |= fate.event.policy.hold > 0 || matches!(fate.line.state.as_str(), "folded" | "failed");
        match fate.event.status {
            Status::New => {
                if self.closed {
                    let mut before = std::mem::take(&mut self.before);
                    before.extend(self.told.drain(..).filter(|told| !told.posts.is_empty()));
                    *self = Self { known: true, before, mixed: self.mixed, ..Self::default() };
                }
                if fate.is_told() {
                    self.acknowledged = false;
                    self.unpaged = 0;
                    self.told.push(fate);
                } else if !self.told.is_empty() {
                    self.unpaged += 1;
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
