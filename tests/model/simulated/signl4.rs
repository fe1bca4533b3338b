//! SIGNL4 in memory: what it says is said by the stand-in's own rate limit, and in between lies a net that is
//! slow, breaks, and loses what it carries. It outlives the lives of the gateway, as the real one does.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderName;
use serde_json::Value;

use super::time::VirtualClock;
use crate::letter::read_title;
use crate::record::{Millis, Of, Post, Record};
use smtp2signl4::delivery::{Carried, Lost, Reached, Reply, Request, Transport};
use smtp2signl4::standin::{Plan, Quota, Ruling};

/// Longest way of a request to SIGNL4. A gateway that starts anew counts what was under way by then.
const WAY: u64 = 900;

/// What goes wrong between the gateway and SIGNL4, and there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    Fine,
    /// No connection, at once or after a while.
    Refused,
    /// No answer, whether or not the event was taken.
    Silent,
    /// Some answers are lost.
    Lossy,
    /// This status instead of an answer; a proxy's 502 and 504 say nothing of what SIGNL4 did.
    Errors(u16),
    /// Some posts meet an error.
    Flaky,
    /// 429, though the account has posted little; whether a header says until when.
    Throttled(bool),
    /// A firewall dislikes some events.
    Firewall,
}

/// A secret at SIGNL4.
#[derive(Debug, Clone, Copy)]
pub(super) struct Secret {
    pub(super) team: usize,
    pub(super) account: usize,
    pub(super) valid: bool,
}

/// SIGNL4, and the net before it.
#[derive(Debug)]
pub(super) struct Signl4 {
    state: Mutex<State>,
    clock: Arc<VirtualClock>,
    record: Arc<Mutex<Record>>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    seed: u64,
    weather: Weather,
    weather_until: Millis,
    /// Whether every request takes equally long.
    steady: bool,
    secrets: HashMap<String, Secret>,
    quotas: Vec<Option<Quota>>,
    life: usize,
    /// What was on its way when the gateway was killed: it arrives all the same.
    late: Vec<(Millis, usize, String, u32)>,
}

/// What happens to a request.
struct Passage {
    /// How long it takes to get there; none if it never does.
    there: Option<Duration>,
    /// How long the answer takes; none if it is lost.
    back: Option<Duration>,
    weather: Weather,
}

/// An answer of SIGNL4, or of who stands before it.
struct Said {
    status: u16,
    verdict: u16,
    blocked: bool,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Signl4 {
    pub(super) fn new(
        mut rng: Rng,
        plan: &Plan,
        secrets: HashMap<String, Secret>,
        clock: Arc<VirtualClock>,
        record: Arc<Mutex<Record>>,
    ) -> Self {
        let accounts = secrets.values().map(|secret| secret.account + 1).max().unwrap_or(1);
        let state = State {
            seed: rng.u64(..),
            rng: rng.fork(),
            weather: Weather::Fine,
            weather_until: 0,
            steady: false,
            secrets,
            quotas: (0..accounts).map(|_| Quota::new(plan)).collect(),
            life: 0,
            late: Vec::new(),
        };
        Self { state: Mutex::new(state), clock, record }
    }

    /// Lets it be so until then.
    pub(super) fn turn(&self, weather: Weather, until: Millis) {
        let mut state = self.state();
        (state.weather, state.weather_until) = (weather, until);
    }

    /// Lets every request take equally long from now on.
    pub(super) fn be_steady(&self) {
        self.state().steady = true;
    }

    /// Revokes a team's secrets, or puts them in force again.
    pub(super) fn set_valid(&self, team: usize, valid: bool) {
        let mut state = self.state();
        state
            .secrets
            .values_mut()
            .filter(|secret| secret.team == team)
            .for_each(|secret| secret.valid = valid);
    }

    /// The gateway lives for the `life`th time.
    pub(super) fn begin(&self, life: usize) {
        self.state().life = life;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock can panic")
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no holder of this lock can panic")
    }

    /// Notes a request that leaves, and what will happen to it.
    fn leave(&self, secret: &str, body: Value) -> (usize, Passage) {
        let now = self.clock.millis();
        let state = self.state();
        let known = state.secrets.get(secret).copied();
        let known = known.expect("every secret that the config had was one of ours");
        let mut record = self.record();
        let of = Of::read(&body, known.team);
        let times = record.posts.iter().filter(|post| post.of == of).count();
        let passage = state.passage(now, &of, times);
        record.posts.push(Post {
            of,
            by: known.team,
            account: known.account,
            life: state.life,
            sent: now,
            arrived: None,
            verdict: 0,
            blocked: false,
            answer: 0,
            ended: None,
            payload: Arc::new(body),
        });
        (record.posts.len() - 1, passage)
    }

    /// SIGNL4 gets a request, at the time that the clock of the account must not run before.
    fn arrive(&self, post: usize, secret: &str, serial: u32, at: Millis, weather: Weather) -> Said {
        let mut state = self.state();
        state.late.sort_unstable();
        while let Some(&(late, ..)) = state.late.first()
            && late <= at
        {
            let (late, post, secret, serial) = state.late.remove(0);
            let reply = state.judge(&secret, serial, self.clock.at(late), Weather::Fine);
            note(&mut self.record().posts[post], &reply, late);
        }
        let reply = state.judge(secret, serial, self.clock.at(at), weather);
        note(&mut self.record().posts[post], &reply, at);
        reply
    }

    async fn pass(self: Arc<Self>, request: Request) -> Result<Reply, Lost> {
        let secret = request.url.path_segments().and_then(|mut path| path.next_back()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&request.body).expect("what is posted is JSON");
        let serial = marked_serial(&body);
        let (post, passage) = self.leave(secret, body);
        let way = self.travel(post, secret.to_owned(), serial, passage);
        let answer = tokio::time::timeout(request.timeout, way).await.unwrap_or(Err(Reached::Perhaps));
        let mut record = self.record();
        let post = &mut record.posts[post];
        post.ended = Some(self.clock.millis());
        post.answer = answer.as_ref().map_or(0, |reply| reply.status.as_u16());
        answer.map_err(|reached| Lost { reached, reason: "no answer".to_owned() })
    }

    async fn travel(
        self: &Arc<Self>,
        post: usize,
        secret: String,
        serial: u32,
        passage: Passage,
    ) -> Result<Reply, Reached> {
        let Some(there) = passage.there else {
            tokio::time::sleep(passage.back.unwrap_or(Duration::MAX)).await;
            return Err(if passage.weather == Weather::Refused { Reached::No } else { Reached::Perhaps });
        };
        let due = self.clock.millis() + there.as_millis() as Millis;
        let mut under_way = UnderWay { signl4: self, post: Some((due, post, secret, serial)) };
        tokio::time::sleep(there).await;
        let Some((_, post, secret, serial)) = under_way.post.take() else { unreachable!("it was just put") };
        let reply = self.arrive(post, &secret, serial, self.clock.millis(), passage.weather);
        let Some(back) = passage.back else { return std::future::pending().await };
        tokio::time::sleep(back).await;
        let status = reply.status.try_into().expect("it is a status");
        let header = |(name, value): (&'static str, String)| {
            (HeaderName::from_static(name), value.try_into().expect("it is a header's"))
        };
        Ok(Reply { status, headers: reply.headers.into_iter().map(header).collect(), body: reply.body })
    }
}

/// The way there, which each life of the gateway takes.
pub(super) struct Way(pub(super) Arc<Signl4>);

impl Transport for Way {
    fn carry(&self, request: Request) -> Carried {
        Box::pin(Arc::clone(&self.0).pass(request))
    }
}

/// A request that may arrive though whoever sent it is gone.
struct UnderWay<'a> {
    signl4: &'a Signl4,
    post: Option<(Millis, usize, String, u32)>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(post) = self.post.take() {
            let mut state = self.signl4.state();
            if state.rng.bool() {
                state.late.push(post);
            }
        }
    }
}

fn note(post: &mut Post, reply: &Said, at: Millis) {
    (post.arrived, post.verdict, post.blocked) = (Some(at), reply.verdict, reply.blocked);
}

/// The number of the event in a body; with the mark of one that is refused, or 0 for what is none.
fn marked_serial(body: &Value) -> u32 {
    let (serial, marked) = body["Title"].as_str().and_then(read_title).unwrap_or_default();
    serial * 2 + u32::from(marked)
}

impl State {
    /// What happens to a request that was made so many times before: always the same, whatever else is under way.
    fn passage(&self, now: Millis, of: &Of, times: usize) -> Passage {
        let weather = if now < self.weather_until { self.weather } else { Weather::Fine };
        let mut hasher = DefaultHasher::new();
        (self.seed, of, times).hash(&mut hasher);
        let rng = &mut Rng::with_seed(hasher.finish());
        let slow = rng.u8(0..20) == 0;
        let there = Duration::from_millis(if slow { rng.u64(1..WAY) } else { rng.u64(1..60) });
        let back = Duration::from_millis(if slow { rng.u64(1..4_000) } else { rng.u64(1..250) });
        let (mut there, mut back) = (Some(there), Some(back));
        if self.steady {
            (there, back) = (Some(Duration::from_millis(1)), Some(Duration::from_millis(1)));
        }
        match weather {
            Weather::Refused => {
                let wait = if rng.bool() { 5 } else { 4_000 };
                (there, back) = (None, Some(Duration::from_millis(wait)));
            }
            Weather::Silent if rng.bool() => (there, back) = (None, None),
            Weather::Silent => back = None,
            Weather::Lossy if rng.u8(0..3) == 0 => back = None,
            Weather::Lossy if rng.u8(0..6) == 0 => (there, back) = (None, Some(Duration::from_millis(30))),
            _ => {}
        }
        Passage { there, back, weather }
    }

    /// What is said to a request that arrives at `now`.
    fn judge(&mut self, secret: &str, serial: u32, now: Timestamp, weather: Weather) -> Said {
        let known = self.secrets[secret];
        let (number, marked) = (serial / 2, serial % 2 == 1);
        let weather = match weather {
            Weather::Flaky if self.rng.u8(0..3) == 0 => Weather::Errors(500),
            Weather::Firewall if number % 5 == 1 => Weather::Errors(403),
            weather => weather,
        };
        let fails = match weather {
            Weather::Errors(status @ (502 | 504)) => Some(status).filter(|_| self.rng.bool()),
            Weather::Errors(status) => Some(status),
            Weather::Throttled(_) => Some(429),
            _ => None,
        };
        let quota = self.quotas[known.account].as_mut();
        // What meets an error is not looked at.
        let wrong = fails.map_or(!known.valid || marked, |status| status == 403);
        let ruling = quota.map(|quota| if wrong { quota.take_wrong(now) } else { quota.take(now) });
        let blocked = ruling.is_some_and(|ruling| !ruling.allowed);
        let own = match (blocked, known.valid, marked) {
            (true, ..) => 429,
            (false, false, _) => 404,
            (false, true, true) => 400,
            (false, true, false) => 201,
        };
        let verdict = if fails.is_some() && !blocked { 0 } else { own };
        let status = match (weather, fails) {
            (Weather::Errors(proxy @ (502 | 504)), _) => proxy,
            (_, Some(status)) if !blocked => status,
            _ => own,
        };
        let mut headers = ruling.map_or_else(Vec::new, rate_headers);
        match weather {
            Weather::Throttled(true) => {
                headers.retain(|(name, _)| *name != "x-ratelimit-reset");
                headers.push(("x-ratelimit-reset", (now.as_second() + self.rng.i64(5..120)).to_string()));
            }
            Weather::Throttled(false) => headers.clear(),
            Weather::Errors(503) if self.rng.bool() => headers.push(("retry-after", "20".to_owned())),
            _ => {}
        }
        let body =
            if status == 201 { format!(r#"{{"eventId":"e{}"}}"#, self.rng.u32(..)) } else { String::new() };
        // A proxy that lost the answer: the event is there all the same.
        Said { status, verdict, blocked, headers, body }
    }
}

fn rate_headers(ruling: Ruling) -> Vec<(&'static str, String)> {
    let second = (ruling.reset + SignedDuration::from_nanos(999_999_999)).as_second();
    vec![
        ("x-ratelimit-limit", ruling.limit.to_string()),
        ("x-ratelimit-remaining", ruling.remaining.to_string()),
        ("x-ratelimit-reset", second.to_string()),
    ]
}
