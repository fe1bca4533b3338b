//! All that was seen of a history, put together: what was said, what the gateway says that it has, and what
//! SIGNL4 was sent.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde_json::Value;
use smtp2signl4::standin::Request;

use super::mails::{End, Mail, TEAMS};
use super::scene::{Listing, Run, Span};

/// An event: the name of its mail, and its team.
pub type Id = (String, String);

/// A request that reached SIGNL4.
#[derive(Debug, Clone)]
pub struct Post {
    pub at: Timestamp,
    /// The event, unless it is the question whether the secret is right.
    pub event: Option<Id>,
    /// The team by whose secret it came.
    pub by: String,
    pub status: u16,
    pub taken: bool,
    pub payload: Value,
}

/// An event as the gateway lists it.
#[derive(Debug, Clone)]
pub struct Line {
    pub id: Id,
    pub seq: u64,
    pub state: String,
    pub received_at: Timestamp,
    pub settled_at: Option<Timestamp>,
    pub reason: String,
}

/// A listing, read.
pub struct Look {
    pub asked: Span,
    pub whole: bool,
    pub lines: Vec<Line>,
}

/// What was seen of a history.
pub struct Record {
    pub mails: HashMap<String, Mail>,
    pub looks: Vec<Look>,
    pub posts: Vec<Post>,
    pub runs: Vec<Run>,
    pub faults: Vec<Span>,
    pub throttled: Vec<Span>,
    pub refusals: Vec<Span>,
    pub reloads: Vec<(u32, Span)>,
    pub incidents: BTreeMap<(String, String), Value>,
}

impl Record {
    pub fn new(mails: Vec<Mail>, listings: Vec<Listing>, requests: Vec<Request>, runs: Vec<Run>) -> Self {
        let mails = mails.into_iter().map(|mail| (mail.name.clone(), mail)).collect();
        let look = |Listing { asked, whole, events }| {
            let lines = events.iter().map(line).collect();
            Look { asked, whole, lines }
        };
        Self {
            mails,
            looks: listings.into_iter().map(look).collect(),
            posts: requests.into_iter().map(post).collect(),
            runs,
            faults: Vec::new(),
            throttled: Vec::new(),
            refusals: Vec::new(),
            reloads: Vec::new(),
            incidents: BTreeMap::new(),
        }
    }

    /// What happened when, for whoever has to find out why.
    pub fn story(&self) -> String {
        let mut all: Vec<(Timestamp, String)> = Vec::new();
        for post in &self.posts {
            let (event, taken) = (&post.event, if post.taken { "taken" } else { "" });
            all.push((post.at, format!("  {event:?} by {}: {} {taken}", post.by, post.status)));
        }
        for run in &self.runs {
            let how = if run.killed { "killed" } else { "stopped" };
            all.push((run.span.from, "the gateway is started".to_owned()));
            all.push((run.ended_at, format!("the gateway is {how}")));
        }
        for (what, spans) in [("SIGNL4 fails", &self.faults), ("SIGNL4 throttles", &self.throttled)] {
            all.extend(
                spans
                    .iter()
                    .flat_map(|span| [(span.from, what), (span.until, "no longer")])
                    .map(|(at, what)| (at, what.to_owned())),
            );
        }
        for mail in self.mails.values() {
            let end = match mail.end {
                End::Acknowledged(_) => "acknowledged",
                End::Refused => "refused",
                End::Unknown => "unknown",
            };
            let (name, key, status, severity) = (&mail.name, &mail.key, mail.status, mail.severity);
            all.push((mail.begun_at, format!("    {name:?} {key:?} {status} {severity} {end}")));
        }
        all.sort();
        all.into_iter().map(|(at, what)| format!("{at:.6} {what}\n")).collect()
    }

    /// What the gateway said at the end.
    pub fn end(&self) -> &[Line] {
        &self.looks.last().expect("the end is listed").lines
    }

    /// The mail of an event.
    pub fn mail(&self, id: &Id) -> Option<&Mail> {
        self.mails.get(&id.0)
    }

    /// The team and the external id of an event.
    pub fn incident<'a>(&'a self, id: &'a Id) -> Option<(&'a str, &'a str)> {
        Some((&id.1, &self.mail(id)?.key))
    }

    /// The events that were acknowledged, and when.
    pub fn acknowledged(&self) -> impl Iterator<Item = (Id, Timestamp)> {
        self.mails.values().flat_map(|mail| {
            let events = mail.teams.iter().map(|team| (mail.name.clone(), (*team).to_owned()));
            events.zip(std::iter::repeat(mail.acknowledged_at())).filter_map(|(id, at)| Some((id, at?)))
        })
    }

    /// The posts of each event, in the order in which they came.
    pub fn posts_by_event(&self) -> HashMap<&Id, Vec<&Post>> {
        let mut all: HashMap<&Id, Vec<&Post>> = HashMap::new();
        for post in &self.posts {
            if let Some(id) = &post.event {
                all.entry(id).or_default().push(post);
            }
        }
        all
    }

    /// The last lines of each incident, in the order of acceptance.
    pub fn incidents_by_seq(&self) -> BTreeMap<(&str, &str), Vec<(&Line, &Mail)>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in self.end() {
            if let (Some(incident), Some(mail)) = (self.incident(&line.id), self.mail(&line.id)) {
                all.entry(incident).or_default().push((line, mail));
            }
        }
        all.values_mut().for_each(|lines| lines.sort_by_key(|(line, _)| line.seq));
        all
    }
}

fn line(event: &Value) -> Line {
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let time = |key: &str| event[key].as_str().and_then(|at| at.parse().ok());
    Line {
        id: (text("title"), text("team")),
        seq: event["seq"].as_u64().unwrap(),
        state: text("state"),
        received_at: time("received-at").unwrap(),
        settled_at: time("settled-at"),
        reason: text("reason"),
    }
}

fn post(request: Request) -> Post {
    let by = TEAMS.iter().find(|team| request.secret.ends_with(*team)).map_or("", |team| team).to_owned();
    let text = |key: &str| request.payload[key].as_str().map(str::to_owned);
    // The question has neither, and an event that is closed has its title too.
    let event = text("Title").map(|title| (title, text("Meant for").unwrap_or_else(|| by.clone())));
    let taken = request.event_id.is_some();
    Post { at: request.at, event, by, status: request.status, taken, payload: request.payload }
}
