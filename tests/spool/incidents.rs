//! What of a mail goes out and what is kept, decided where it is written: repeats, closes and holds.

use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use smtp2signl4::clock::{Clock, Manual};
use smtp2signl4::event::{Event, Repeat, Severity, Status};
use smtp2signl4::incident::{self, State as Incident};
use smtp2signl4::spool::{
    Config, Entry, Filter, IncidentFilter, Listed, News, Outcome, Selection, Spool, State,
};

use crate::support::Enqueue;
use crate::{clock, id, mail, start};

/// A spool whose mails are numbered.
pub(super) struct Site {
    pub(super) spool: Spool,
    pub(super) clock: Arc<Manual>,
    next: u32,
}

const OPEN: &str = "open";

impl Site {
    pub(super) fn new(folder: &Path, incidents: incident::Config) -> Self {
        Self::at(folder, incidents, clock(), 0)
    }

    pub(super) fn at(folder: &Path, incidents: incident::Config, clock: Arc<Manual>, next: u32) -> Self {
        let theirs: Arc<dyn Clock> = clock.clone();
        let spool = Spool::open(&Config { incidents, ..Config::at(folder) }, theirs).unwrap();
        Self { spool, clock, next }
    }

    pub(super) async fn again(self, folder: &Path, incidents: incident::Config) -> Self {
        self.spool.close().await;
        Self::at(folder, incidents, self.clock, self.next)
    }

    /// Puts a mail of one event and tells where that stands, and why.
    pub(super) async fn put(&mut self, event: Event) -> (State, Option<String>) {
        let listed = self.entry(Entry { events: vec![event], ..mail(0, "soc") }).await;
        (listed[0].state, listed[0].reason.clone())
    }

    /// Puts a mail and tells where its events stand, in order.
    pub(super) async fn entry(&mut self, entry: Entry) -> Vec<Listed> {
        self.next += 1;
        let id = id(self.next);
        self.spool.enqueue(Entry { id, ..entry }).await.unwrap();
        let shown = self.spool.reader().show(id).await.unwrap().unwrap();
        shown.events.into_iter().map(|event| event.listed).collect()
    }

    pub(super) async fn state(&mut self, event: Event) -> State {
        self.put(event).await.0
    }

    pub(super) fn pass(&self, minutes: i64) {
        self.clock.advance(SignedDuration::from_mins(minutes));
    }

    /// Everything that waits is delivered.
    pub(super) async fn deliver(&self) {
        let at = self.clock.now();
        let delivered =
            |seq| Outcome::Delivered { seq, event_id: Some(format!("2518_{seq}")), at, by_way: None };
        let outcomes = self.waiting().await.into_iter().map(|(seq, _)| delivered(seq)).collect();
        self.spool.record(outcomes).await.unwrap();
    }

    /// What waits: number and status.
    async fn waiting(&self) -> Vec<(u64, Status)> {
        let waiting = self.spool.reader().waiting("soc", 0, 1_000).await.unwrap();
        waiting.into_iter().map(|event| (event.seq, event.status)).collect()
    }

    async fn incident(&self) -> (Incident, u64, Vec<String>) {
        let filter = IncidentFilter { open: false, team: None, limit: 10 };
        let found = self.spool.reader().incidents(filter).await.unwrap().remove(0);
        (found.incident.state, found.incident.mails, found.event_ids)
    }

    pub(super) async fn count(&self, state: State) -> usize {
        let filter = Filter { states: vec![state], limit: 100_000, ..Filter::default() };
        self.spool.reader().list(filter).await.unwrap().len()
    }
}

fn event(what: &str, severity: Option<Severity>) -> Event {
    Event {
        team: "soc".into(),
        title: what.into(),
        status: Status::New,
        external_id: Some("incident".into()),
        severity,
        source_system: Some("Tool".into()),
        ..Event::default()
    }
}

fn open() -> Event {
    event(OPEN, None)
}

fn close() -> Event {
    Event { status: Status::Resolved, ..open() }
}

/// The open of another incident.
pub(super) fn other(n: u32) -> Event {
    Event { external_id: Some(format!("other {n}")), title: format!("Disk {n} is full"), ..open() }
}

pub(super) fn defaults() -> incident::Config {
    incident::Config::default()
}

#[tokio::test]
async fn a_repeat_is_kept_and_listed_with_its_reason_and_after_the_quiet_time_the_next_one_tells_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    assert_eq!(site.state(open()).await, State::Queued);
    site.deliver().await;
    site.pass(3);
    let reason = Some("a repeat, 3m after a page; quiet for 10m".to_owned());
    assert_eq!(site.put(open()).await, (State::Counted, reason));
    site.pass(6);
    assert_eq!(site.state(open()).await, State::Counted);
    site = site.again(folder.path(), defaults()).await;
    assert_eq!(site.count(State::Counted).await, 2, "also after a restart");
    site.pass(1);
    assert_eq!(site.state(open()).await, State::Queued);
    let waiting = site.spool.reader().waiting("soc", 0, 10).await.unwrap();
    assert!(waiting[0].payload.ends_with(r#","Repeated":"2 times since the last page"}"#));
    assert_eq!(site.incident().await, (Incident::Open, 4, vec!["2518_1024".to_owned()]));
    let all = IncidentFilter { open: false, team: None, limit: 10 };
    let known = site.spool.reader().incidents(all).await.unwrap();
    assert_eq!(known.len(), 1, "another team has none");
    let known = &known[0].incident;
    assert_eq!((known.opened_at, known.last_at), (start(), start() + SignedDuration::from_mins(10)));
}

#[tokio::test]
async fn two_mails_of_one_incident_in_one_batch_are_judged_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path(), defaults());
    let puts: Vec<_> = (0..50)
        .map(|n| {
            let spool = site.spool.clone();
            let entry = Entry { events: vec![open(), open()], ..mail(n, "soc") };
            tokio::spawn(async move { spool.enqueue(entry).await.unwrap().len() })
        })
        .collect();
    let mut queued = 0;
    for put in puts {
        queued += put.await.unwrap();
    }
    assert_eq!((queued, site.count(State::Counted).await), (1, 99));
}

#[tokio::test]
async fn a_close_follows_its_open_and_the_next_open_pages() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    for event in [open(), close(), close(), open()] {
        assert_eq!(site.state(event).await, State::Queued);
    }
    let statuses: Vec<_> = site.waiting().await.into_iter().map(|(_, status)| status).collect();
    assert_eq!(statuses, [Status::New, Status::Resolved, Status::Resolved, Status::New]);
    assert_eq!(site.state(open()).await, State::Counted);
    // Of an unknown incident it is passed on as well.
    let unknown = Event { external_id: Some("unknown".into()), ..close() };
    assert_eq!(site.state(unknown).await, State::Queued);
}

#[tokio::test]
async fn during_an_outage_one_page_waits_and_not_one_for_each_quiet_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    site.put(open()).await;
    for _ in 0..12 {
        site.pass(11);
        assert_eq!(site.state(open()).await, State::Counted);
    }
    assert_eq!(site.state(event(OPEN, Some(Severity::High))).await, State::Queued, "what is worse pages");
    site.deliver().await;
    // The quiet time counts from when the page left.
    site.pass(9);
    assert_eq!(site.state(open()).await, State::Counted);
    site.pass(1);
    assert_eq!(site.state(open()).await, State::Queued);
}

#[tokio::test]
async fn after_a_page_that_failed_for_good_the_next_open_pages_and_after_a_retry_it_need_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    site.put(open()).await;
    let failed = |seq| Outcome::Failed { seq, at: start(), reason: "400".into(), maybe_taken: false };
    site.spool.record(vec![failed(1024)]).await.unwrap();
    site.spool.retry(Selection::All).await.unwrap();
    assert_eq!(site.state(open()).await, State::Counted);
    site.spool.record(vec![failed(1024)]).await.unwrap();
    assert_eq!(site.state(open()).await, State::Queued);
}

#[tokio::test]
async fn what_is_muted_is_kept_with_its_reason_and_neither_it_nor_its_close_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let muted = Event { muted: Some("maintenance of db01".into()), ..open() };
    assert_eq!(site.put(muted.clone()).await, (State::Muted, Some("maintenance of db01".to_owned())));
    let (state, reason) = site.put(close()).await;
    assert_eq!(
        (state, reason.as_deref()),
        (State::Counted, Some("closes an incident of which no page was sent"))
    );
    site.put(muted).await;
    assert_eq!(site.state(open()).await, State::Queued, "nobody knows of it yet");
    assert_eq!((site.count(State::Muted).await, site.waiting().await.len()), (2, 1));
}

#[tokio::test]
async fn an_operators_will_goes_out_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    site.put(open()).await;
    site.deliver().await;
    site.put(open()).await;
    let story = serde_json::Value::Null;
    let queued = site.spool.rejudge(id(2), vec![open()], None, story).await.unwrap();
    assert_eq!(queued.len(), 1);
    assert_eq!((site.count(State::Counted).await, site.count(State::Dropped).await), (0, 1));
    site.deliver().await;
    assert_eq!(site.state(open()).await, State::Counted);
    assert_eq!(site.incident().await.1, 4);
}

#[tokio::test]
async fn an_open_judged_again_behind_its_close_does_not_keep_the_next_open_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    site.put(open()).await;
    site.put(close()).await;
    site.spool.rejudge(id(1), vec![open()], None, serde_json::Value::Null).await.unwrap();
    let statuses: Vec<_> = site.waiting().await.into_iter().map(|(_, status)| status).collect();
    assert_eq!(statuses, [Status::New, Status::Resolved]);
    assert_eq!(site.state(open()).await, State::Queued);
}

fn holding() -> incident::Config {
    incident::Config { hold: SignedDuration::from_mins(1), ..defaults() }
}

#[tokio::test]
async fn an_open_waits_for_its_close_and_if_that_comes_in_time_neither_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), holding());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    site.spool.tell(move |news: News| hearing.lock().unwrap().push(news));
    assert_eq!(site.state(open()).await, State::Queued);
    let waiting = site.spool.reader().waiting("soc", 0, 10).await.unwrap();
    assert_eq!(waiting[0].next_at, start() + SignedDuration::from_mins(1));
    let (state, reason) = site.put(close()).await;
    assert_eq!((state, reason.as_deref()), (State::Counted, Some("opened and closed within 1m")));
    assert_eq!((site.waiting().await.len(), site.count(State::Counted).await), (0, 2));
    let withdrawn = heard.lock().unwrap().last().unwrap().withdrawn.clone();
    assert_eq!(withdrawn.iter().map(|w| (w.team.as_str(), w.seq)).collect::<Vec<_>>(), [("soc", 1024)]);

    // One that lives longer is sent, and its close with it.
    site.put(open()).await;
    site.pass(1);
    assert_eq!(site.state(close()).await, State::Queued);
    assert_eq!(site.waiting().await.len(), 2);
}

#[tokio::test]
async fn an_open_that_was_posted_though_it_was_withdrawn_is_followed_by_its_close() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), holding());
    site.put(open()).await;
    site.put(close()).await;
    let delivered =
        Outcome::Delivered { seq: 1024, event_id: Some("2518".into()), at: start(), by_way: None };
    site.spool.record(vec![delivered.clone()]).await.unwrap();
    assert_eq!(site.waiting().await, [(2048, Status::Resolved)]);
    site.deliver().await;
    // Told twice it changes nothing.
    site.spool.record(vec![delivered]).await.unwrap();
    assert_eq!(site.waiting().await, []);
    assert_eq!(site.count(State::Delivered).await, 2);
}

#[tokio::test]
async fn a_worse_mail_takes_the_place_of_one_that_is_held_and_pages_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), holding());
    site.put(event(OPEN, Some(Severity::Low))).await;
    assert_eq!(site.state(event(OPEN, Some(Severity::Low))).await, State::Counted);
    assert_eq!(site.state(event(OPEN, Some(Severity::Critical))).await, State::Queued);
    let waiting = site.spool.reader().waiting("soc", 0, 10).await.unwrap();
    assert_eq!(waiting.iter().map(|event| (event.seq, event.next_at)).collect::<Vec<_>>(), [(3072, start())]);
    assert_eq!(site.state(close()).await, State::Queued);
}

#[tokio::test]
async fn an_update_of_what_is_held_is_held_in_its_place_until_the_same_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), incident::Config { repeat: Repeat::Update, ..holding() });
    site.put(open()).await;
    site.clock.advance(SignedDuration::from_secs(40));
    site.put(open()).await;
    let waiting = site.spool.reader().waiting("soc", 0, 10).await.unwrap();
    let held_until = start() + SignedDuration::from_mins(1);
    assert_eq!(
        waiting.iter().map(|event| (event.seq, event.next_at)).collect::<Vec<_>>(),
        [(2048, held_until)]
    );
    assert_eq!(site.state(close()).await, State::Counted);
    assert_eq!(site.waiting().await, []);
}

#[tokio::test]
async fn incidents_are_listed_and_forgotten_when_nobody_asks_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    site.put(open()).await;
    site.put(other(1)).await;
    site.put(close()).await;
    site.deliver().await;
    let list = async |site: &Site, open| {
        let filter = IncidentFilter { open, team: Some("soc".into()), limit: 10 };
        let found = site.spool.reader().incidents(filter).await.unwrap();
        found.into_iter().map(|found| found.incident.external_id).collect::<Vec<_>>()
    };
    assert_eq!(list(&site, false).await, ["incident", "other 1"]);
    assert_eq!(list(&site, true).await, ["other 1"]);
    assert_eq!(site.incident().await.2, ["2518_1024"], "the ids of its opens");

    // After the retention the closed one goes, and the open one a month after its last mail.
    site.pass(8 * 24 * 60);
    site.spool.purge().await.unwrap();
    assert_eq!(list(&site, false).await, ["other 1"]);
    let elsewhere = Event { team: "ops".into(), ..open() };
    site.put(elsewhere).await;
    site.pass(23 * 24 * 60);
    site.spool.purge().await.unwrap();
    assert_eq!(list(&site, false).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_goes_to_another_team_is_an_incident_there_and_its_repeat_pages_the_old_team_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let ops = |event: Event| Event { team: "ops".into(), ..event };
    assert_eq!(site.state(open()).await, State::Queued);
    let moved = site.spool.retarget(id(1), "ops").await.unwrap();
    assert_eq!((moved.len(), moved[0].status), (1, Status::New));

    let filter = IncidentFilter { open: true, team: Some("ops".into()), limit: 10 };
    let found = site.spool.reader().incidents(filter).await.unwrap().remove(0);
    assert!(found.incident.posted && found.incident.mails == 1, "{:?}", found.incident);
    assert_eq!(site.state(ops(open())).await, State::Counted, "its page has yet to leave");
    assert_eq!(site.state(ops(close())).await, State::Queued, "it closes what was sent there");

    assert_eq!(site.state(open()).await, State::Queued, "nobody of the old team was paged");
    site.deliver().await;
    assert_eq!(site.state(open()).await, State::Counted);
}

#[tokio::test]
async fn what_an_incident_had_posted_for_another_team_is_acknowledged_and_closed_there_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let at = site.clock.now();
    let theirs = async |site: &Site| -> Vec<Status> {
        let waiting = site.spool.reader().waiting("ops", 0, 100).await.unwrap();
        let outcomes = waiting.iter().map(|event| Outcome::Delivered {
            seq: event.seq,
            event_id: None,
            at,
            by_way: None,
        });
        site.spool.record(outcomes.collect()).await.unwrap();
        waiting.into_iter().map(|event| event.status).collect()
    };
    for by_an_operator in [false, true] {
        site.put(open()).await;
        let page = id(site.next);
        if by_an_operator {
            site.spool.retarget(page, "ops").await.unwrap();
            assert_eq!(theirs(&site).await, [Status::New]);
        } else {
            let (seq, _) = site.waiting().await[0];
            let by_way = Some("ops".to_owned());
            site.spool.record(vec![Outcome::Delivered { seq, event_id: None, at, by_way }]).await.unwrap();
            let shown = site.spool.reader().show(page).await.unwrap().unwrap();
            assert_eq!(shown.events[0].listed.reason.as_deref(), Some("by way of team ops"));
        }
        site.put(Event { status: Status::Acknowledged, ..open() }).await;
        site.deliver().await;
        assert_eq!(theirs(&site).await, [Status::Acknowledged]);
        site = site.again(folder.path(), defaults()).await;
        site.put(close()).await;
        let statuses: Vec<_> = site.waiting().await.into_iter().map(|(_, status)| status).collect();
        assert_eq!(statuses, [Status::Resolved], "its own team first of all");
        site.deliver().await;
        assert_eq!(theirs(&site).await, [Status::Resolved]);
        site.put(close()).await;
        site.deliver().await;
        assert_eq!(theirs(&site).await, [], "there is nothing left to close");
    }
    let filter = IncidentFilter { open: false, team: Some("ops".into()), limit: 10 };
    let found = site.spool.reader().incidents(filter).await.unwrap().remove(0);
    assert_eq!(found.incident.state, Incident::Resolved);
}

#[tokio::test]
async fn a_close_that_is_for_another_team_as_well_is_posted_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let at = site.clock.now();
    site.put(open()).await;
    let (seq, _) = site.waiting().await[0];
    let by_way = Some("ops".to_owned());
    site.spool.record(vec![Outcome::Delivered { seq, event_id: None, at, by_way }]).await.unwrap();
    let theirs = Event { team: "ops".into(), ..close() };
    site.entry(Entry { events: vec![theirs, close()], ..mail(0, "soc") }).await;
    assert_eq!(site.spool.reader().waiting("ops", 0, 100).await.unwrap().len(), 1);
    assert_eq!(site.waiting().await.len(), 1);
}

#[tokio::test]
async fn a_retry_of_all_leaves_what_a_later_mail_of_the_incident_has_overtaken() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let fail = async |site: &Site| {
        let at = site.clock.now();
        let failed = |(seq, _)| Outcome::Failed { seq, at, reason: "400".into(), maybe_taken: false };
        let outcomes = site.waiting().await.into_iter().map(failed).collect();
        site.spool.record(outcomes).await.unwrap();
    };
    let retry = async |site: &Site| {
        let again = site.spool.retry(Selection::All).await.unwrap();
        again.into_iter().map(|event| event.status).collect::<Vec<_>>()
    };
    site.put(open()).await;
    fail(&site).await;
    site.put(close()).await;
    fail(&site).await;
    assert_eq!(retry(&site).await, [Status::New, Status::Resolved], "all of it failed: all of it goes");
    fail(&site).await;

    site.put(open()).await;
    site.deliver().await;
    assert_eq!(retry(&site).await, [], "the close would close the alert of the later page");
    let one = site.spool.retry(Selection::Mail(id(2))).await.unwrap();
    assert_eq!(one.len(), 1, "an operator who names it gets it");
    site.deliver().await;

    site.put(close()).await;
    site.deliver().await;
    site.put(open()).await;
    fail(&site).await;
    site.put(close()).await;
    site.deliver().await;
    assert_eq!(retry(&site).await, [], "nobody is woken for what is over");
}

#[tokio::test]
async fn what_was_under_way_when_it_was_given_to_another_team_was_a_page_of_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    site.state(open()).await;
    let (under_way, _) = site.waiting().await[0];
    site.spool.retarget(id(1), "ops").await.unwrap();
    let at = site.clock.now();
    let done = Outcome::Delivered { seq: under_way, event_id: Some("2518_1".into()), at, by_way: None };
    site.spool.record(vec![done]).await.unwrap();
    assert_eq!(site.state(open()).await, State::Counted);
}

#[tokio::test]
async fn what_was_kept_and_not_sent_stays_where_it_is_when_the_rest_goes_to_another_team() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let muted = Event { muted: Some("maintenance".into()), ..other(2) };
    let entry = Entry { events: vec![other(1), other(1), muted], ..mail(0, "soc") };
    let states = |events: Vec<Listed>| events.into_iter().map(|event| event.state).collect::<Vec<_>>();
    assert_eq!(states(site.entry(entry).await), [State::Queued, State::Counted, State::Muted]);
    assert_eq!(site.spool.retarget(id(1), "ops").await.unwrap().len(), 1);
    assert_eq!((site.count(State::Counted).await, site.count(State::Muted).await), (1, 1));
}
