//! The loop that carries out what the schedulers decide: it posts, reads and records in tasks of their
//! own, brings the answers back and writes the log. It waits for nothing but the next thing to happen.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::multipart;
use super::scheduler::{Action, Limits, Notice, State, Team, Verdict};
use super::webhook::{Answer, Connection, Endpoint, SetupError, Webhook};
use super::{Backlog, BacklogError, Config, Message, Status, Target};
use crate::clock::Clock;
use crate::spool::{Outcome, Queued};

/// Events in memory per team: enough that reading keeps ahead of posting, some megabytes.
const WINDOW: usize = 20_000;

/// Events of one external id in memory: a storm of one incident takes a twentieth of the room.
const LANE: usize = 1_000;

/// Events read from the spool at once.
const PAGE: usize = 256;

/// Bytes of payloads in memory per team.
const PAYLOAD_BYTES: usize = 8 << 20;

/// Messages taken from the channel at once.
const BATCH: usize = 256;

/// Ends that are not recorded because the spool cannot write, above which nothing more is posted: so many
/// at most would go out twice after a crash.
const UNRECORDED: usize = 1_000;

/// The wait after a record that failed.
const RECORD_RETRY: Duration = Duration::from_secs(1);

/// How often the queue is read again for what came in without a word, such as from another process.
const SWEEP: Duration = Duration::from_secs(30);

/// How often the log repeats that the spool cannot be read or written.
const TROUBLE_INTERVAL: SignedDuration = SignedDuration::from_secs(60);

/// Ends that can still be told to one who waits.
const REMEMBERED: usize = 1_024;

/// What the loop is started with.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) connection: Connection,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) seed: u64,
    pub(super) missed: Arc<AtomicU64>,
}

/// A team, where its events go and what it has to do.
struct Entry {
    name: Arc<str>,
    /// None once the config no longer names the team.
    target: Option<Target>,
    /// The target with the secret as it was last read.
    endpoint: Option<Arc<Endpoint>>,
    /// Grows with each new target, so that a post to the one before cannot bring its endpoint back.
    aim: u32,
    team: Team,
}

/// The index of an [`Entry`]; entries are never removed.
type Index = usize;

/// What a task was started for, to be told when it panics.
enum Ticket {
    Post(Index, u64),
    Page(Index),
    Record,
}

/// What a task has brought back.
enum Done {
    Posted(Index, u64, Answer, Option<(u32, Arc<Endpoint>)>),
    Paged(Index, Result<Vec<Queued>, BacklogError>),
    Recorded(Result<(), BacklogError>),
}

/// The loop and all that it holds.
pub(super) struct Dispatch<B> {
    setup: Setup,
    backlog: Arc<B>,
    webhook: Webhook,
    rng: Rng,
    entries: Vec<Entry>,
    names: BTreeMap<Arc<str>, Index>,
    /// Teams that have events in the spool and no target, and how many.
    unknown: BTreeMap<String, u64>,
    tasks: JoinSet<Done>,
    tickets: HashMap<task::Id, Ticket>,
    /// Outcomes to be recorded, the last of each event.
    unrecorded: BTreeMap<u64, (Index, Outcome)>,
    /// Those that are being recorded.
    recording: Vec<(Index, Outcome)>,
    record_not_before: Option<Instant>,
    waiters: HashMap<u64, Vec<oneshot::Sender<Outcome>>>,
    ends: VecDeque<Outcome>,
    last_trouble: Timestamp,
    stopping: bool,
}

impl<B: Backlog> Dispatch<B> {
    pub(super) fn new(setup: Setup, targets: Vec<Target>, backlog: B) -> Result<Self, SetupError> {
        let webhook = webhook(&setup, &targets)?;
        let mut dispatch = Self {
            backlog: Arc::new(backlog),
            webhook,
            rng: Rng::with_seed(setup.seed),
            entries: Vec::new(),
            names: BTreeMap::new(),
            unknown: BTreeMap::new(),
            tasks: JoinSet::new(),
            tickets: HashMap::new(),
            unrecorded: BTreeMap::new(),
            recording: Vec::new(),
            record_not_before: None,
            waiters: HashMap::new(),
            ends: VecDeque::new(),
            last_trouble: Timestamp::MIN,
            stopping: false,
            setup,
        };
        dispatch.aim(targets);
        Ok(dispatch)
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>, mut stop: watch::Receiver<bool>) {
        self.look_for_unknown().await;
        let mut messages = Vec::with_capacity(BATCH);
        let mut sweep_at = Instant::now() + SWEEP;
        let mut deadline = None;
        let mut open = true;
        loop {
            if !self.stopping && *stop.borrow() {
                self.stopping = true;
                deadline = Some(Instant::now() + self.setup.config.drain);
            }
            self.drive();
            if self.stopping && self.is_drained() {
                break;
            }
            let wake_at = self.wake_at().min(sweep_at).min(deadline.unwrap_or(sweep_at));
            tokio::select! {
                count = inbox.recv_many(&mut messages, BATCH), if open => {
                    open = count > 0;
                    self.catch_up();
                    for message in messages.drain(..) {
                        self.hear(message);
                    }
                }
                Some(done) = self.tasks.join_next_with_id() => self.finish(done),
                // An error is the end of whoever could have stopped us: the same.
                stopped = stop.wait_for(|&stop| stop), if !self.stopping => {
                    drop(stopped);
                    self.stopping = true;
                    deadline = Some(Instant::now() + self.setup.config.drain);
                }
                () = tokio::time::sleep_until(wake_at) => self.catch_up(),
            }
            let now = Instant::now();
            if now >= sweep_at {
                sweep_at = now + SWEEP;
                self.entries.iter_mut().for_each(|entry| entry.team.sweep());
                self.waiters.retain(|_, waiters| {
                    waiters.retain(|waiter| !waiter.is_closed());
                    !waiters.is_empty()
                });
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                break self.give_in();
            }
        }
    }

    /// Makes the teams do what they have to do now, and records what is to be recorded.
    fn drive(&mut self) {
        let now = self.setup.clock.now();
        let may_post = !self.stopping && self.unrecorded.len() < UNRECORDED;
        for index in 0..self.entries.len() {
            let may_post = may_post && self.entries[index].target.is_some();
            while !self.stopping
                && let Some(action) = self.entries[index].team.next(now, may_post)
            {
                self.start(index, action);
            }
        }
        self.record();
    }

    fn start(&mut self, index: Index, action: Action) {
        let entry = &self.entries[index];
        let (handle, ticket) = match action {
            Action::Page { after, limit } => {
                let (backlog, name) = (Arc::clone(&self.backlog), Arc::clone(&entry.name));
                let read = async move { Done::Paged(index, backlog.waiting(&name, after, limit).await) };
                (self.tasks.spawn(read), Ticket::Page(index))
            }
            Action::Post(post) => {
                let (webhook, endpoint) = (self.webhook.clone(), entry.endpoint.clone());
                let (target, aim) = (entry.target.clone(), entry.aim);
                let backlog = Arc::clone(&self.backlog);
                let send = async move {
                    let fresh = match (endpoint, target) {
                        (Some(endpoint), _) if !post.probe => Ok(endpoint),
                        (_, Some(target)) => endpoint_of(target).await,
                        (_, None) => Err("the config no longer names the team".to_owned()),
                    };
                    match fresh {
                        Ok(endpoint) => {
                            let answer = match post.files {
                                None => webhook.post(&endpoint, post.payload).await,
                                Some(files) => {
                                    multipart::post(&webhook, &endpoint, &*backlog, post.payload, &files)
                                        .await
                                }
                            };
                            Done::Posted(index, post.seq, answer, Some((aim, endpoint)))
                        }
                        Err(reason) => Done::Posted(index, post.seq, Answer::Unauthorised { reason }, None),
                    }
                };
                (self.tasks.spawn(send), Ticket::Post(index, post.seq))
            }
        };
        self.tickets.insert(handle.id(), ticket);
    }

    /// Records what has gathered while the last record was written: one commit for many.
    fn record(&mut self) {
        let early = self.record_not_before.is_some_and(|at| Instant::now() < at);
        if !self.recording.is_empty() || self.unrecorded.is_empty() || early {
            return;
        }
        self.recording = std::mem::take(&mut self.unrecorded).into_values().collect();
        let outcomes = self.recording.iter().map(|(_, outcome)| outcome.clone()).collect();
        let backlog = Arc::clone(&self.backlog);
        let handle = self.tasks.spawn(async move { Done::Recorded(backlog.record(outcomes).await) });
        self.tickets.insert(handle.id(), Ticket::Record);
    }

    fn finish(&mut self, done: Result<(task::Id, Done), JoinError>) {
        let now = self.setup.clock.now();
        let done = match done {
            Ok((id, done)) => {
                self.tickets.remove(&id);
                done
            }
            // A panic in a task must not leave its event away for ever.
            Err(failed) => match self.tickets.remove(&failed.id()) {
                Some(Ticket::Post(index, seq)) => {
                    let reason = "the post ended by a fault of our own".to_owned();
                    Done::Posted(index, seq, Answer::Unavailable { reason }, None)
                }
                Some(Ticket::Page(index)) => Done::Paged(index, Err(failed.into())),
                Some(Ticket::Record) => Done::Recorded(Err(failed.into())),
                None => return,
            },
        };
        match done {
            Done::Posted(index, seq, answer, endpoint) => {
                let entry = &mut self.entries[index];
                if let Some((aim, endpoint)) = endpoint
                    && aim == entry.aim
                {
                    entry.endpoint = Some(endpoint);
                }
                let verdict = entry.team.answer(seq, answer, now);
                entry.log(seq, &verdict, now);
                if let Some(outcome) = verdict.outcome {
                    self.unrecorded.insert(seq, (index, outcome));
                }
            }
            Done::Paged(index, Ok(rows)) => {
                for seq in self.entries[index].team.page(rows, now) {
                    debug!(team = &*self.entries[index].name, seq, "no longer queued");
                    // Whoever waits for it learns that there is nothing to wait for.
                    self.waiters.remove(&seq);
                }
            }
            Done::Paged(index, Err(problem)) => {
                self.entries[index].team.page_failed(now);
                self.trouble(now, "cannot read the spool; new mails are tried again from there", &problem);
            }
            Done::Recorded(Ok(())) => {
                self.record_not_before = None;
                for (index, outcome) in std::mem::take(&mut self.recording) {
                    self.recorded(index, outcome, now);
                }
            }
            Done::Recorded(Err(problem)) => {
                self.record_not_before = Some(Instant::now() + RECORD_RETRY);
                for (index, outcome) in std::mem::take(&mut self.recording) {
                    self.unrecorded.entry(seq_of(&outcome)).or_insert((index, outcome));
                }
                self.trouble(
                    now,
                    "cannot record deliveries in the spool; they are kept and tried again",
                    &problem,
                );
            }
        }
    }

    /// An outcome is durable: a final one lets the next of its lane go.
    fn recorded(&mut self, index: Index, outcome: Outcome, now: Timestamp) {
        let seq = seq_of(&outcome);
        if matches!(outcome, Outcome::Deferred { .. }) {
            return;
        }
        self.entries[index].team.recorded(seq, now);
        for waiter in self.waiters.remove(&seq).into_iter().flatten() {
            // One that no longer waits is no loss.
            _ = waiter.send(outcome.clone());
        }
        if self.ends.len() == REMEMBERED {
            self.ends.pop_front();
        }
        self.ends.push_back(outcome);
    }

    fn hear(&mut self, message: Message) {
        let now = self.setup.clock.now();
        match message {
            Message::Offer(queued) => {
                for queued in queued {
                    match self.names.get(queued.team.as_str()) {
                        Some(&index) => self.entries[index].team.offer(queued, now),
                        None => self.unknown(queued.team, 1),
                    }
                }
            }
            Message::Withdraw(withdrawn) => {
                for withdrawn in withdrawn {
                    if let Some(&index) = self.names.get(withdrawn.team.as_str()) {
                        self.entries[index].team.withdraw(withdrawn.seq, now);
                    }
                    // Whoever waits for it learns that there is nothing to wait for.
                    self.waiters.remove(&withdrawn.seq);
                }
            }
            Message::Wake(name) => {
                for entry in &mut self.entries {
                    if name.as_deref().is_none_or(|name| *name == *entry.name) {
                        entry.team.wake(now);
                    }
                }
            }
            Message::Wait(seq, tell) => match self.ends.iter().find(|end| seq_of(end) == seq) {
                Some(end) => _ = tell.send(end.clone()),
                None => self.waiters.entry(seq).or_default().push(tell),
            },
            Message::Status(tell) => _ = tell.send(self.status()),
            Message::Retarget(targets, tell) => {
                let made = webhook(&self.setup, &targets).map(|webhook| {
                    self.webhook = webhook;
                    self.aim(targets);
                });
                _ = tell.send(made);
            }
        }
    }

    /// Reads what was offered while the channel was full. Called before anything newer is heard.
    fn catch_up(&mut self) {
        let after = self.setup.missed.swap(u64::MAX, Ordering::SeqCst);
        if after != u64::MAX {
            self.entries.iter_mut().for_each(|entry| entry.team.read_again_from(after));
        }
    }

    /// Points the teams at `targets`.
    fn aim(&mut self, targets: Vec<Target>) {
        let now = self.setup.clock.now();
        for entry in &mut self.entries {
            entry.target = None;
        }
        for target in targets {
            let name: Arc<str> = Arc::from(target.team.as_str());
            self.unknown.remove(&*name);
            if let Some(&index) = self.names.get(&name) {
                let entry = &mut self.entries[index];
                entry.target = Some(target);
                // The next post asks for the secret.
                entry.endpoint = None;
                entry.aim += 1;
                entry.team.wake(now);
                continue;
            }
            let config = &self.setup.config;
            let limits = Limits {
                concurrency: config.concurrency,
                give_up_after: SignedDuration::try_from(config.give_up_after).unwrap_or(SignedDuration::MAX),
                window: WINDOW,
                lane: LANE,
                page: PAGE,
                payload_bytes: PAYLOAD_BYTES,
            };
            let team = Team::new(limits, self.rng.fork(), now);
            self.names.insert(Arc::clone(&name), self.entries.len());
            self.entries.push(Entry { name, target: Some(target), endpoint: None, aim: 0, team });
        }
        for entry in self.entries.iter().filter(|entry| entry.target.is_none()) {
            let team = &*entry.name;
            warn!(team, "the config no longer names this team: what it has queued is kept and not sent");
        }
    }

    /// Tells which teams have events in the spool and nowhere to send them.
    async fn look_for_unknown(&mut self) {
        match self.backlog.teams().await {
            Ok(teams) => {
                for (name, count) in teams {
                    if !self.names.contains_key(name.as_str()) {
                        self.unknown(name, count);
                    }
                }
            }
            Err(problem) => {
                let now = self.setup.clock.now();
                self.trouble(now, "cannot read which teams have events in the spool", &problem);
            }
        }
    }

    fn unknown(&mut self, team: String, count: u64) {
        if !self.unknown.contains_key(&team) {
            error!(
                team,
                events = count,
                "the spool holds events for a team that the config does not name: they are kept and not \
                 sent until it does"
            );
        }
        *self.unknown.entry(team).or_default() += count;
    }

    fn status(&self) -> Vec<Status> {
        let known = self.names.values().map(|&index| {
            let Entry { name, target, team, .. } = &self.entries[index];
            let (queued, more, oldest) = team.waiting();
            Status {
                team: name.to_string(),
                state: if target.is_some() { team.state() } else { State::Unknown },
                reason: team.reason().to_owned(),
                queued,
                more,
                in_flight: team.in_flight(),
                oldest,
            }
        });
        let unknown = self.unknown.iter().map(|(name, &count)| Status {
            team: name.clone(),
            state: State::Unknown,
            reason: "the config does not name this team".to_owned(),
            queued: usize::try_from(count).unwrap_or(usize::MAX),
            more: false,
            in_flight: 0,
            oldest: None,
        });
        let mut all: Vec<Status> = known.chain(unknown).collect();
        all.sort_by(|a, b| a.team.cmp(&b.team));
        all
    }

    /// When to look again if nothing happens.
    fn wake_at(&self) -> Instant {
        let now = self.setup.clock.now();
        let instant = Instant::now();
        let next = self.entries.iter().filter_map(|entry| entry.team.next_time()).min();
        // Never later than a sweep, so that a clock that was set back delays nothing for long.
        let wait = next.map_or(SWEEP, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let record = self.record_not_before.filter(|_| !self.unrecorded.is_empty());
        [Some(instant + wait.min(SWEEP)), record].into_iter().flatten().min().unwrap_or(instant + SWEEP)
    }

    fn is_drained(&self) -> bool {
        let posting = self.tickets.values().any(|ticket| matches!(ticket, Ticket::Post(..)));
        !posting && self.unrecorded.is_empty() && self.recording.is_empty()
    }

    /// The time to drain is over.
    fn give_in(&self) {
        let posts = self.tickets.values().filter(|ticket| matches!(ticket, Ticket::Post(..))).count();
        let unrecorded = self.unrecorded.len() + self.recording.len();
        if posts + unrecorded > 0 {
            warn!(
                posts,
                unrecorded,
                "stopped before every post was answered and recorded: these events go out again at the next start"
            );
        }
    }

    /// Logs that the spool fails, not at each try.
    fn trouble(&mut self, now: Timestamp, what: &str, problem: &BacklogError) {
        if self.last_trouble + TROUBLE_INTERVAL <= now {
            self.last_trouble = now;
            error!(error = %problem, "{what}");
        }
    }
}

impl Entry {
    /// Writes what came of a post to the log: no title and no text of the event.
    fn log(&self, seq: u64, verdict: &Verdict, now: Timestamp) {
        let team = &*self.name;
        let Some((mail, accepted_at, attempts)) = self.team.event(seq) else { return };
        for notice in &verdict.notices {
            let waiting = self.team.waiting().0;
            match notice {
                Notice::Held { reason } => error!(
                    team,
                    waiting,
                    reason,
                    "SIGNL4 refuses the secret or the URL of this team: put it right; its events are kept, it \
                     is tried again every minute, and a restart is not needed"
                ),
                Notice::Throttled { until, reason } => {
                    warn!(team, waiting, reason, %until, "SIGNL4 throttles the account: events wait until then");
                }
                Notice::Down { reason } => {
                    error!(
                        team,
                        waiting, reason, "SIGNL4 cannot be reached: events are kept and tried again"
                    );
                }
                Notice::Answers { was } => info!(team, waiting, ?was, "SIGNL4 takes events again"),
                Notice::Deferred { next_at, reason } => {
                    warn!(%mail, team, seq, attempts, reason, %next_at, "deferred");
                }
            }
        }
        match &verdict.outcome {
            Some(Outcome::Delivered { event_id, .. }) => {
                let latency_ms = u64::try_from(now.duration_since(accepted_at).as_millis()).unwrap_or(0);
                let (event_id, attempts) = (event_id.as_deref().unwrap_or(""), attempts + 1);
                info!(%mail, team, event_id, seq, attempts, latency_ms, "delivered");
            }
            Some(Outcome::Deferred { next_at, reason, .. }) => {
                debug!(%mail, team, seq, attempts, reason, %next_at, "tried in vain");
            }
            Some(Outcome::Failed { reason, .. }) => {
                error!(%mail, team, seq, attempts, reason, "failed for good: kept in the queue for an operator");
            }
            None => {}
        }
    }
}

/// The event that an outcome is of.
fn seq_of(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Delivered { seq, .. } | Outcome::Deferred { seq, .. } | Outcome::Failed { seq, .. } => *seq,
    }
}

/// The client for `targets`, which needs TLS if any of them does.
fn webhook(setup: &Setup, targets: &[Target]) -> Result<Webhook, SetupError> {
    let tls = targets.iter().any(|target| Endpoint::is_tls(&target.url));
    Webhook::new(&setup.connection, setup.config.timeout, tls, Arc::clone(&setup.clock))
}

/// Asks for the secret of `target`, which may read a file.
pub(super) async fn endpoint_of(target: Target) -> Result<Arc<Endpoint>, String> {
    let ask = move || {
        let secret =
            (target.secret)().map_err(|problem| format!("cannot read the team secret: {problem}"))?;
        Endpoint::new(&target.url, &secret).map(Arc::new)
    };
    task::spawn_blocking(ask).await.unwrap_or_else(|_| Err("reading the team secret failed".to_owned()))
}
