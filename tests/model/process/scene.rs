//! The gateway under test, and all that is done to it: killed, stopped, given other rules and teams, cut off
//! from a SIGNL4 that fails in every way, and asked what it has.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use smtp2signl4::standin::{Fault, Options, Plan, Standin};

use crate::letter::{self, TEAMS};
use crate::record::Millis;
use crate::support::{Gateway, PATIENCE, Site, free_port};

/// The team that comes and goes with restarts.
pub const VISITOR: &str = TEAMS[2];

/// What a scene is like.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// What the account may post, and what the stand-in enforces: so many in so many seconds.
    pub windows: [(usize, i64); 2],
    /// So many pages in a minute are no storm yet, and how many seconds it must be quiet for a storm to be over; none if
    /// nothing is folded.
    pub storm: Option<(usize, i64)>,
}

/// The quiet time of an incident whose rules say none.
pub const QUIET: Millis = 600_000;

/// Posts at the same time for one team.
pub const CONCURRENCY: usize = 2;

/// How often a secret that is refused is tried anew. SIGNL4 bears ten wrong requests a minute, and how many there were is
/// not known after a kill.
const REFUSALS: u8 = 3;

/// The least quiet time of an incident that is acknowledged.
pub const ACKNOWLEDGED_QUIET: Millis = 3_000;

/// The quiet time by the rules of `generation`.
pub fn quiet(generation: u32) -> Millis {
    1_000 + Millis::from(generation % 2) * 1_000
}

/// A span of time in which something was so.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// What the gateway had, as it said itself.
pub struct Listing {
    pub asked: Span,
    /// All that it has, or only what an operator sees who does not ask for more: what waits and what failed.
    pub whole: bool,
    pub events: Vec<Value>,
}

/// A run of the gateway.
pub struct Run {
    /// From its start until its process had ended.
    pub span: Span,
    /// When it was killed, or was told to stop.
    pub ended_at: Timestamp,
    pub killed: bool,
    /// Whether the visiting team was in its config.
    pub visited: bool,
    pub log: Vec<Value>,
}

/// Whether the visitor's secret is refused, which it is once in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    NotYet,
    /// And so often it was tried anew.
    Now(u8),
    NoLonger,
}

/// The gateway, and what happened to it.
pub struct Scene {
    pub standin: Standin,
    pub address: SocketAddr,
    pub rng: Rng,
    pub terms: Terms,
    pub listings: Vec<Listing>,
    pub runs: Vec<Run>,
    /// When SIGNL4 failed.
    pub faults: Vec<Span>,
    /// When it said 429 because it was told to.
    pub throttled: Vec<Span>,
    /// When a secret was refused.
    pub refusals: Vec<Span>,
    /// The rules that were put in force: when they were written, and when they were in force for sure.
    pub reloads: Vec<(u32, Span)>,
    site: Site,
    gateway: Option<(Gateway, Timestamp, bool)>,
    /// Whether the visiting team is in the config.
    visits: bool,
    generation: u32,
    fault: Option<(Timestamp, bool)>,
    refused: Refused,
}

impl Scene {
    /// A gateway that runs.
    pub async fn start(terms: Terms, rng: Rng) -> Self {
        let plan = terms.windows.map(|(limit, seconds)| (limit as u64, SignedDuration::from_secs(seconds)));
        let secrets = TEAMS.map(secret).to_vec();
        let options = Options { plan: Plan::Windows(plan.to_vec()), secrets, ..Options::default() };
        let standin = Standin::start(options).await.unwrap();
        let mut site = Site::new(&standin);
        let address: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        // Senders find the next gateway where the last one was.
        site.set("smtp", "listen", format!("['{address}']"));
        site.unset("signl4", "secret-file");
        let windows = terms.windows.map(|(limit, seconds)| format!("{seconds}s = {limit}")).join(", ");
        site.set("signl4", "plan", format!("{{ {windows} }}"));
        site.set("delivery", "concurrency", CONCURRENCY.to_string());
        site.set("delivery", "timeout", "'2s'");
        site.set("delivery", "fallback-after", "'1s'");
        site.set("delivery", "drain", "'1s'");
        site.set("incidents", "acknowledged-quiet", format!("'{}s'", ACKNOWLEDGED_QUIET / 1_000));
        // It then tells of each post that was made in vain.
        site.set("log", "level", "'debug'");
        site.set("incidents", "quiet", format!("'{}s'", QUIET / 1_000));
        let storm = terms.storm.map_or("false".to_owned(), |(after, seconds)| {
            format!("{{ after = {after}, interval = '{seconds}s', calm = '{seconds}s' }}")
        });
        site.set("incidents", "storm", storm);
        site.set("rules", "shipped", "false");
        site.set("rules", "paths", "['rules.toml']");
        for team in TEAMS {
            std::fs::write(site.path(team), secret(team)).unwrap();
        }
        let mut scene = Self {
            standin,
            address,
            rng,
            terms,
            listings: Vec::new(),
            runs: Vec::new(),
            faults: Vec::new(),
            throttled: Vec::new(),
            refusals: Vec::new(),
            reloads: Vec::new(),
            site,
            gateway: None,
            visits: true,
            generation: 0,
            fault: None,
            refused: Refused::NotYet,
        };
        let asks = scene.rng.bool();
        scene.site.set("signl4", "probe", asks.to_string());
        scene.configure(true);
        scene.start_gateway();
        scene
    }

    /// Does something to the gateway or to its SIGNL4, whatever chance says.
    pub async fn act(&mut self) {
        match self.rng.u8(0..20) {
            0..4 => {
                let pause = self.rng.u64(0..400) * u64::from(self.rng.bool());
                self.restart(true, Duration::from_millis(pause));
            }
            4 => self.restart(false, Duration::ZERO),
            5..9 => self.list(),
            9..11 => self.reload(),
            11 => self.reload_nonsense(),
            12 if self.refused == Refused::NotYet => self.refuse_secret(),
            13 => self.fail_some(),
            14 => self.retry(),
            _ if self.fault.is_some() => self.end_fault().await,
            _ => self.begin_fault().await,
        }
    }

    /// Kills the gateway, or stops it as systemd does, and starts the next. The visiting team may come or go.
    pub fn restart(&mut self, kill: bool, pause: Duration) {
        self.end_gateway(kill);
        if self.rng.u8(0..3) == 0 {
            // What is on disk must be readable though nobody tidied up.
            self.list();
        }
        if self.rng.u8(0..6) == 0 {
            // The same to an operator, who then opens the spool himself.
            self.retry();
        }
        // A supervisor takes its time.
        std::thread::sleep(pause);
        self.configure_anyhow();
        self.start_gateway();
    }

    /// Kills the gateway and starts the next at once.
    pub fn kill(&mut self) {
        self.end_gateway(true);
        self.start_gateway();
    }

    fn end_gateway(&mut self, kill: bool) {
        let (gateway, from, visited) = self.gateway.take().expect("it runs");
        let ended_at = Timestamp::now();
        let log = if kill { gateway.kill() } else { gateway.stop() };
        let span = Span { from, until: Timestamp::now() };
        let log = log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        self.runs.push(Run { span, ended_at, killed: kill, visited, log });
    }

    /// The secrets are tried anew: this often, and the visitor's is right again.
    fn try_secret(&mut self) {
        if let Refused::Now(times) = &mut self.refused {
            *times += 1;
            if *times == REFUSALS {
                self.accept_secret();
            }
        }
    }

    fn accept_secret(&mut self) {
        if matches!(self.refused, Refused::Now(_)) {
            self.standin.set_secrets(TEAMS.map(secret).to_vec());
            self.refusals.last_mut().expect("it is refused").until = Timestamp::now();
        }
        self.refused = Refused::NoLonger;
    }

    fn start_gateway(&mut self) {
        self.try_secret();
        let from = Timestamp::now();
        self.gateway = Some((self.site.start(), from, self.visits));
        if let Some((_, span)) = self.reloads.last_mut() {
            span.until = span.until.min(Timestamp::now());
        }
    }

    /// Writes a config with the visiting team or without it.
    fn configure_anyhow(&mut self) {
        let visitor = self.rng.u8(0..3) > 0;
        self.configure(visitor);
    }

    /// Writes the config with the teams, and rules of a new generation.
    fn configure(&mut self, visitor: bool) {
        let mut teams = String::new();
        for team in TEAMS.into_iter().filter(|&team| visitor || team != VISITOR) {
            teams.push_str(&format!(
                "[[team]]\nname = '{team}'\nsecret-file = '{team}'\nrecipients = ['{team}@*']\n"
            ));
            if team == VISITOR {
                teams.push_str("fallback = 'soc'\n");
            }
        }
        self.visits = visitor;
        self.site.replace_appendix(&teams);
        self.write_rules();
    }

    /// Rules that say of themselves which they are.
    fn write_rules(&mut self) {
        self.generation += 1;
        let (generation, rules) = (self.generation, letter::rules(self.generation, quiet(self.generation)));
        let from = Timestamp::now();
        std::fs::write(self.site.path("rules.toml"), rules).unwrap();
        self.reloads.push((generation, Span { from, until: Timestamp::MAX }));
    }

    /// Puts other rules in force, and perhaps other teams.
    fn reload(&mut self) {
        self.configure_anyhow();
        self.hang_up("new rules, maintenance windows, notices and checks of senders are in force");
        let (_, span) = self.reloads.last_mut().expect("it was just written");
        span.until = Timestamp::now();
    }

    /// Wants rules in force that are none.
    fn reload_nonsense(&mut self) {
        let path = self.site.path("rules.toml");
        let rules = std::fs::read(&path).unwrap();
        std::fs::write(&path, "version = 1\n[[rule]]\nwhen = { subject = '(' }\n").unwrap();
        self.hang_up("the last good rules stay in force");
        std::fs::write(&path, rules).unwrap();
    }

    /// Sends SIGHUP and waits for one more line with `answer`.
    fn hang_up(&self, answer: &str) {
        let (gateway, ..) = self.gateway.as_ref().expect("it runs");
        let count = |lines: Vec<String>| lines.iter().filter(|line| line.contains(answer)).count();
        let (before, seen) = (count(gateway.process().lines()), Cell::new(0));
        gateway.signal("HUP");
        gateway.process().wait_for(answer, |line| {
            seen.set(seen.get() + usize::from(line.contains(answer)));
            (seen.get() > before).then_some(())
        });
    }

    /// Asks the gateway what it has, whether it runs or not: as an operator first does, or for everything.
    pub fn list(&mut self) {
        for whole in [false, true] {
            let mut arguments = vec!["queue", "list", "--json", "--limit", "1000000"];
            if whole {
                arguments.extend(["--state", "all"]);
            }
            let from = Timestamp::now();
            let events = self.ask(&arguments);
            let asked = Span { from, until: Timestamp::now() };
            self.listings.push(Listing { asked, whole, events });
        }
    }

    /// Has what was deferred tried at once, as an operator does who cannot wait.
    fn retry(&mut self) {
        self.try_secret();
        self.ask(&["queue", "retry", "--all"]);
    }

    /// What a command prints, a JSON object a line.
    pub fn ask(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.site.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        let objects = printed.lines().filter(|line| line.starts_with('{'));
        objects.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Makes the stand-in fail from now on, in any of the ways that it can.
    pub async fn begin_fault(&mut self) {
        if self.fault.is_some() {
            return;
        }
        let now = Timestamp::now();
        let mut throttles = false;
        match self.rng.u8(0..9) {
            0 => self.standin.refuse().await.unwrap(),
            way => {
                let reset = now.as_second() + 2;
                throttles = way == 1;
                self.standin.fail(Some(match way {
                    1 => Fault::Reply {
                        status: 429,
                        headers: vec![("X-RateLimit-Reset".to_owned(), reset.to_string())],
                        body: String::new(),
                    },
                    2 => Fault::Hang,
                    3 => Fault::Close,
                    4 => Fault::TakeAndClose,
                    5 => Fault::TakeAndHang,
                    6 => Fault::Delay(Duration::from_millis(self.rng.u64(20..500))),
                    7 => Fault::Status(502),
                    _ => Fault::Status(500),
                }));
            }
        }
        self.fault = Some((now, throttles));
    }

    /// Makes nobody reach the stand-in from now on.
    pub async fn refuse(&mut self) {
        self.end_fault().await;
        self.fault = Some((Timestamp::now(), false));
        self.standin.refuse().await.unwrap();
    }

    /// Makes the stand-in work again.
    pub async fn end_fault(&mut self) {
        self.standin.fail(None);
        self.standin.listen().await.unwrap();
        if let Some((from, throttles)) = self.fault.take() {
            let span = Span { from, until: Timestamp::now() };
            self.faults.push(span);
            self.throttled.extend(throttles.then_some(span));
        }
    }

    /// Makes the stand-in fail a few times.
    fn fail_some(&mut self) {
        let ways = [Fault::TakeAndClose, Fault::Close, Fault::Status(503), Fault::TakeAndHang];
        let times = self.rng.usize(1..4);
        let faults: Vec<_> = (0..times).map(|_| ways[self.rng.usize(0..ways.len())].clone()).collect();
        self.standin.script(faults);
    }

    /// Makes the stand-in refuse the visitor's secret, for a few tries: its events go by its fallback.
    fn refuse_secret(&mut self) {
        self.refused = Refused::Now(0);
        self.refusals.push(Span { from: Timestamp::now(), until: Timestamp::MAX });
        self.standin
            .set_secrets(TEAMS.iter().filter(|&&team| team != VISITOR).map(|&team| secret(team)).collect());
    }

    /// Ends all that fails, and starts the gateway a last time with all of its teams.
    pub async fn drain(&mut self) {
        self.end_fault().await;
        self.accept_secret();
        // What was deferred goes at once then.
        self.end_gateway(true);
        self.configure(true);
        self.start_gateway();
        self.finish().await;
    }

    /// Waits until the gateway has nothing left to do. Then it is stopped and asked for everything.
    pub async fn finish(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let waiting = self.ask(&["queue", "list", "--json"]);
            if waiting.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "it does not drain: {waiting:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.end_gateway(false);
        self.list();
    }

    /// The incidents that the gateway knows, by team and external id.
    pub fn incidents(&self) -> BTreeMap<(String, String), Value> {
        let found = self.ask(&["queue", "incidents", "--json", "--limit", "1000000"]);
        let text = |incident: &Value, key: &str| incident[key].as_str().unwrap().to_owned();
        found
            .into_iter()
            .map(|incident| ((text(&incident, "team"), text(&incident, "external-id")), incident))
            .collect()
    }
}

fn secret(team: &str) -> String {
    format!("secret-of-{team}")
}
