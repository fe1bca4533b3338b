//! What an engine of the spool has to provide: rows that are loaded and stored within a transaction, and the answers to
//! questions. A second engine is a folder with SQL in it. What becomes of an event, which number it gets, how full the
//! spool may be and who hears of what is decided above it, in `keeper`.

use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;

use super::change::Content;
use super::entry::{
    Count, Filter, IncidentFilter, KnownIncident, Listed, Memo, Outcome, Past, Queued, Shown, State, Unheard,
    Vouched,
};
use super::reservation::{Reservation, Urgent};
use super::storm::{Folded, Storm};
use crate::event::Status;
use crate::incident::{Flood, Row};
use crate::mail::{MailId, Trust};

/// Bytes from which on a content is laid aside before the mail is put.
pub(super) const LARGE: usize = 512 << 10;

/// Bytes of content from which on a page of mails is full.
pub(super) const PAGE: usize = 4 << 20;

/// Why a batch was not made as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No space.
    Full,
    /// An error that may pass.
    Io(String),
    /// What is on disk is unknown, and only opening anew tells: the disk did not confirm a flush, and
    /// asking again would hear a false yes (Linux marks the pages clean all the same).
    Lost(String),
    /// A fault of this program in one of the changes.
    Fault,
    /// The spool was taken away: what is written no longer gets to where the next start looks.
    Gone(String),
}

impl Failure {
    /// What happened, in words; none if it is only that there is no space.
    pub fn detail(self) -> Option<String> {
        match self {
            Self::Full => None,
            Self::Fault => Some("a fault of this program, of which the log says more".to_owned()),
            Self::Io(detail) | Self::Lost(detail) | Self::Gone(detail) => Some(detail),
        }
    }
}

/// What comes of a load or a store.
pub(super) type Done<T> = Result<T, Failure>;

/// A mail as it is written.
pub(super) struct MailRow<'a> {
    pub id: MailId,
    pub received_at: Timestamp,
    /// The numbers that its events may have.
    pub block: Range<u64>,
    /// Bytes of its content.
    pub size: usize,
    /// The bytes that it takes of the share of strangers; none if an event of it is of a known sender.
    pub stranger: Option<u64>,
    /// The name of its content, if that was laid aside.
    pub file: Option<&'a str>,
    pub envelope: &'a str,
    pub story: &'a str,
    pub pack: &'a [u8],
}

/// A mail that may be deleted.
#[derive(Debug, Clone)]
pub(super) struct OldMail {
    pub id: u64,
    pub received_at: Timestamp,
    pub block: Range<u64>,
    pub stranger: Option<u64>,
    /// Bytes of its content, if that was laid aside.
    pub aside: u64,
}

/// An event as it is written.
pub(super) struct EventRow<'a> {
    pub queued: &'a Queued,
    pub state: State,
    pub settled_at: Option<Timestamp>,
    pub reason: Option<&'a str>,
    /// What the law of incidents remarked on it.
    pub note: Option<&'a str>,
    pub title: &'a str,
    /// The storm whose digest tells it.
    pub storm: Option<u64>,
    /// The place of its payload in the pack of its mail; none if the payload is to be kept with the event.
    pub part: Option<usize>,
    /// The source for whose storm it counts, if it counts for one.
    pub source: Option<&'a str>,
}

/// How an event stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct EventState {
    pub seq: u64,
    pub state: State,
    pub settled_at: Option<Timestamp>,
}

/// An event that was not delivered.
#[derive(Debug)]
pub(super) struct Undelivered {
    pub queued: Queued,
    pub title: String,
    pub part: Option<usize>,
}

/// An event of the time before the start.
#[derive(Debug)]
pub(super) struct PastEvent {
    pub team: Option<String>,
    pub stranger: bool,
    pub state: State,
    pub source: Option<String>,
    pub queued_at: Timestamp,
}

/// An event that failed, and its incident.
#[derive(Debug)]
pub(super) struct FailedEvent {
    pub seq: u64,
    pub status: Status,
    pub incident: Option<Row>,
    /// How the last page and the last event of the incident stand, if they are still kept.
    pub page: Option<State>,
    pub last: Option<State>,
}

impl FailedEvent {
    /// Whether a later event of its incident has made it out of date.
    pub fn is_overtaken(&self) -> bool {
        // What was kept for long enough and is deleted was delivered.
        let goes = matches!(self.page, None | Some(State::Queued | State::Delivered));
        let stands = !matches!(self.last, Some(State::Failed | State::Dropped));
        self.incident.as_ref().is_some_and(|row| row.overtakes(self.seq, self.status, goes, stands))
    }
}

/// How full the engine and its disk are, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    /// What the rows fill.
    pub used: u64,
    /// What other programs may still write to the disk as well.
    pub available: u64,
    /// What new rows can fill without taking more of the disk.
    pub reusable: u64,
    /// What rows that are written have yet to take of the disk.
    pub pending: u64,
}

/// The mail or signature that was seen under a name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub mail: MailId,
    pub trust: Trust,
    pub at: Timestamp,
}

/// Which incidents of a team to load.
#[derive(Debug, Clone, Copy)]
pub(super) enum By<'a> {
    /// Those of a key, of strangers or of known senders; the latest first.
    Key(&'a str, bool),
    /// Those that are posted under this id and have another key.
    PostedId(&'a str),
    /// The open ones of the base of a guessed key; the latest first.
    Base(&'a str),
}

/// The engine's side of the writer's thread. All but the transactions themselves is called within one.
pub(super) trait Engine: Mails + Events + Incidents + Notes + Send {
    fn begin(&mut self) -> Done<()>;
    /// `Ok` once all that was stored is safe.
    fn commit(&mut self) -> Done<()>;
    /// Forgets what was stored since [`Engine::begin`], if anything was begun.
    fn roll_back(&mut self);
    fn space(&self) -> Done<Space>;
    /// Gives a little of the space that is no longer used back to the disk. Whether there is more to give.
    fn shrink(&mut self) -> Done<bool>;
    /// Called when the waiters of a batch have been answered, for upkeep that must not delay them; `idle`
    /// if no other change waits.
    fn tidy(&mut self, idle: bool) -> Done<()>;
    /// After [`Failure::Gone`]: keeps what is undelivered elsewhere, for the next start. What was done, in words.
    ///
    /// # Errors
    /// Why nothing could be kept, in words.
    fn rescue(&mut self) -> Result<String, String>;
    /// Leaves everything in order. Not called after [`Failure::Lost`] or [`Failure::Gone`].
    fn close(&mut self);
}

/// Mails and their contents.
pub(super) trait Mails {
    /// False if the id is taken; then nothing is written.
    fn insert_mail(&mut self, mail: &MailRow<'_>) -> Done<bool>;
    fn set_story(&mut self, mail: MailId, story: &str) -> Done<()>;
    /// The numbers that the events of a mail may have.
    fn block(&self, mail: MailId) -> Done<Option<Range<u64>>>;
    /// The next mails behind the id `after`, oldest first, or of them those of strangers alone.
    fn mails_after(&self, after: u64, strangers: bool, limit: usize) -> Done<Vec<OldMail>>;
    /// Deletes a mail with its content and its events.
    fn delete_mail(&mut self, mail: &OldMail) -> Done<()>;
    /// What the mails of strangers fill, and the contents that were laid aside, in bytes.
    fn sums(&self) -> Done<(u64, u64)>;
}

/// Events.
pub(super) trait Events {
    fn insert_event(&mut self, event: &EventRow<'_>) -> Done<()>;
    /// Writes the trace of a mail of which there is no event.
    fn insert_dropped(&mut self, seq: u64, mail: MailId, at: Timestamp, reason: &str) -> Done<()>;
    /// The greatest number that an event has.
    fn last_seq(&self) -> Done<Option<u64>>;
    /// The last events, the latest first.
    fn last_events(&self, limit: usize) -> Done<Vec<PastEvent>>;
    /// The events with these numbers, in order.
    fn states(&self, seqs: &Range<u64>) -> Done<Vec<EventState>>;
    /// Those of these events that wait or failed, in order.
    fn undelivered(&self, seqs: &Range<u64>) -> Done<Vec<Undelivered>>;
    /// How often an event was tried and when it is tried next, if it is queued.
    fn attempts(&self, seq: u64) -> Done<Option<(u32, Timestamp)>>;
    /// Notes how an attempt to deliver a queued event ended; that it was delivered, whatever its state. Its incident and
    /// what it does, if it is noted.
    fn record(&mut self, outcome: &Outcome) -> Done<Option<(Option<u64>, Status)>>;
    /// Those of these events that are in one of the states `from` are in `to` from now on, for this reason. How many.
    fn settle(
        &mut self,
        seqs: &Range<u64>,
        from: &[State],
        to: State,
        at: Timestamp,
        reason: &str,
    ) -> Done<usize>;
    /// Puts an event back into the queue that failed or was deferred, as if it had never been tried.
    fn requeue(&mut self, seq: u64, at: Timestamp) -> Done<Option<Queued>>;
    /// Puts an event into the queue that was counted.
    fn release(&mut self, seq: u64, at: Timestamp) -> Done<Option<Queued>>;
    /// The events of a key that wait and were not tried.
    fn untried(&self, team: &str, key: &str) -> Done<Vec<u64>>;
}

/// Incidents and storms.
pub(super) trait Incidents {
    fn incidents(&self, team: &str, by: By<'_>, limit: usize) -> Done<Vec<Row>>;
    fn incident(&self, id: u64) -> Done<Option<Row>>;
    fn store_incident(&mut self, row: &Row) -> Done<()>;
    /// Forgets an incident, unless an event came after `last_seq`. Whether it is forgotten.
    fn forget_incident(&mut self, id: u64, last_seq: u64) -> Done<bool>;
    /// How many incidents of a guessed key's base paged since then, that of `key` left out; `limit` at most.
    fn texts(
        &self,
        team: &str,
        base: &str,
        stranger: bool,
        since: Timestamp,
        key: Option<&str>,
        limit: usize,
    ) -> Done<usize>;
    /// Makes a storm that begins at `at`, and of which nothing is folded yet.
    fn insert_storm(&mut self, team: &str, flood: &Flood, at: Timestamp) -> Done<Storm>;
    fn storm(&self, id: u64) -> Done<Option<Storm>>;
    fn store_storm(&mut self, storm: &Storm) -> Done<()>;
    /// Forgets the storms that are over and of which nothing was folded since.
    fn forget_storms(&mut self, before: Timestamp) -> Done<()>;
}

/// What was seen, memos and reservations.
pub(super) trait Notes {
    /// Notes what was seen under a name. False if something was already, and it is not to be replaced.
    fn note_seen(&mut self, team: &str, name: &str, seen: &Seen, replace: bool) -> Done<bool>;
    fn seen(&self, team: &str, name: &str) -> Done<Option<Seen>>;
    /// Forgets what was seen before then under a name that begins with `prefix`.
    fn forget_seen(&mut self, prefix: &str, before: Timestamp) -> Done<()>;
    fn memo(&self, kind: &str, name: &str) -> Done<Option<String>>;
    fn remember(&mut self, memo: &Memo) -> Done<()>;
    /// Notes a reservation, and forgets those of its account from before `kept_since`, but for the last. The notes of an
    /// account within one second may become one. What was noted by a clock that was ahead is of now at the latest.
    fn reserve(&mut self, reservation: &Reservation, kept_since: Timestamp) -> Done<()>;
}

/// The engine's side that answers questions, on several threads.
pub(super) trait Store: Send + Sync + 'static {
    /// Keeps a large content before its mail is put, so that no other mail waits for it. There is no space for it where
    /// fewer than `min_free` bytes of the disk would stay free.
    fn lay_aside(&self, mail: MailId, content: Bytes, min_free: u64) -> Done<Content>;
    /// Forgets a content whose mail was not taken.
    fn forget(&self, content: &Content);
    fn waiting(&self, team: &str, after: u64, limit: usize) -> Done<Vec<Queued>>;
    fn urgent(&self, team: &str, after: (u8, u64), limit: usize) -> Done<Vec<Urgent>>;
    fn reservations(&self, account: &str) -> Done<Vec<Reservation>>;
    /// The events that failed, in order.
    fn failed(&self) -> Done<Vec<FailedEvent>>;
    /// The numbers of the events that wait and were tried.
    fn deferred(&self) -> Done<Vec<u64>>;
    fn list(&self, filter: &Filter) -> Done<Vec<Listed>>;
    fn show(&self, mail: MailId) -> Done<Option<Shown>>;
    fn content(&self, mail: MailId) -> Done<Option<Bytes>>;
    /// A page of mails, latest first, that ends early where it holds [`PAGE`] bytes.
    fn mails(&self, from: MailId, before: Option<MailId>, limit: usize) -> Done<Vec<Past>>;
    fn count_mails(&self, from: MailId) -> Done<u64>;
    /// The mails from `from` on by what their stories say of trust.
    fn vouched(&self, from: MailId) -> Done<Vec<Vouched>>;
    fn counts(&self) -> Done<Vec<Count>>;
    /// The open incidents that were never posted, of those that were muted since `since` for
    /// the reason `label`, with or without a colon and more behind it.
    fn unheard(&self, label: &str, since: Timestamp) -> Done<Vec<Unheard>>;
    /// The names and values of the memos of a kind, in the order of the names.
    fn memos(&self, kind: &str) -> Done<Vec<(String, String)>>;
    fn incidents(&self, filter: &IncidentFilter) -> Done<Vec<KnownIncident>>;
    /// The incidents to forget: the closed ones whose last mail came before `closed`, the others that were
    /// not heard of since `open` and of which no event is left. At most `limit`.
    fn old_incidents(&self, closed: Timestamp, open: Timestamp, limit: usize) -> Done<Vec<(u64, u64)>>;
    /// The storms that have news to come.
    fn storms(&self) -> Done<Vec<Storm>>;
    /// What a storm has folded, in order.
    fn folded(&self, storm: u64, after: u64, limit: usize) -> Done<Vec<Folded>>;
    /// Lets go of everything that is not in use.
    fn close(&self);
}
