//! What is known of a history from outside, whichever driver ran it: the mails and when they were acknowledged, the
//! requests and what SIGNL4 said to them, what the gateway listed and logged, and its lives. Plain data in the model's own
//! words, so that the laws share nothing with what they judge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::letter::{TEAMS, read_title};

/// Milliseconds since the history began.
pub type Millis = i64;

pub const MINUTE: Millis = 60_000;

/// What a mail says of its incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    New,
    Acknowledged,
    Resolved,
}

/// What becomes of a repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    Quiet,
    Count,
    Update,
}

/// What was in force when a mail was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub repeat: Repeat,
    /// None if the rules say it: see [`Record::quiet`].
    pub quiet: Option<Millis>,
    pub acknowledged_quiet: Millis,
    pub hold: Millis,
    /// None if nothing is folded.
    pub storm: Option<Storm>,
}

/// What a storm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storm {
    /// So many pages within a minute are none, by what the gateway knows of the account at least and at most.
    pub least: usize,
    pub most: usize,
    /// How long it lasts when it is quieter.
    pub calm: Millis,
}

/// What a mail means to one team.
#[derive(Debug, Clone)]
pub struct Event {
    pub serial: u32,
    pub team: usize,
    /// None if it is an incident of its own.
    pub incident: Option<u16>,
    pub status: Status,
    /// 0 is critical, 4 informational.
    pub severity: Option<u8>,
    pub source: u8,
    /// When the sender began to hand it in.
    pub begun: Millis,
    /// Whether its sender was told that it is not taken.
    pub refused: bool,
    /// When the sender was told that it is kept. If he was told nothing and it is, the end of the life that took it:
    /// see [`Record::settle`]. None if it is not kept.
    pub kept: Option<Millis>,
    pub policy: Policy,
}

/// The place of a severity among those that wait: nobody's word stands in the middle.
pub fn rank(severity: Option<u8>) -> u8 {
    severity.unwrap_or(2)
}

/// The place among those that wait of what pages nobody: behind all that does.
pub const QUIET: u8 = 5;

impl Event {
    /// Its own place among those that wait.
    pub fn rank(&self) -> u8 {
        if self.status == Status::New { rank(self.severity) } else { QUIET }
    }

    /// What it is called in the record: the number of its mail, and its team.
    pub fn name(&self) -> Name {
        (self.serial, self.team)
    }
}

/// The number of a mail, and a team.
pub type Name = (u32, usize);

/// What a request holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Of {
    /// The event of a mail.
    Event { serial: u32, team: usize },
    /// What a storm has folded.
    Digest {
        storm: u64,
        folded: u64,
        /// Whether it closes the alert.
        closes: bool,
        /// Whether it says where the list of all is.
        names_the_list: bool,
    },
    /// Whether the secret is right.
    Question,
}

impl Of {
    /// What a body holds that was posted by the secret of the team `by`.
    pub fn read(body: &Value, by: usize) -> Self {
        let text = |key: &str| body[key].as_str().unwrap_or_default();
        if let Some((serial, _)) = read_title(text("Title")) {
            let team = TEAMS.iter().position(|team| *team == text("Meant for")).unwrap_or(by);
            return Self::Event { serial, team };
        }
        match text("X-S4-ExternalID").strip_prefix("smtp2signl4:storm:") {
            Some(rest) => Self::Digest {
                storm: rest.split('-').next().and_then(|id| id.parse().ok()).expect("a storm has a number"),
                folded: text("Folded").parse().expect("a digest tells how many it has folded"),
                closes: text("X-S4-Status") == "resolved",
                names_the_list: text("Message").contains("queue list --digest "),
            },
            None => Self::Question,
        }
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Post {
    pub of: Of,
    /// The team by whose secret it went.
    pub by: usize,
    pub account: usize,
    pub life: usize,
    /// When it left, or was first seen.
    pub sent: Millis,
    /// When SIGNL4 had it.
    pub arrived: Option<Millis>,
    /// SIGNL4's own verdict; 0 if it has none.
    pub verdict: u16,
    /// Whether the verdict is 429 for what was posted before.
    pub blocked: bool,
    /// The status that came back; 0 if none did.
    pub answer: u16,
    /// When the gateway knew that, or gave up waiting. None if it was killed before.
    pub ended: Option<Millis>,
    /// What was posted.
    pub payload: Arc<Value>,
}

impl Post {
    /// Whether SIGNL4 has what it holds.
    pub fn is_taken(&self) -> bool {
        self.verdict == 201
    }

    /// Whether it was under way then.
    pub fn is_away(&self, at: Millis) -> bool {
        self.sent <= at && self.ended.is_none_or(|ended| ended > at)
    }

    /// A field of what was posted.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.payload[key].as_str()
    }

    /// The rules that judged its mail.
    pub fn generation(&self) -> Option<u32> {
        self.text("Generation")?.parse().ok()
    }
}

/// A line of the gateway's log.
#[derive(Debug, Clone)]
pub struct Said {
    pub at: Millis,
    pub message: String,
    /// The number of the event that it is about.
    pub seq: Option<u64>,
}

impl Said {
    /// Reads a line of the JSON log, whose times are as `millis` tells them.
    pub fn read(line: &Value, millis: impl Fn(&str) -> Option<Millis>) -> Option<Self> {
        let at = millis(line["timestamp"].as_str()?)?;
        Some(Self { at, message: line["message"].as_str()?.to_owned(), seq: line["seq"].as_u64() })
    }
}

/// A time in which the gateway ran.
#[derive(Debug, Clone)]
pub struct Life {
    pub from: Millis,
    /// When it was killed, or was told to stop.
    pub told: Option<Millis>,
    /// When it had ended.
    pub to: Option<Millis>,
    pub killed: bool,
    pub concurrency: usize,
    pub log: Vec<Said>,
}

/// Where the teams' events go from some time on.
#[derive(Debug, Clone)]
pub struct Aim {
    pub at: Millis,
    /// The account of each team; none if its events have nowhere to go.
    pub accounts: Vec<Option<usize>>,
}

/// Rules, and the quiet time that they give.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub generation: u32,
    pub quiet: Millis,
    /// From when on they may have been in force, and from when on they were for sure.
    pub written: Millis,
    pub loaded: Millis,
}

/// A line of `queue list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub serial: Option<u32>,
    pub team: usize,
    /// Its place in the order of acceptance.
    pub seq: u64,
    pub state: String,
    pub digest: Option<u64>,
    pub received: Millis,
    pub settled: Option<Millis>,
}

impl Line {
    /// The event that it is about, if it is one of a mail.
    pub fn name(&self) -> Option<Name> {
        Some((self.serial?, self.team))
    }
}

/// What the gateway said that it has.
#[derive(Debug, Clone)]
pub struct Look {
    /// When it was asked, and when it had answered.
    pub from: Millis,
    pub until: Millis,
    /// All that it has, if that was asked.
    pub all: Option<Vec<Line>>,
    /// What an operator sees who does not ask for more: what waits and what failed; if that was asked.
    pub open: Option<Vec<Line>>,
    /// What each digest tells of.
    pub digests: BTreeMap<u64, Vec<Line>>,
    /// How many are said to wait, if that was asked.
    pub queued: Option<u64>,
}

/// What a driver cannot tell any better.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// How long an event may be on its way from its commit to where it can be posted.
    pub slack: Millis,
    /// So many less urgent events may leave before the gateway looks at what is new.
    pub leeway: usize,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Record {
    pub bounds: Bounds,
    pub events: Vec<Event>,
    /// In the order in which they left, or were seen.
    pub posts: Vec<Post>,
    pub lives: Vec<Life>,
    pub aims: Vec<Aim>,
    pub rules: Vec<Rules>,
    /// When the disk failed: from, to.
    pub disk: Vec<(Millis, Millis)>,
    /// When anything else was not as it should be, where the answers alone do not tell: from, to.
    pub unrest: Vec<(Millis, Millis)>,
    /// How many events each account may get in how long a time; the shortest first.
    pub windows: Vec<(usize, Millis)>,
    /// What the gateway listed; at last, when all is over, all that it has.
    pub looks: Vec<Look>,
    /// The incidents that the gateway knows when all is over, and whether they are closed.
    pub incidents: BTreeMap<(usize, u16), bool>,
}

impl Record {
    /// All that the gateway has when all is over.
    pub fn lines(&self) -> &[Line] {
        self.looks.last().and_then(|look| look.all.as_deref()).unwrap_or_default()
    }

    /// Finds out which of the mails are kept of which nobody was told.
    pub fn settle(&mut self) {
        let listed: BTreeSet<_> = self.lines().iter().filter_map(Line::name).collect();
        let ends: Vec<Millis> = self.lives.iter().filter_map(|life| life.to).collect();
        for event in self.events.iter_mut().filter(|event| event.kept.is_none()) {
            if listed.contains(&event.name()) {
                event.kept = ends.iter().copied().find(|&end| end >= event.begun);
            }
        }
    }

    /// Whether the disk failed between these times.
    pub fn had_disk_trouble(&self, from: Millis, to: Millis) -> bool {
        overlaps(&self.disk, from, to)
    }

    /// Whether anything but SIGNL4 failed between these times.
    pub fn had_trouble(&self, from: Millis, to: Millis) -> bool {
        self.had_disk_trouble(from, to) || overlaps(&self.unrest, from, to)
    }

    /// Whether a life began or ended between these times.
    pub fn had_restart(&self, from: Millis, to: Millis) -> bool {
        let within = |at: Millis| from <= at && at <= to;
        self.lives.iter().any(|life| within(life.from) || life.to.is_some_and(within))
    }

    /// The posts of each event, in order.
    pub fn posts_by_event(&self) -> BTreeMap<Name, Vec<&Post>> {
        let mut posts: BTreeMap<_, Vec<&Post>> = BTreeMap::new();
        for post in &self.posts {
            if let Of::Event { serial, team } = post.of {
                posts.entry((serial, team)).or_default().push(post);
            }
        }
        posts
    }

    /// The events of mails.
    pub fn events_by_name(&self) -> BTreeMap<Name, &Event> {
        self.events.iter().map(|event| (event.name(), event)).collect()
    }

    /// What became of each event of a mail.
    pub fn lines_by_name(&self) -> BTreeMap<Name, &Line> {
        self.lines().iter().filter_map(|line| Some((line.name()?, line))).collect()
    }

    /// The events of each incident that are kept, in the order of acceptance.
    pub fn lanes(&self) -> BTreeMap<(usize, u16), Vec<&Event>> {
        let lines = self.lines_by_name();
        let seq = |event: &Event| lines.get(&event.name()).map(|line| line.seq);
        let mut lanes: BTreeMap<_, Vec<&Event>> = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.kept.is_some() && seq(event).is_some()) {
            if let Some(incident) = event.incident {
                lanes.entry((event.team, incident)).or_default().push(event);
            }
        }
        lanes.values_mut().for_each(|lane| lane.sort_by_key(|event| seq(event)));
        lanes
    }

    /// What closes or acknowledges of one team were heard by another one as well, for an open had gone there: such an
    /// event is of no mail to that team, and goes in the order of its incident there.
    pub fn followers(&self) -> Vec<Event> {
        let own = self.events_by_name();
        let by_serial: BTreeMap<_, _> = self.events.iter().map(|event| (event.serial, event)).collect();
        let heard = self.lines().iter().filter_map(|line| {
            let serial = line.serial.filter(|&serial| !own.contains_key(&(serial, line.team)))?;
            Some(Event { team: line.team, ..(*by_serial.get(&serial)?).clone() })
        });
        heard.collect()
    }

    /// The quiet time of an event, at least and at most, by the rules that may have judged it.
    pub fn quiet(&self, event: &Event, posts: &[&Post]) -> (Millis, Millis) {
        if let Some(quiet) = event.policy.quiet {
            return (quiet, quiet);
        }
        let by = posts.first().and_then(|post| post.generation());
        let rules = self.rules.iter().filter(|rules| match by {
            Some(generation) => rules.generation == generation,
            None => self.may_judge(rules, event),
        });
        let all: Vec<_> = rules.map(|rules| rules.quiet).collect();
        (all.iter().copied().min().unwrap_or(0), all.into_iter().max().unwrap_or(Millis::MAX / 4))
    }

    /// Whether `rules` may have judged an event: they were written before it was kept, and no later ones were in force
    /// before it came.
    pub fn may_judge(&self, rules: &Rules, event: &Event) -> bool {
        let later = |other: &&Rules| other.generation > rules.generation && other.loaded <= event.begun;
        event.kept.is_none_or(|kept| rules.written <= kept) && !self.rules.iter().any(|other| later(&other))
    }

    /// All that is known of the mails that a text names, and of their incidents; if it names none, of the minute
    /// before the time at its end.
    pub fn about(&self, text: &str) -> String {
        let named = |event: &&Event| text.split_whitespace().any(|word| word == format!("m{}", event.serial));
        let named: Vec<_> = self.events.iter().filter(named).collect();
        let mut about = String::new();
        let concerned = |event: &&Event| {
            named.iter().any(|named| {
                let same = named.team == event.team && named.incident == event.incident;
                named.serial == event.serial || event.incident.is_some() && same
            })
        };
        let (followers, lines) = (self.followers(), self.lines_by_name());
        for event in self.events.iter().chain(&followers).filter(concerned) {
            about.push_str(&format!("{event:?}\n    {:?}\n", lines.get(&event.name())));
            for post in &self.posts {
                if post.of == (Of::Event { serial: event.serial, team: event.team }) {
                    about.push_str(&format!("    {post:?}\n"));
                }
            }
        }
        let time = text.split_whitespace().next_back().and_then(|word| word.parse::<Millis>().ok());
        if let Some(time) = time.filter(|_| named.is_empty()) {
            for post in self.posts.iter().filter(|post| (time - MINUTE..=time).contains(&post.sent)) {
                about.push_str(&format!("    {post:?}\n"));
            }
        }
        for Life { from, told, to, killed, .. } in &self.lives {
            about.push_str(&format!("a life from {from} until {told:?}, over at {to:?}, killed: {killed}\n"));
        }
        about.push_str(&format!("{:?}\n{:?}\n{:?}\n", self.aims, self.rules, self.unrest));
        about
    }
}

fn overlaps(spans: &[(Millis, Millis)], from: Millis, to: Millis) -> bool {
    spans.iter().any(|&(begin, end)| begin <= to && end >= from)
}
