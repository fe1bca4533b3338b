//! Who an alert is and who may touch it, as the spool keeps it: the law itself has its tests beside it.

use smtp2signl4::event::{Event, Guess, Identity, KeySource, Mark, Severity, Status};
use smtp2signl4::incident;
use smtp2signl4::mail::Trust;
use smtp2signl4::spool::{Entry, IncidentFilter, KnownIncident, State};

use crate::incidents::{Site, defaults};
use crate::{id, mail};

/// An open of a product's installation.
fn of(instance: &str, key: &str) -> Event {
    Event {
        team: "soc".into(),
        title: format!("{key} of {instance}"),
        external_id: Some(key.into()),
        identity: Identity {
            key_source: KeySource::Shipped,
            family: Some("zabbix".into()),
            form: Some("zabbix".into()),
            instance: instance.into(),
            domain: instance.rsplit('@').next().unwrap().into(),
            ..Identity::default()
        },
        ..Event::default()
    }
}

/// A text of a guessed key.
fn text(hash: &str, mark: Option<Mark>) -> Event {
    let mut event = of("backup@a.example", &format!("backup#{hash}"));
    event.message = format!("What is wrong: {hash}");
    event.identity.key_source = KeySource::Guess;
    event.identity.guess = Some(Guess { base: "backup".into(), mark });
    if mark == Some(Mark::End) {
        event.status = Status::Resolved;
    }
    event
}

fn strangers(mut event: Event) -> Event {
    event.identity.trust = Trust::Stranger;
    event
}

fn closes(event: Event) -> Event {
    Event { status: Status::Resolved, ..event }
}

/// What waits to be posted: the external id, the status and the severity of each payload.
async fn posts(site: &Site) -> Vec<(String, String, String)> {
    let waiting = site.spool.reader().waiting("soc", 0, 1_000).await.unwrap();
    let of = |payload: &str| {
        let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
        ["X-S4-ExternalID", "X-S4-Status", "Severity"]
            .map(|key| payload[key].as_str().unwrap_or_default().to_owned())
            .into()
    };
    waiting.iter().map(|event| of(&event.payload)).collect()
}

async fn known(site: &Site) -> Vec<KnownIncident> {
    let filter = IncidentFilter { open: true, team: None, limit: 100 };
    site.spool.reader().incidents(filter).await.unwrap()
}

#[tokio::test]
async fn what_is_posted_has_the_id_of_its_installation_and_each_has_a_lane_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    for instance in ["zbx@a.example", "zbx@b.example"] {
        assert_eq!(site.state(of(instance, "4711")).await, State::Queued);
    }
    let waiting = site.spool.reader().waiting("soc", 0, 10).await.unwrap();
    assert_eq!(waiting[0].external_id.as_deref(), Some("4711"));
    assert_eq!(waiting[1].external_id.as_deref(), Some("4711@zbx@b.example"));
    assert_ne!(waiting[0].incident, waiting[1].incident);
    site.deliver().await;
    site.put(closes(of("zbx@b.example", "4711"))).await;
    let told = ("4711@zbx@b.example".to_owned(), "resolved".to_owned(), String::new());
    assert_eq!(posts(&site).await, [told]);
    let open = known(&site).await;
    assert_eq!((open.len(), open[0].instance.as_str()), (1, "zbx@a.example"));
    assert_eq!((open[0].class, open[0].key.as_str()), (Some(Trust::Trusted), "4711"));
}

#[tokio::test]
async fn a_strangers_incident_is_apart_from_that_of_a_known_sender_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let event = of("zbx@a.example", "4711");
    assert_eq!(site.state(strangers(event.clone())).await, State::Queued);
    site = site.again(folder.path(), defaults()).await;
    assert_eq!(site.state(event.clone()).await, State::Queued);
    let (state, reason) = site.put(strangers(closes(event.clone()))).await;
    assert_eq!(state, State::Counted);
    assert!(reason.unwrap().contains("nothing proves"));
    assert_eq!(known(&site).await.len(), 2);
    let waiting = site.spool.reader().waiting("soc", 0, 10).await.unwrap();
    assert_eq!(waiting.iter().map(|event| event.stranger).collect::<Vec<_>>(), [true, false]);
    site.deliver().await;
    site.put(closes(event)).await;
    assert_eq!(posts(&site).await.len(), 1, "one post closes both");
    assert_eq!(known(&site).await, []);
}

#[tokio::test]
async fn an_end_mark_closes_each_text_and_one_without_a_problem_pages_as_low() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    for hash in ["a", "b", "c"] {
        site.put(text(hash, Some(Mark::Problem))).await;
    }
    site.deliver().await;
    assert_eq!(site.state(text("fine", Some(Mark::End))).await, State::Queued);
    let mut told: Vec<String> =
        posts(&site).await.into_iter().map(|(id, status, _)| id + " " + &status).collect();
    told.sort();
    assert_eq!(told, ["backup#a resolved", "backup#b resolved", "backup#c resolved"]);
    site.deliver().await;
    let (state, _) = site.put(text("fine", Some(Mark::End))).await;
    assert_eq!(state, State::Queued);
    let low = ("backup#fine".to_owned(), "new".to_owned(), "low".to_owned());
    assert_eq!(posts(&site).await, [low]);
}

#[tokio::test]
async fn the_sixth_text_of_a_guessed_key_is_told_in_a_digest_and_the_bound_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    for n in 0..3 {
        assert_eq!(site.state(text(&n.to_string(), None)).await, State::Queued);
    }
    site = site.again(folder.path(), defaults()).await;
    for n in 3..5 {
        assert_eq!(site.state(text(&n.to_string(), None)).await, State::Queued);
    }
    let critical = Event { severity: Some(Severity::Critical), ..text("5", None) };
    assert_eq!(site.state(critical).await, State::Folded);
    site = site.again(folder.path(), defaults()).await;
    assert_eq!(site.state(text("6", None)).await, State::Folded);
    let storm = site.spool.reader().storms().await.unwrap().remove(0);
    assert_eq!((storm.kind, storm.stranger, storm.folded), (incident::Kind::Texts, false, 2));
    assert_eq!((storm.severity, storm.source.as_deref()), (Some(Severity::Critical), Some("backup")));
    let folded = site.spool.reader().folded(storm.id, 0, 10).await.unwrap();
    assert_eq!(folded[1].message, "What is wrong: 6");
    let mut later = text("7", None);
    later.identity.guess = Some(Guess { base: "another".into(), mark: None });
    assert_eq!(site.state(later).await, State::Queued);
}

/// The same mail, as a relay hands it in.
fn handed_in(way: &str, event: Event) -> Entry {
    let content = format!(
        "Received: {way}\r\nMessage-ID: <1@a.example>\r\nDate: Fri, 20 Nov 2026 17:00:00 +0000\r\n\r\nText.\r\n"
    );
    let plain = mail(0, "soc");
    let mut envelope = plain.envelope.clone();
    envelope.reverse_path = "zbx@a.example".into();
    Entry { events: vec![event], content: Some(content.into_bytes().into()), envelope, ..plain }
}

#[tokio::test]
async fn a_mail_that_is_handed_in_again_after_its_close_is_counted_for_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let event = of("zbx@a.example", "4711");
    assert_eq!(site.entry(handed_in("one", event.clone())).await[0].state, State::Queued);
    site.deliver().await;
    site.put(closes(event.clone())).await;
    site.pass(23 * 60);
    site = site.again(folder.path(), defaults()).await;
    let again = site.entry(handed_in("two", event.clone())).await.remove(0);
    assert_eq!(again.state, State::Counted);
    assert_eq!(again.reason.unwrap(), format!("handed in again: it is mail {}", id(1)));
    assert_eq!(known(&site).await, []);
    site.pass(2 * 60);
    assert_eq!(site.entry(handed_in("two", event)).await[0].state, State::Queued);
}

#[tokio::test]
async fn what_a_stranger_hands_in_first_does_not_keep_the_same_mail_of_a_known_sender_quiet() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let event = of("zbx@a.example", "4711");
    assert_eq!(site.entry(handed_in("one", strangers(event.clone()))).await[0].state, State::Queued);
    assert_eq!(site.entry(handed_in("two", event.clone())).await[0].state, State::Queued);
    assert_eq!(site.entry(handed_in("three", strangers(event))).await[0].state, State::Counted);
}

#[tokio::test]
async fn redelivery_can_be_switched_off_and_a_mail_without_message_id_follows_the_usual_law() {
    let folder = tempfile::tempdir().unwrap();
    let off = incident::Config { redelivery: jiff::SignedDuration::ZERO, ..defaults() };
    let mut site = Site::new(folder.path(), off);
    let event = of("zbx@a.example", "4711");
    for _ in 0..2 {
        assert_eq!(site.entry(handed_in("one", event.clone())).await[0].state, State::Queued);
        site.put(closes(event.clone())).await;
    }
    site = site.again(folder.path(), defaults()).await;
    for _ in 0..2 {
        assert_eq!(site.state(event.clone()).await, State::Queued);
        site.put(closes(event.clone())).await;
    }
}

#[tokio::test]
async fn a_close_whose_signature_was_seen_before_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let mut close = closes(of("zbx@a.example", "4711"));
    close.identity.trust = Trust::Proven;
    close.identity.signature = Some("abc".into());
    site.put(of("zbx@a.example", "4711")).await;
    assert_eq!(site.state(close.clone()).await, State::Queued);
    site.put(of("zbx@a.example", "4711")).await;
    site = site.again(folder.path(), defaults()).await;
    let (state, reason) = site.put(close).await;
    assert_eq!(state, State::Counted);
    assert!(reason.unwrap().contains("replay"));
    assert_eq!(known(&site).await.len(), 1);
}

#[tokio::test]
async fn an_incident_shows_what_was_kept_of_it_and_what_its_page_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let event = |text: &str| Event { message: text.into(), ..of("zbx@a.example", "4711") };
    for text in ["95 %", "96 %", "97 %"] {
        site.put(event(text)).await;
    }
    let incident = known(&site).await.remove(0);
    assert_eq!(incident.page.as_deref(), Some("4711 of zbx@a.example\n95 %"));
    let texts: Vec<&str> = incident.kept.iter().map(|kept| kept.text.lines().last().unwrap()).collect();
    assert_eq!(texts, ["97 %", "96 %"], "the latest first");
    assert!(incident.kept[0].reason.as_deref().unwrap().starts_with("a repeat"));
}

#[tokio::test]
async fn an_event_of_another_team_keeps_its_identity_and_its_close_follows_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::new(folder.path(), defaults());
    let event = of("zbx@b.example", "4711");
    site.put(of("zbx@a.example", "4711")).await;
    site.put(event.clone()).await;
    site.spool.retarget(id(2), "ops").await.unwrap();
    site.deliver().await;
    site.put(closes(event)).await;
    let waiting = site.spool.reader().waiting("ops", 0, 10).await.unwrap();
    let told: Vec<_> = waiting.iter().map(|event| (event.status, event.external_id.as_deref())).collect();
    assert_eq!(told, [(Status::New, Some("4711")), (Status::Resolved, Some("4711"))]);
    assert_eq!(waiting[0].incident, waiting[1].incident, "the close goes behind the page");
}
