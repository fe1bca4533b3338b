//! What was seen of a history of the real program, put together as a record.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde_json::Value;
use smtp2signl4::standin::Request;

use super::scene::{
    ACKNOWLEDGED_QUIET, CONCURRENCY, Listing, QUIET, Run, Scene, Span, Terms, VISITOR, quiet,
};
use super::senders::{End, Tries};
use crate::letter::{TEAMS, read_key, read_title, repeat};
use crate::record::{
    Aim, Bounds, Event, Life, Line, Look, Millis, Name, Of, Policy, Post, Record, Rules, Said, Storm,
};

/// So many less urgent events may come after an urgent one was acknowledged: those that were under way, and a few that
/// leave before the loop looks at what is new.
const UNDER_WAY: usize = CONCURRENCY * TEAMS.len() + 4;

/// The record of all that happened in `scene`, in which so many mails were tried.
pub fn record(scene: &Scene, tries: &Tries) -> Record {
    let reader = Reader { begun_at: scene.runs[0].span.from };
    let mut record = Record {
        bounds: Bounds { slack: 0, leeway: UNDER_WAY },
        events: reader.events(&scene.terms, tries),
        lives: scene.runs.iter().map(|run| reader.life(run)).collect(),
        aims: scene.runs.iter().map(|run| reader.aim(run)).collect(),
        rules: scene.reloads.iter().map(|(generation, span)| reader.rules(*generation, *span)).collect(),
        windows: scene.terms.windows.map(|(limit, seconds)| (limit, seconds * 1_000)).to_vec(),
        looks: scene.listings.iter().map(|listing| reader.look(listing)).collect(),
        incidents: scene.incidents().iter().filter_map(incident).collect(),
        ..Record::default()
    };
    record.posts = reader.posts(scene, &record);
    record.unrest = reader.unrest(scene, &record.posts);
    record.settle();
    record
}

struct Reader {
    begun_at: Timestamp,
}

impl Reader {
    fn millis(&self, at: Timestamp) -> Millis {
        at.as_millisecond() - self.begun_at.as_millisecond()
    }

    fn span(&self, span: &Span) -> (Millis, Millis) {
        (self.millis(span.from), self.millis(span.until))
    }

    fn events(&self, terms: &Terms, tries: &Tries) -> Vec<Event> {
        let storm = |(after, seconds)| Storm { least: after, most: after, calm: seconds * 1_000 };
        let mut events = Vec::new();
        for (serial, tried) in (1..).zip(tries.all()) {
            let (repeat, ruled) = repeat(tried.letter.incident);
            let kept = match tried.end {
                End::Acknowledged(at) => Some(self.millis(at)),
                End::Refused | End::Unknown => None,
            };
            for &team in &tried.letter.teams {
                events.push(Event {
                    serial,
                    team,
                    incident: tried.letter.incident,
                    status: tried.letter.status,
                    severity: tried.letter.severity,
                    source: tried.letter.source,
                    begun: self.millis(tried.begun_at),
                    refused: tried.end == End::Refused,
                    kept,
                    policy: Policy {
                        repeat,
                        quiet: (!ruled).then_some(QUIET),
                        acknowledged_quiet: ACKNOWLEDGED_QUIET,
                        hold: 0,
                        storm: terms.storm.map(storm),
                    },
                });
            }
        }
        events
    }

    fn life(&self, run: &Run) -> Life {
        let (from, to) = self.span(&run.span);
        let millis = |at: &str| Some(self.millis(at.parse().ok()?));
        Life {
            from,
            told: Some(self.millis(run.ended_at)),
            to: Some(to),
            killed: run.killed,
            concurrency: CONCURRENCY,
            log: run.log.iter().filter_map(|line| Said::read(line, millis)).collect(),
        }
    }

    fn aim(&self, run: &Run) -> Aim {
        let account = |team: &&str| (run.visited || *team != VISITOR).then_some(0);
        Aim { at: self.millis(run.span.from), accounts: TEAMS.iter().map(account).collect() }
    }

    fn rules(&self, generation: u32, span: Span) -> Rules {
        let (written, loaded) = self.span(&span);
        Rules { generation, quiet: quiet(generation), written, loaded }
    }

    fn look(&self, listing: &Listing) -> Look {
        let (from, until) = self.span(&listing.asked);
        let lines: Vec<Line> = listing.events.iter().map(|event| self.line(event)).collect();
        let (all, open) = if listing.whole { (Some(lines), None) } else { (None, Some(lines)) };
        Look { from, until, all, open, digests: BTreeMap::new(), queued: None }
    }

    fn line(&self, event: &Value) -> Line {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let time = |key: &str| Some(self.millis(event[key].as_str()?.parse().ok()?));
        Line {
            serial: read_title(text("title")).map(|(serial, _)| serial),
            team: TEAMS.iter().position(|team| *team == text("team")).unwrap_or(TEAMS.len()),
            seq: event["seq"].as_u64().unwrap(),
            state: text("state").to_owned(),
            digest: event["digest"].as_u64(),
            received: time("received-at").unwrap(),
            settled: time("settled-at"),
        }
    }

    /// What reached SIGNL4. When the gateway learnt what came of a post it says itself: in the log of each that was made
    /// in vain, in the list of each that was not.
    fn posts(&self, scene: &Scene, record: &Record) -> Vec<Post> {
        let mut posts: Vec<Post> =
            scene.standin.requests().into_iter().map(|request| self.post(request, scene, record)).collect();
        let (vain, lines) = (in_vain(record), record.lines_by_name());
        let mut next: BTreeMap<Name, Millis> = BTreeMap::new();
        for post in posts.iter_mut().rev() {
            let Of::Event { serial, team } = post.of else { continue };
            let name = (serial, team);
            let until = next.insert(name, post.sent).unwrap_or(Millis::MAX);
            let failed = vain.get(&name).into_iter().flatten();
            let failed = failed.copied().find(|at| (post.sent..=until).contains(at));
            let settled = lines.get(&name).and_then(|line| line.settled).filter(|at| *at >= post.sent);
            if failed.is_some() {
                post.ended = failed;
                post.answer = if post.is_taken() { 0 } else { post.answer };
            } else if post.is_taken() {
                // Of the last one: those before it were in vain, or are forgotten with their life.
                post.ended = settled.filter(|_| until == Millis::MAX);
            } else {
                post.ended = Some(post.sent).filter(|_| post.answer > 0);
            }
        }
        posts
    }

    fn post(&self, request: Request, scene: &Scene, record: &Record) -> Post {
        let by = TEAMS.iter().position(|team| request.secret.ends_with(team)).unwrap();
        let at = self.millis(request.at);
        let is_meant = scene.throttled.iter().any(|span| span.from <= request.at && request.at <= span.until);
        let of = Of::read(&request.payload, by);
        Post {
            by,
            account: 0,
            life: record.lives.iter().rposition(|life| life.from <= at).unwrap_or(0),
            sent: at,
            arrived: Some(at),
            verdict: match request.status {
                _ if request.event_id.is_some() => 201,
                status @ (400 | 404) => status,
                429 if !is_meant => 429,
                _ => 0,
            },
            blocked: request.status == 429 && !is_meant,
            answer: request.status,
            // Of a question nothing is said.
            ended: Some(at).filter(|_| !matches!(of, Of::Event { .. })),
            of,
            payload: request.payload.into(),
        }
    }

    /// When something went wrong, so that not what is most urgent decides what goes: times at which the gateway did not
    /// run or was given another config, SIGNL4 failed, or the gateway says that an answer did not come.
    fn unrest(&self, scene: &Scene, posts: &[Post]) -> Vec<(Millis, Millis)> {
        let mut all: Vec<_> = scene.faults.iter().map(|span| self.span(span)).collect();
        all.extend(posts.iter().filter(|post| !post.is_taken()).map(|post| (post.sent, post.sent)));
        // A team may come or go with them.
        all.extend(scene.reloads.iter().map(|(_, span)| self.span(span)));
        for run in &scene.runs {
            let (from, until) = self.span(&run.span);
            all.extend([(from, from), (self.millis(run.ended_at), until)]);
            let troubled = run.log.iter().filter(|line| line["level"] == "WARN" || line["level"] == "ERROR");
            let times = troubled.filter_map(|line| line["timestamp"].as_str()?.parse().ok());
            all.extend(times.map(|at| (self.millis(at), self.millis(at))));
        }
        all
    }
}

/// When the log says of each event that it was tried in vain.
fn in_vain(record: &Record) -> HashMap<Name, Vec<Millis>> {
    // The log knows events by their numbers.
    let names: HashMap<u64, Name> =
        record.lines().iter().filter_map(|line| Some((line.seq, line.name()?))).collect();
    let mut all: HashMap<_, Vec<_>> = HashMap::new();
    for said in record.lives.iter().flat_map(|life| &life.log) {
        if said.message.starts_with("tried in vain")
            && let Some(name) = said.seq.and_then(|seq| names.get(&seq))
        {
            all.entry(*name).or_default().push(said.at);
        }
    }
    all
}

/// A line of `queue incidents`: the incident, and whether it is closed.
fn incident(((team, key), told): (&(String, String), &Value)) -> Option<((usize, u16), bool)> {
    let team = TEAMS.iter().position(|known| known == team)?;
    Some(((team, read_key(key)?), told["state"] == "resolved"))
}
