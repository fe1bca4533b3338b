//! One team: what it wants to post next, and what the answers do to its events. Its gate says what may go, its
//! backlog what there is.

use std::sync::Arc;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};

use super::action::{Action, Index};
use super::backlog::Backlog;
use super::gate::{Allowed, Effects, Gate, Whose};
use super::limits::TeamLimits;
use super::retry::{Attempt, Fate};
use crate::delivery::multipart::Files;
use crate::delivery::rank::Rank;
use crate::delivery::status::State;
use crate::delivery::target::Target;
use crate::delivery::webhook::{Answer, Endpoint};
use crate::mail::MailId;
use crate::spool::{QUIET, Queued, RANKS, STRANGE, Urgent};

/// A clock that is this much behind itself was set back.
const SET_BACK: SignedDuration = SignedDuration::from_secs(60);

/// How urgent it is at least to find out whether a secret is right: more than what can wait.
const ASKING: Rank = 2;

/// What a team wants to post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    rank: Rank,
    /// The event, or none for the question whether the secret is right.
    seq: Option<u64>,
}

impl From<(Rank, u64)> for Pick {
    fn from((rank, seq): (Rank, u64)) -> Self {
        Self { rank, seq: Some(seq) }
    }
}

impl Pick {
    /// The smaller goes first.
    pub(super) fn order(&self) -> (Rank, u64) {
        (self.rank, self.seq.unwrap_or(0))
    }

    /// How urgent it is.
    pub(super) fn rank(&self) -> Rank {
        self.rank
    }

    /// Whether it is the question.
    pub(super) fn is_question(&self) -> bool {
        self.seq.is_none()
    }

    /// Whether neither the event nor any that waits behind it pages.
    pub(super) fn is_quiet(&self) -> bool {
        self.rank == QUIET
    }

    /// Whether it is an event of a stranger, behind which no other waits.
    pub(super) fn is_strange(&self) -> bool {
        self.seq.is_some() && self.rank >= STRANGE
    }
}

/// What became of a [`Pick`].
#[derive(Debug)]
pub(super) enum Taken {
    /// It is to be posted.
    Event { seq: u64, payload: Arc<str>, probe: bool, possible_double: bool },
    /// The question is to be asked.
    Ask,
    /// Its payload must be read first.
    Fetch { after: u64, limit: usize },
    /// Its payload is being read, or cannot be now.
    Nothing,
}

/// Since when the spool has it that a team's secret is refused.
#[derive(Debug, Default)]
pub(crate) struct HoldNote {
    /// What the spool has.
    pub(crate) since: Option<Timestamp>,
    /// Whether another is being written.
    pub(crate) writing: bool,
    pub(crate) not_before: Option<Timestamp>,
}

/// What delivery knows of a team.
#[derive(Debug)]
pub(crate) struct Team {
    /// What the config says of it.
    pub(crate) target: Target,
    /// The target with the secret as it was last read.
    pub(crate) endpoint: Option<Arc<Endpoint>>,
    pub(crate) note: HoldNote,
    /// The account that its posts cost.
    pub(super) account: usize,
    /// The team that its events go to while its secret is refused for long.
    pub(crate) fallback: Option<Index>,
    /// Where its target is: the scheme, the host and the port of its URL.
    pub(super) host: Arc<str>,
    pub(super) limits: TeamLimits,
    pub(super) gate: Gate,
    backlog: Backlog,
    in_flight: usize,
    /// Whether its events go by a fallback.
    diverted: bool,
    /// Posts that were made although an earlier one of the same event may have been taken.
    doubles: u64,
    /// For how long the process has run, by a clock that does not jump.
    pub(super) up: SignedDuration,
    last_now: Timestamp,
    rng: Rng,
}

impl Team {
    /// A team whose backlog is on disk.
    pub(crate) fn new(
        target: Target,
        account: usize,
        limits: TeamLimits,
        mut rng: Rng,
        now: Timestamp,
    ) -> Self {
        Self {
            host: Endpoint::host(&target.url).into(),
            target,
            endpoint: None,
            note: HoldNote::default(),
            account,
            fallback: None,
            limits,
            gate: Gate::new(limits.probe, rng.fork(), now),
            backlog: Backlog::new(limits, now),
            in_flight: 0,
            diverted: false,
            doubles: 0,
            up: SignedDuration::ZERO,
            last_now: now,
            rng,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.target.team
    }

    /// How it stands: never [`State::Starved`] or [`State::Unknown`].
    pub(crate) fn state(&self) -> State {
        self.gate.state()
    }

    /// Whether it is held since what answers is not SIGNL4.
    pub(crate) fn meets_another(&self) -> bool {
        self.gate.meets_another()
    }

    /// Why events do not go out; empty while they do.
    pub(crate) fn reason(&self) -> &str {
        self.gate.reason()
    }

    /// Since when its secret is refused, if that is sure. It is kept until something gets through, so that a restart
    /// forgets nothing.
    pub(crate) fn held_since(&self) -> Option<Timestamp> {
        self.gate.held_since()
    }

    /// Events in memory, whether there may be more on disk, and when the oldest was accepted.
    pub(crate) fn waiting(&self) -> (usize, bool, Option<Timestamp>) {
        let window = &self.backlog.window;
        (window.len(), self.backlog.is_more_on_disk(), window.oldest())
    }

    /// Posts that are being made.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Posts since the start that may have made an alert twice.
    pub(crate) fn doubles(&self) -> u64 {
        self.doubles
    }

    /// The mail of an event in memory, when it was accepted, and how many posts of it have failed.
    pub(crate) fn event(&self, seq: u64) -> Option<(MailId, Timestamp, u32)> {
        self.backlog.window.event(seq).map(|event| (event.mail, event.accepted_at, event.attempts))
    }

    /// How urgent an event in memory is by itself.
    pub(super) fn own_rank(&self, seq: u64) -> Option<Rank> {
        self.backlog.window.own_rank(seq)
    }

    /// How urgent the event is that may go next.
    pub(super) fn next_rank(&self) -> Option<Rank> {
        self.backlog.window.next_ready().map(|(rank, _)| rank)
    }

    /// The files that go along with an event in memory.
    pub(super) fn files(&self, seq: u64) -> Option<Arc<Files>> {
        self.backlog.window.event(seq).and_then(|event| event.files(seq))
    }

    /// Takes a newly queued event from the gateway, unless it has to wait its turn on disk.
    pub(crate) fn offer(&mut self, queued: Queued, now: Timestamp) {
        self.gate.event_came(now);
        let room = self.room();
        self.backlog.take_in(queued, room, now);
    }

    /// An operator has changed the queue or the secret: everything is looked at anew, and what waits is tried now.
    pub(super) fn wake(&mut self, now: Timestamp) {
        self.backlog.read_again_from(0);
        self.backlog.window.forget_payloads();
        self.backlog.window.release(now);
        self.gate.wake(now);
    }

    /// Makes everything queued after `seq` be read from the spool again.
    pub(super) fn read_again_from(&mut self, seq: u64) {
        self.backlog.read_again_from(seq);
    }

    /// Reads the queue again if that is cheap, for what came into the spool by no way that tells us.
    pub(super) fn sweep(&mut self) {
        self.backlog.sweep();
    }

    /// The next page to be read, if any is.
    pub(super) fn read_on(&mut self, team: Index, now: Timestamp) -> Option<Action> {
        self.backlog.read_on(team, now)
    }

    /// Takes in the page that was asked for. Returns the events that the spool no longer has queued: an
    /// operator has dropped them.
    pub(crate) fn page(&mut self, rows: Vec<Queued>, now: Timestamp) -> Vec<u64> {
        let room = self.room();
        let gone = self.backlog.page(rows, room, now);
        gone.iter().for_each(|&seq| self.gate.forget(seq));
        gone
    }

    /// Takes in the most urgent incidents that were asked for.
    pub(crate) fn urgent(&mut self, rows: Vec<Urgent>, now: Timestamp) {
        let room = self.room();
        self.backlog.urgent(rows, room, now);
    }

    /// What was asked for could not be read.
    pub(crate) fn page_failed(&mut self, now: Timestamp) {
        self.backlog.page_failed(now);
    }

    /// The final outcome of `seq` is durable.
    pub(crate) fn recorded(&mut self, seq: u64, now: Timestamp) {
        self.backlog.remove(seq, now);
        self.gate.forget(seq);
    }

    /// An event need not be posted any more. False if it is being posted.
    pub(crate) fn withdraw(&mut self, seq: u64, now: Timestamp) -> bool {
        let is_away = self.backlog.window.is_away(seq);
        if !is_away {
            self.recorded(seq, now);
        }
        !is_away
    }

    /// Takes note of the time.
    pub(super) fn look(&mut self, now: Timestamp) {
        if now < self.last_now - SET_BACK {
            self.backlog.clock_was_set_back(now);
            self.gate.clock_was_set_back(now);
        }
        self.last_now = now;
        self.backlog.window.due(now);
    }

    /// Whether it is not known yet what goes first.
    pub(super) fn holds_back(&self) -> bool {
        self.backlog.holds_back()
    }

    /// What it wants to post at `now`, by its own target.
    pub(super) fn pick(&self, now: Timestamp) -> Option<Pick> {
        let window = &self.backlog.window;
        let event = |seq| Pick::from((window.rank_of(seq), seq));
        let ask = || {
            let urgent = window.most_urgent().map_or(RANKS, |seq| window.rank_of(seq));
            Pick { rank: urgent.min(ASKING), seq: None }
        };
        match self.gate.allows(now) {
            Allowed::Events => return self.has_place().then(|| window.next_ready())?.map(Pick::from),
            Allowed::Question => Some(ask()),
            Allowed::LeastTried => window.least_tried().map(event),
            Allowed::MostUrgent => window.most_urgent().map(event),
            Allowed::Nothing => return None,
        }
        .or_else(|| self.wants_to_ask().then(ask))
    }

    /// The non-paging event to post at `now` by the team's own target. Behind a shut gate only one event is tried,
    /// and a non-paging one only if there is no other.
    pub(super) fn pick_quiet(&self, now: Timestamp) -> Option<Pick> {
        match self.gate.allows(now) {
            Allowed::Events => self.has_place().then(|| self.backlog.window.next_quiet())?.map(Pick::from),
            _ => self.pick(now).filter(Pick::is_quiet),
        }
    }

    /// What it wants to post by a fallback's target; as a probe of that, if `by_probe`: then not always the same.
    pub(super) fn pick_diverted(&self, by_probe: bool) -> Option<Pick> {
        let window = &self.backlog.window;
        match by_probe {
            _ if !self.diverted || !self.has_place() => None,
            true => window.least_tried().map(|seq| Pick::from((window.rank_of(seq), seq))),
            false => window.next_ready().map(Pick::from),
        }
    }

    /// The same for non-paging events.
    pub(super) fn pick_quiet_diverted(&self) -> Option<Pick> {
        let may = self.diverted && self.has_place();
        may.then(|| self.backlog.window.next_quiet())?.map(Pick::from)
    }

    fn has_place(&self) -> bool {
        self.in_flight < self.limits.concurrency
    }

    /// Whether the question is due though no event waits.
    fn wants_to_ask(&self) -> bool {
        self.backlog.is_idle() && self.gate.asks_idly()
    }

    /// How urgent the event is that waits for nothing but an answer: to one of the posts that take up every place, or
    /// to the first of all, which shows whether others may go. If the last try found no answer, the next may hang
    /// as long: others do not wait for it.
    pub(super) fn waits_for_answer(&self) -> Option<Rank> {
        let full = self.state() == State::Open && !self.has_place();
        (full || self.gate.awaits_first_answer()).then(|| self.next_rank())?
    }

    /// How many posts it could make at `now` by its own target, counted up to `most`.
    pub(super) fn ready(&self, last: Rank, most: u64, now: Timestamp) -> u64 {
        match self.gate.allows(now) {
            Allowed::Events => self.ready_events(last, most),
            _ => self.pick(now).map_or(0, |_| 1),
        }
    }

    /// The same by a fallback's target.
    pub(super) fn ready_diverted(&self, by_probe: bool, last: Rank, most: u64) -> u64 {
        match self.pick_diverted(by_probe) {
            Some(_) if by_probe => 1,
            Some(_) => self.ready_events(last, most),
            None => 0,
        }
    }

    fn ready_events(&self, last: Rank, most: u64) -> u64 {
        let places = self.limits.concurrency.saturating_sub(self.in_flight);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(places);
        self.backlog.window.ready_within(0..=last, most) as u64
    }

    /// Whether a stranger's event leaves more places to those of known senders than it takes.
    pub(super) fn spares_a_place(&self) -> bool {
        self.in_flight == 0 || 2 * self.in_flight < self.limits.concurrency
    }

    /// Whether any of its events could be tried, due or not.
    pub(super) fn has_head(&self) -> bool {
        self.backlog.window.has_head()
    }

    /// Takes what was picked out of the queue.
    pub(super) fn take(&mut self, pick: Pick, diverted: bool, now: Timestamp) -> Taken {
        let Some(seq) = pick.seq else {
            self.gate.send(Whose::Question);
            return Taken::Ask;
        };
        let window = &mut self.backlog.window;
        if !window.has_payload(seq) {
            let after = seq - 1;
            return self
                .backlog
                .begin(after, now)
                .map_or(Taken::Nothing, |limit| Taken::Fetch { after, limit });
        }
        let possible_double = window.event(seq).is_some_and(|event| event.maybe_taken);
        let Some(payload) = window.take(seq) else { return Taken::Nothing };
        self.in_flight += 1;
        self.doubles += u64::from(possible_double);
        let probe = self.state() != State::Open && !diverted;
        if probe {
            self.gate.send(Whose::Own(seq));
        }
        Taken::Event { seq, payload, probe, possible_double }
    }

    /// Whether its secret was refused for so long that its events go to the fallback.
    pub(super) fn is_given_up(&self, now: Timestamp) -> bool {
        self.gate.held_for(self.limits.fallback_after).is_some_and(|at| at <= now)
    }

    /// Says whether its events go by a fallback's target.
    pub(super) fn set_diverted(&mut self, diverted: bool, now: Timestamp) {
        if diverted && !self.diverted {
            self.backlog.window.release(now);
        }
        self.diverted = diverted;
    }

    /// Whether another team's events may go by its target.
    pub(super) fn takes_others(&self, now: Timestamp) -> bool {
        self.gate.takes_others(!self.has_head(), now)
    }

    /// When [`Team::pick`] may have something new if nothing else happens.
    pub(super) fn next_time(&self) -> Option<Timestamp> {
        let window = &self.backlog.window;
        let probe = self.gate.next_probe(self.has_head() || self.wants_to_ask());
        let given_up = self.gate.held_for(self.limits.fallback_after);
        let read = Some(self.backlog.read_not_before());
        // What was due already waits for an answer, a page or a place, not for the time.
        let times = [window.next_due(), window.next_held(), probe, given_up, read];
        times.into_iter().flatten().filter(|&at| at > self.last_now).min()
    }

    /// Bytes that payloads may take up in memory. Behind a shut gate they take none.
    fn room(&self) -> usize {
        match self.state() {
            State::Untried | State::Open => self.limits.payload_bytes,
            _ if self.diverted => self.limits.payload_bytes,
            _ => 0,
        }
    }

    /// Takes in what an answer says of the team's target.
    pub(super) fn learn(&mut self, answer: &Answer, whose: Whose, now: Timestamp) -> Effects {
        let effects = self.gate.learn(answer, whose, now);
        if effects.opened {
            self.backlog.window.release(now);
        }
        if effects.shut {
            self.backlog.window.forget_payloads();
        }
        effects
    }

    /// Takes in what an answer means for the event `seq`: that the event itself is at fault, if so often it was
    /// `blamed`. `by_way` is the fallback by whose target it went, if it was one.
    pub(super) fn settle(
        &mut self,
        seq: u64,
        answer: Answer,
        blamed: Option<u32>,
        by_way: Option<Arc<str>>,
        now: Timestamp,
    ) -> Fate {
        self.in_flight = self.in_flight.saturating_sub(1);
        let (is_open, up) = (self.state() == State::Open, self.up);
        let give_up_after = self.limits.give_up_after;
        let attempt = Attempt { seq, by_way, blamed, is_open, give_up_after, now, up };
        attempt.end(answer, &mut self.backlog.window, &mut self.rng)
    }
}
