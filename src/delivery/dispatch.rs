//! The loop that carries out what the schedulers decide: it posts, reads and records in tasks of their
//! own, brings the answers back and writes the log. It waits for nothing but the next thing to happen.

mod ends;
mod holds;
mod log;
mod message;
mod teams;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::config::Config;
use super::multipart::{self, Files};
use super::scheduler::{Action, Index, Notice, Post, PostVerdict, Scheduler};
use super::storage::{Storage, StorageError};
use super::target::{Target, endpoint_of, meant_for};
use super::webhook::{Answer, Reached, Webhook};
use crate::clock::Clock;
use crate::mail::MailId;
use crate::spool::Outcome;
pub(super) use message::Message;
use message::{PostTask, Task, TaskResult, seq_of};

/// Messages taken from the channel at once.
const BATCH: usize = 256;

/// Ends that are not recorded because the spool cannot write, above which nothing more is posted: so many
/// at most would go out twice after a crash.
const UNRECORDED: usize = 1_000;

/// How long outcomes gather before they are recorded: one commit and one flush for many. Nobody waits for it but the next
/// event of the same incident, and what a crash leaves unrecorded goes out again.
const GATHER: Duration = Duration::from_millis(10);

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
    pub(super) clock: Arc<dyn Clock>,
    pub(super) seed: u64,
    pub(super) missed: Arc<AtomicU64>,
    pub(super) in_hand: Arc<AtomicU64>,
}

/// The loop and all that it holds.
pub(super) struct Dispatch<S> {
    setup: Setup,
    storage: Arc<S>,
    webhook: Webhook,
    /// Where events go, until the loop begins.
    targets: Vec<Target>,
    rng: Rng,
    scheduler: Scheduler,
    names: BTreeMap<Arc<str>, Index>,
    /// Since when secrets were refused when the service ran before, by team.
    holds: BTreeMap<String, Timestamp>,
    /// Teams that have events in the spool and no target, and how many.
    unknown: BTreeMap<String, u64>,
    /// What the spool was told that each account lets go.
    allowances: BTreeMap<usize, u64>,
    tasks: JoinSet<TaskResult>,
    running: HashMap<task::Id, Task>,
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

impl<S: Storage> Dispatch<S> {
    pub(super) fn new(setup: Setup, webhook: Webhook, targets: Vec<Target>, storage: S) -> Self {
        let longest = webhook.longest();
        Self {
            storage: Arc::new(storage),
            webhook,
            targets,
            scheduler: Scheduler::new(setup.config.plan.clone(), longest),
            rng: Rng::with_seed(setup.seed),
            names: BTreeMap::new(),
            holds: BTreeMap::new(),
            unknown: BTreeMap::new(),
            allowances: BTreeMap::new(),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            unrecorded: BTreeMap::new(),
            recording: Vec::new(),
            record_not_before: None,
            waiters: HashMap::new(),
            ends: VecDeque::new(),
            last_trouble: Timestamp::MIN,
            stopping: false,
            setup,
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>, stop: CancellationToken) {
        self.recall_holds().await;
        let targets = std::mem::take(&mut self.targets);
        self.set_up(targets).await;
        self.look_for_unknown().await;
        let mut messages = Vec::with_capacity(BATCH);
        let mut sweep_at = Instant::now() + SWEEP;
        let mut deadline = None;
        let mut open = true;
        loop {
            if !self.stopping && stop.is_cancelled() {
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
                () = stop.cancelled(), if !self.stopping => {}
                () = tokio::time::sleep_until(wake_at) => self.catch_up(),
            }
            let now = Instant::now();
            if now >= sweep_at {
                sweep_at = now + SWEEP;
                self.scheduler.sweep();
                self.waiters.retain(|_, waiters| {
                    waiters.retain(|waiter| !waiter.is_closed());
                    !waiters.is_empty()
                });
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                break self.give_in();
            }
        }
        self.close().await;
    }

    /// Notes which event the loop is busy with, so that it is known if it ends the loop.
    fn hold(&self, seq: Option<u64>) {
        self.setup.in_hand.store(seq.unwrap_or_default(), Ordering::SeqCst);
    }

    /// Does what is to be done now, and records what is to be recorded.
    fn drive(&mut self) {
        self.hold(None);
        let now = self.setup.clock.now();
        self.scheduler.has_run_for(self.setup.clock.up());
        let may_post = self.unrecorded.len() < UNRECORDED;
        while !self.stopping
            && let Some(action) = self.scheduler.next(now, may_post)
        {
            self.start(action);
        }
        for news in self.scheduler.starving(now) {
            log::starving(self.scheduler.account_name(news.account), &news);
        }
        self.note_holds(now);
        self.record();
    }

    fn start(&mut self, action: Action) {
        let storage = Arc::clone(&self.storage);
        let name = |team: Index| Arc::clone(self.scheduler.team(team).name());
        let (handle, ticket) = match action {
            Action::Page { team, after, limit } => {
                let name = name(team);
                let read = async move { TaskResult::Paged(team, storage.waiting(&name, after, limit).await) };
                (self.tasks.spawn(read), Task::Page(team))
            }
            Action::Urgent { team, after, limit } => {
                let name = name(team);
                let read = async move { TaskResult::Urgent(team, storage.urgent(&name, after, limit).await) };
                (self.tasks.spawn(read), Task::Page(team))
            }
            Action::Reserve { account, reservation } => {
                let write = async move { TaskResult::Reserved(account, storage.reserve(reservation).await) };
                (self.tasks.spawn(write), Task::Reserve(account))
            }
            Action::Ask { team, account } => {
                let task = PostTask { seq: None, team, by: team, account };
                (self.send(task, None, true), Task::Post(task))
            }
            Action::Post(post) => {
                self.hold(Some(post.seq));
                let name = name(post.team);
                if post.possible_double
                    && let Some((mail, ..)) = self.scheduler.team(post.team).event(post.seq)
                {
                    log::possible_double(&name, &post, mail);
                }
                let Post { seq, team, by, account, payload, files, probe, .. } = post;
                let task = PostTask { seq: Some(seq), team, by, account };
                let payload = if team == by { payload } else { meant_for(&payload, &name) };
                (self.send(task, Some((payload, files)), probe), Task::Post(task))
            }
        };
        self.running.insert(handle.id(), ticket);
        self.hold(None);
    }

    /// Posts an event with its files, or the question if there is none, with the secret read anew if it is to be
    /// `fresh`.
    fn send(
        &mut self,
        task: PostTask,
        event: Option<(Arc<str>, Option<Arc<Files>>)>,
        fresh: bool,
    ) -> AbortHandle {
        let by = self.scheduler.team(task.by);
        let (webhook, target, endpoint) = (self.webhook.clone(), by.target.clone(), by.endpoint.clone());
        let storage = Arc::clone(&self.storage);
        self.tasks.spawn(async move {
            let endpoint = match endpoint {
                Some(endpoint) if !fresh => Ok(endpoint),
                _ => endpoint_of(target).await,
            };
            match endpoint {
                Ok(endpoint) => {
                    let answer = match event {
                        Some((payload, None)) => webhook.post(&endpoint, payload).await,
                        Some((payload, Some(files))) => {
                            multipart::post(&webhook, &endpoint, &*storage, payload, &files).await
                        }
                        None => webhook.ask(&endpoint).await,
                    };
                    TaskResult::Posted(task, answer, Some(endpoint))
                }
                Err(reason) => TaskResult::Posted(task, Answer::NoSecret { reason }, None),
            }
        })
    }

    fn finish(&mut self, done: Result<(task::Id, TaskResult), JoinError>) {
        let now = self.setup.clock.now();
        self.scheduler.has_run_for(self.setup.clock.up());
        let done = match done {
            Ok((id, done)) => {
                self.running.remove(&id);
                done
            }
            // A panic in a task must not leave its event away for ever.
            Err(failed) => match self.running.remove(&failed.id()) {
                Some(Task::Post(task)) => {
                    let reason = "the post ended by a fault of our own".to_owned();
                    let (retry_after, reached) = (None, Reached::Perhaps);
                    TaskResult::Posted(task, Answer::Unavailable { reason, retry_after, reached }, None)
                }
                Some(Task::Page(team)) => TaskResult::Paged(team, Err(failed.into())),
                Some(Task::Reserve(account)) => TaskResult::Reserved(account, Err(failed.into())),
                Some(Task::Record) => TaskResult::Recorded(Err(failed.into())),
                Some(Task::Note(team)) => TaskResult::Noted(team, None, Err(failed.into())),
                None => return,
            },
        };
        match done {
            TaskResult::Posted(task, answer, endpoint) => {
                if endpoint.is_some() {
                    self.scheduler.team_mut(task.by).endpoint = endpoint;
                }
                self.answered(task, answer, now);
            }
            TaskResult::Paged(team, Ok(rows)) => {
                for seq in self.scheduler.team_mut(team).page(rows, now) {
                    debug!(team = &**self.scheduler.team(team).name(), seq, "no longer queued");
                    // Clients that wait for it learn that there is nothing to wait for.
                    self.waiters.remove(&seq);
                }
            }
            TaskResult::Urgent(team, Ok(rows)) => self.scheduler.team_mut(team).urgent(rows, now),
            TaskResult::Paged(team, Err(problem)) | TaskResult::Urgent(team, Err(problem)) => {
                self.scheduler.team_mut(team).page_failed(now);
                self.trouble(now, "cannot read the spool; new mails are tried again from there", &problem);
            }
            TaskResult::Reserved(account, answer) => {
                let change = self.scheduler.reserved(account, answer.is_ok(), now);
                log::reservation(self.scheduler.account_name(account), change);
                if let Err(problem) = answer {
                    self.trouble(now, "cannot note in the spool what is to be posted", &problem);
                }
            }
            TaskResult::Noted(team, since, answer) => self.noted(team, since, answer, now),
            TaskResult::Recorded(Ok(())) => {
                for (team, outcome) in std::mem::take(&mut self.recording) {
                    self.recorded(team, outcome, now);
                }
            }
            TaskResult::Recorded(Err(problem)) => {
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

    /// A post has come to its end.
    fn answered(&mut self, task: PostTask, answer: Answer, now: Timestamp) {
        let PostTask { team, by, account, .. } = task;
        self.hold(task.seq);
        let Some(seq) = task.seq else {
            let notices = self.scheduler.asked(team, account, &answer, now);
            self.tell_allowance(account);
            return self.tell(team, None, &notices);
        };
        let PostVerdict { outcome, notices } = self.scheduler.answer((team, by, account), seq, answer, now);
        self.tell_allowance(account);
        let event = self.scheduler.team(team).event(seq);
        self.tell(
            by,
            event.filter(|_| by == team).map(|(mail, _, attempts)| (seq, mail, attempts)),
            &notices,
        );
        if let Some(outcome) = outcome {
            if let Some(event) = event {
                log::outcome(self.scheduler.team(team).name(), &outcome, event, now);
            }
            self.unrecorded.insert(seq, (team, outcome));
            self.record_not_before.get_or_insert_with(|| Instant::now() + GATHER);
        }
    }

    /// Logs what is new about `team`, as an answer has shown: to a post of this event of its own, if to one.
    fn tell(&self, team: Index, event: Option<(u64, MailId, u32)>, notices: &[Notice]) {
        for notice in notices {
            log::notice(self.scheduler.team(team), event, notice);
        }
    }

    fn hear(&mut self, message: Message) {
        let now = self.setup.clock.now();
        match message {
            Message::Offer(queued) => {
                for queued in queued {
                    self.hold(Some(queued.seq));
                    match self.names.get(queued.team.as_str()) {
                        Some(&team) => self.scheduler.team_mut(team).offer(queued, now),
                        None => self.unknown(queued.team, 1),
                    }
                }
            }
            Message::Wake => self.scheduler.wake(now),
            Message::Withdraw(withdrawn) => {
                for withdrawn in withdrawn {
                    match self.names.get(withdrawn.team.as_str()) {
                        Some(&team) => _ = self.scheduler.team_mut(team).withdraw(withdrawn.seq, now),
                        None => self.unknown_left(&withdrawn.team),
                    }
                    // Clients that wait for it learn that there is nothing to wait for.
                    self.waiters.remove(&withdrawn.seq);
                }
            }
            Message::Wait(seq, tell) => match self.ends.iter().find(|end| seq_of(end) == seq) {
                Some(end) => _ = tell.send(end.clone()),
                None => self.waiters.entry(seq).or_default().push(tell),
            },
            Message::Status(tell) => _ = tell.send(self.status()),
        }
    }

    /// Reads what was offered while the channel was full. Called before anything newer is heard.
    fn catch_up(&mut self) {
        let after = self.setup.missed.swap(u64::MAX, Ordering::SeqCst);
        if after != u64::MAX {
            self.scheduler.read_again_from(after);
        }
    }

    /// When to look again if nothing happens.
    fn wake_at(&mut self) -> Instant {
        let now = self.setup.clock.now();
        let instant = Instant::now();
        // Who stops begins nothing more: a time that has come would make the loop turn without a pause.
        let next = if self.stopping { None } else { self.scheduler.next_time(now) };
        // Never later than a sweep, so that a clock that was set back delays nothing for long.
        let wait = next.map_or(SWEEP, |at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        // While one is being written its end is what is waited for: its time is over.
        let due = self.recording.is_empty() && !self.unrecorded.is_empty();
        let record = self.record_not_before.filter(|_| due);
        [Some(instant + wait.min(SWEEP)), record].into_iter().flatten().min().unwrap_or(instant + SWEEP)
    }

    /// Logs that the spool fails, not at each try.
    fn trouble(&mut self, now: Timestamp, what: &str, problem: &StorageError) {
        if self.last_trouble + TROUBLE_INTERVAL <= now {
            self.last_trouble = now;
            error!(error = %problem, "{what}");
        }
    }
}
