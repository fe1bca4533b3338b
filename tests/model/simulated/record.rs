//! What is known of a history from outside: the mails and when they were acknowledged, the requests and what
//! SIGNL4 said to them, the lives of the gateway. Plain data in the model's own words, so that the laws share
//! nothing with what they judge.

use std::collections::{BTreeMap, BTreeSet};

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
    pub quiet: Millis,
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
    /// When the sender was told that it is kept, or else when that was found out after a crash. None if it is
    /// not kept, or nobody knows yet.
    pub kept: Option<Millis>,
    pub policy: Policy,
}

/// The place of a severity among those that wait: nobody's word stands in the middle.
pub fn rank(severity: Option<u8>) -> u8 {
    severity.unwrap_or(2)
}

impl Event {
    /// Its own place among those that wait.
    pub fn rank(&self) -> u8 {
        if self.status == Status::New { rank(self.severity) } else { QUIET }
    }
}

/// The place among those that wait of what pages nobody: behind all that does.
pub const QUIET: u8 = 5;

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

/// A request.
#[derive(Debug, Clone)]
pub struct Post {
    pub of: Of,
    /// The team by whose secret it went.
    pub by: usize,
    pub account: usize,
    pub life: usize,
    pub sent: Millis,
    /// When SIGNL4 had it.
    pub arrived: Option<Millis>,
    /// SIGNL4's own verdict; 0 if it has none.
    pub verdict: u16,
    /// Whether the verdict is 429 for what was posted before.
    pub blocked: bool,
    /// The status that came back; 0 if none did.
    pub answer: u16,
    /// When the gateway knew that, or gave up waiting.
    pub ended: Option<Millis>,
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
}

/// A time in which the gateway ran.
#[derive(Debug, Clone)]
pub struct Life {
    pub from: Millis,
    pub to: Option<Millis>,
    pub concurrency: usize,
}

/// Where the teams' events go from some time on.
#[derive(Debug, Clone)]
pub struct Aim {
    pub at: Millis,
    /// The account of each team; none if its events have nowhere to go.
    pub accounts: Vec<Option<usize>>,
}

/// A line of `queue list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub serial: Option<u32>,
    pub team: usize,
    pub state: String,
    pub digest: Option<u64>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Record {
    pub events: Vec<Event>,
    pub posts: Vec<Post>,
    pub lives: Vec<Life>,
    pub aims: Vec<Aim>,
    /// When the disk failed: from, to.
    pub troubles: Vec<(Millis, Millis)>,
    /// How many events each account may get in how long a time.
    pub windows: Vec<(usize, Millis)>,
    /// The last listing.
    pub lines: Vec<Line>,
}

impl Record {
    /// Whether the disk failed between these times.
    pub fn had_trouble(&self, from: Millis, to: Millis) -> bool {
        self.troubles.iter().any(|&(begin, end)| begin <= to && end >= from)
    }

    /// Whether a life began or ended between these times.
    pub fn had_restart(&self, from: Millis, to: Millis) -> bool {
        let within = |at: Millis| from <= at && at <= to;
        self.lives.iter().any(|life| within(life.from) || life.to.is_some_and(within))
    }

    /// The posts of each event, in order.
    pub fn posts_by_event(&self) -> BTreeMap<(u32, usize), Vec<&Post>> {
        let mut posts: BTreeMap<_, Vec<&Post>> = BTreeMap::new();
        for post in &self.posts {
            if let Of::Event { serial, team } = post.of {
                posts.entry((serial, team)).or_default().push(post);
            }
        }
        posts
    }

    /// The events of each incident that are kept, in the order in which they were.
    pub fn lanes(&self) -> BTreeMap<(usize, u16), Vec<&Event>> {
        let mut lanes: BTreeMap<_, Vec<&Event>> = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.kept.is_some()) {
            if let Some(incident) = event.incident {
                lanes.entry((event.team, incident)).or_default().push(event);
            }
        }
        lanes
    }

    /// What closes or acknowledges of one team were heard by another one as well, for an open had gone there: such an
    /// event is of no mail to that team, and goes in the order of its incident there.
    pub fn followers(&self) -> Vec<Event> {
        let own: BTreeSet<_> = self.events.iter().map(|event| (event.serial, event.team)).collect();
        let by_serial: BTreeMap<_, _> = self.events.iter().map(|event| (event.serial, event)).collect();
        let heard = self.lines.iter().filter_map(|line| {
            let serial = line.serial.filter(|&serial| !own.contains(&(serial, line.team)))?;
            Some(Event { team: line.team, ..(*by_serial.get(&serial)?).clone() })
        });
        heard.collect()
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
        let followers = self.followers();
        for event in self.events.iter().chain(&followers).filter(concerned) {
            about.push_str(&format!("{event:?}\n"));
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
        about.push_str(&format!("{:?}\n{:?}\n", self.lives, self.aims));
        about
    }
}
