//! A random history in its world: what its steps do to the gateway and to what is around it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use smtp2signl4::config::{Config, Environment};
use smtp2signl4::delivery::Target;
use smtp2signl4::gateway::targets;
use smtp2signl4::incident;
use smtp2signl4::rules::RuleSet;
use smtp2signl4::spool::{Filter, IncidentFilter, KnownIncident, Listed, Reader, State};
use smtp2signl4::standin::Plan;
use smtp2signl4::words::Words;

use super::history::{Account, Aims, Deed, History, Site, Step};
use super::signl4::Secret;
use super::site::{self, ACCOUNTS, mail, rules, secret_of, windows};
use super::time::still;
use super::world::{Gateway, Setup, World};
use crate::letter::{Letter, TEAMS, read_key, read_title, repeat};
use crate::record::{Aim, Bounds, Event, Line, Look, Millis, Policy, Record, Rules, Storm};

/// How long an event may be on its way from its commit to where it can be posted, on a disk that takes its time.
const SLACK: Millis = 1_500;

/// The quiet time of the rules at the start of each life.
const QUIET: Millis = 300_000;

/// More than there ever are.
const ALL: usize = 1_000_000;

/// A history while it is lived through.
struct Scene {
    world: World,
    account: Account,
    serials: Mutex<u32>,
}

/// Why a life ended.
enum End {
    /// It was killed, and starts again so much later.
    Killed(Millis, Site),
    /// It was stopped in order.
    Stopped(Millis, Site),
    /// The history is over.
    Over,
}

/// A life of the gateway.
struct Running<'a> {
    scene: &'a Arc<Scene>,
    site: Site,
    gateway: &'a Gateway,
}

/// Runs a history to its end, and tells what is known of it.
pub(super) fn run(history: &History) -> Record {
    let scene = Arc::new(Scene::new(history));
    let mut steps = history.steps.iter();
    let mut site = history.site.clone();
    loop {
        let setup = scene.setup(&site);
        let end = scene.world.life(setup, async |gateway| {
            let running = Running { scene: &scene, site: site.clone(), gateway };
            let end = running.live(&mut steps).await;
            let killed = matches!(end, End::Killed(..));
            (end, killed)
        });
        match end {
            End::Killed(down, next) | End::Stopped(down, next) => {
                scene.world.clock.skip(down);
                site = next;
            }
            End::Over => break,
        }
    }
    let mut record = std::mem::take(&mut *scene.world.record());
    record.settle();
    record
}

impl Scene {
    fn new(history: &History) -> Self {
        let (windows, bounds) = (windows(history.account), Bounds { slack: SLACK, leeway: 0 });
        let record = Record { windows, bounds, ..Record::default() };
        let mut secrets = HashMap::new();
        for (team, accounts) in ACCOUNTS.iter().enumerate() {
            for (which, &account) in accounts.iter().enumerate() {
                secrets.insert(secret_of(team, which), Secret { team, account, valid: true });
            }
        }
        let plan = if history.account.commercial { Plan::Commercial } else { Plan::Free };
        let world = World::new(history.seed, &plan, secrets, record);
        Self { world, account: history.account, serials: Mutex::new(0) }
    }

    fn setup(&self, site: &Site) -> Setup {
        let config = self.config(site);
        let allowance = config.delivery.plan.burst();
        let allowance = allowance.map(|burst| u32::try_from(burst).expect("no plan has more"));
        Setup {
            targets: self.targets(&config, site.aims),
            rules: self.rules(&config, QUIET),
            config,
            allowance,
        }
    }

    fn config(&self, site: &Site) -> Config {
        self.world.config(site::config(site, self.account))
    }

    fn targets(&self, config: &Config, aims: Aims) -> Vec<Target> {
        let secrets = TEAMS.iter().enumerate().map(|(team, name)| {
            let variable = format!("SIGNL4_TEAM_SECRET_{}", name.to_uppercase());
            (variable, secret_of(team, aims.0[team].unwrap_or(0)))
        });
        let all = targets(config, &Environment::of(secrets)).into_iter().zip(aims.0);
        let accounts = (0..TEAMS.len()).map(|team| Some(ACCOUNTS[team][aims.0[team]?])).collect();
        self.world.record().aims.push(Aim { at: self.world.millis(), accounts });
        all.filter_map(|(target, aim)| aim.map(|_| target)).collect()
    }

    /// Rules that nobody had before, in force from now on.
    fn rules(&self, config: &Config, quiet: Millis) -> Arc<RuleSet> {
        let (now, mut record) = (self.world.millis(), self.world.record());
        let generation = record.rules.len() as u32;
        record.rules.push(Rules { generation, quiet, written: now, loaded: now });
        rules(config, generation, quiet)
    }

    /// The events of `letter`, as their sender begins to hand it in.
    fn write(&self, letter: &Letter, site: &Site) -> u32 {
        let serial = {
            let mut serials = self.serials.lock().expect("no holder of this lock can panic");
            *serials += 1;
            *serials
        };
        let (repeat, ruled) = repeat(letter.incident);
        let least = if self.account.commercial && self.account.told { 300 } else { 20 };
        let most = if self.account.commercial { 300 } else { 20 };
        let policy = Policy {
            repeat,
            quiet: (!ruled).then_some(site.quiet),
            acknowledged_quiet: site.acknowledged_quiet,
            hold: site.hold,
            storm: site.storm.map(|(_, calm)| Storm { least, most, calm }),
        };
        let begun = self.world.millis();
        for &team in &letter.teams {
            self.world.record().events.push(Event {
                serial,
                team,
                incident: letter.incident,
                status: letter.status,
                severity: letter.severity,
                source: letter.source,
                begun,
                refused: false,
                kept: None,
                policy,
            });
        }
        serial
    }

    fn keep(&self, serial: u32, at: Millis) {
        let mut record = self.world.record();
        // It is one of the last.
        let last = record.events.iter_mut().rev().take_while(|event| event.serial + 100 > serial);
        last.filter(|event| event.serial == serial).for_each(|event| event.kept = Some(at));
    }
}

impl Running<'_> {
    async fn live(&self, steps: &mut std::slice::Iter<'_, Step>) -> End {
        for step in steps {
            tokio::time::sleep(millis(step.after)).await;
            if let Some(end) = self.act(&step.deed).await {
                return end;
            }
        }
        let all = Aims([Some(0); 3]);
        if self.site.aims != all {
            return self.aim(all);
        }
        self.scene.world.calm();
        self.gateway.calm_down(&self.scene.world).await;
        self.look().await;
        self.learn_incidents().await;
        End::Over
    }

    async fn act(&self, deed: &Deed) -> Option<End> {
        let (world, now) = (&self.scene.world, self.scene.world.millis());
        match deed {
            Deed::Mail(letter) => self.putting(letter).await,
            Deed::Crowd(letters) => {
                let mut puts = tokio::task::JoinSet::new();
                for letter in letters {
                    puts.spawn(self.putting(letter));
                }
                puts.join_all().await;
            }
            Deed::Weather(weather, spell) => world.signl4.turn(*weather, now + spell),
            Deed::Secret { team, valid } => world.signl4.set_valid(*team, *valid),
            Deed::Disk(spell) => world.fail_disk(*spell),
            Deed::Rules { quiet } => {
                let rules = self.scene.rules(&self.scene.config(&self.site), *quiet);
                self.gateway.intake.context().rules.replace(rules);
            }
            Deed::Aim(aims) => return Some(self.aim(*aims)),
            Deed::Wake => self.gateway.delivery.wake().await,
            Deed::Look => self.look().await,
            Deed::Restart { down, site } => return Some(End::Stopped(*down, site.clone())),
            Deed::Kill { within, down, site } => {
                if let Some((letter, after)) = within {
                    tokio::spawn(self.putting(letter));
                    tokio::time::sleep(Duration::from_millis(*after)).await;
                }
                return Some(End::Killed(*down, site.clone()));
            }
        }
        None
    }

    /// Hands in a mail, which takes a moment before it is kept and one until its sender knows.
    fn putting(&self, letter: &Letter) -> impl Future<Output = ()> + Send + use<> {
        let serial = self.scene.write(letter, &self.site);
        let (scene, intake) = (Arc::clone(self.scene), Arc::clone(&self.gateway.intake));
        let (before, behind) = scene.world.draw(|rng| (rng.u64(0..4), rng.u64(0..4)));
        let letter = letter.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(before)).await;
            let mail = mail(&letter, serial, &scene.world.clock);
            let kept = still(intake.take(mail)).await;
            kept.map(drop).expect("there is room in the spool");
            tokio::time::sleep(Duration::from_millis(behind)).await;
            scene.keep(serial, scene.world.millis());
        }
    }

    /// The service is started again with other targets.
    fn aim(&self, aims: Aims) -> End {
        End::Stopped(0, Site { aims, ..self.site.clone() })
    }

    /// Makes the listings that `queue list` makes, all of the same moment.
    async fn look(&self) {
        let reader =
            Reader::open(&self.scene.world.spool()).expect("the spool can be read beside its service");
        let filter = |states: &[State]| Filter { states: states.to_vec(), limit: ALL, ..Filter::default() };
        let expect = "the spool is well";
        let (all, open, digests, queued) = loop {
            let all = reader.list(filter(&[])).await.expect(expect);
            let open = reader.list(filter(&[State::Queued, State::Failed])).await.expect(expect);
            let counts = reader.counts().await.expect(expect);
            let mut digests = BTreeMap::new();
            for digest in all.iter().filter_map(|line| line.digest).collect::<BTreeSet<_>>() {
                let told = Filter { digest: Some(digest), ..filter(&[]) };
                digests.insert(digest, self.lines(&reader.list(told).await.expect(expect)));
            }
            // Something may be recorded between one question and the next.
            if reader.list(filter(&[])).await.expect(expect) == all {
                break (all, open, digests, counts.iter().map(|count| count.queued).sum());
            }
        };
        let (from, until) = (self.scene.world.millis(), self.scene.world.millis());
        let (all, open, queued) = (Some(self.lines(&all)), Some(self.lines(&open)), Some(queued));
        self.scene.world.record().looks.push(Look { from, until, all, open, digests, queued });
    }

    fn lines(&self, listed: &[Listed]) -> Vec<Line> {
        let millis = |at: Timestamp| self.scene.world.clock.millis_of(at);
        let line = |listed: &Listed| Line {
            serial: read_title(&listed.title).map(|(serial, _)| serial),
            team: TEAMS.iter().position(|team| listed.team.as_deref() == Some(team)).unwrap_or(TEAMS.len()),
            seq: listed.seq,
            state: listed.state.word().to_owned(),
            digest: listed.digest,
            received: millis(listed.received_at),
            settled: listed.settled_at.map(millis),
        };
        listed.iter().map(line).collect()
    }

    /// What the gateway says of incidents when all is over.
    async fn learn_incidents(&self) {
        let filter = IncidentFilter { open: false, team: None, limit: ALL };
        let known = self.gateway.spool.reader().incidents(filter).await.expect("the spool is well");
        let incident = |known: &KnownIncident| {
            let team = TEAMS.iter().position(|team| *team == known.incident.team)?;
            Some(((team, read_key(&known.key)?), known.incident.state == incident::State::Resolved))
        };
        self.scene.world.record().incidents = known.iter().filter_map(incident).collect();
    }
}

fn millis(millis: Millis) -> Duration {
    Duration::from_millis(millis.unsigned_abs())
}
