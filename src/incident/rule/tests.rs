//! The law of incidents, each sentence of it, without a database: rows are a list, and what waits is a set.

mod followers;

use std::collections::BTreeSet;
use std::convert::Infallible;

use super::*;
use crate::event::{Guess, Mark};
use crate::mail::Trust;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_194_000 + seconds).expect("a time of our days")
}

/// A team with all that its spool would know.
struct World {
    rows: Vec<Row>,
    storms: Storms,
    config: Config,
    waits: BTreeSet<u64>,
    next: u64,
    now: i64,
}

/// A mail: what it says and who says so.
#[derive(Clone)]
struct Mail {
    key: Option<String>,
    status: Status,
    severity: Option<Severity>,
    identity: Identity,
    handed_in: Option<&'static str>,
    replayed: bool,
}

/// An open of a shipped rule's key, from an installation that is trusted.
fn of(family: &str, instance: &str, key: &str) -> Mail {
    let identity = Identity {
        key_source: KeySource::Shipped,
        family: Some(family.to_owned()),
        form: Some(family.to_owned()),
        instance: instance.to_owned(),
        domain: instance.rsplit('@').next().unwrap_or_default().to_owned(),
        ..Identity::default()
    };
    Mail {
        key: Some(key.to_owned()),
        status: Status::New,
        severity: None,
        identity,
        handed_in: None,
        replayed: false,
    }
}

/// A text of a guessed key.
fn text(base: &str, hash: &str) -> Mail {
    let mut mail = of("", "sender@site.example", &format!("{base}#{hash}"));
    mail.identity.key_source = KeySource::Guess;
    mail.identity.guess = Some(Guess { base: base.to_owned(), mark: None });
    mail
}

impl Mail {
    fn with(mut self, change: impl FnOnce(&mut Identity)) -> Self {
        change(&mut self.identity);
        self
    }

    fn stranger(self) -> Self {
        self.with(|identity| identity.trust = Trust::Stranger)
    }

    fn proven(self) -> Self {
        self.with(|identity| identity.trust = Trust::Proven)
    }

    fn by(self, source: KeySource) -> Self {
        self.with(|identity| identity.key_source = source)
    }

    fn marked(self, mark: Mark) -> Self {
        let status = if mark == Mark::End { Status::Resolved } else { Status::New };
        let marked = self.with(|identity| identity.guess.as_mut().expect("a guess").mark = Some(mark));
        Self { status, ..marked }
    }

    fn closes(self) -> Self {
        Self { status: Status::Resolved, ..self }
    }

    fn rated(self, severity: Severity) -> Self {
        Self { severity: Some(severity), ..self }
    }

    fn written(self, seconds: i64) -> Self {
        self.with(|identity| identity.sent_at = Some(at(seconds)))
    }
}

impl World {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        Self { rows: vec![], storms: Storms::default(), config, waits: BTreeSet::new(), next: 1024, now: 0 }
    }

    /// What becomes of a mail that comes now.
    fn take(&mut self, mail: &Mail) -> Ruling {
        self.take_as(Will::Laws, mail)
    }

    fn take_as(&mut self, will: Will, mail: &Mail) -> Ruling {
        let report = Report { status: mail.status, severity: mail.severity, ..Report::default() };
        let base = mail.identity.guess.as_ref().map(|guess| guess.base.clone());
        let since = at(self.now) - self.config.quiet;
        let texts = self.rows.iter().filter(|row| {
            row.page_seq.is_some()
                && base.is_some()
                && row.source.base == base
                && row.source.stranger == mail.identity.trust.is_stranger()
                && Some(&row.key) != mail.key.as_ref()
                && row.incident.paged_at.is_some_and(|at| at > since)
        });
        let case = Case {
            seq: self.next,
            room: 1_000,
            team: "soc",
            key: mail.key.as_deref(),
            posted_as: None,
            report,
            identity: &mail.identity,
            source: mail.identity.family.as_deref().unwrap_or_default(),
            will,
            rows: &self.rows,
            handed_in: mail.handed_in,
            replayed: mail.replayed,
            texts: texts.count(),
            allowance: 10,
            retention: SignedDuration::from_hours(7 * 24),
            now: at(self.now),
        };
        let page = |row: &Row| {
            let waits = row.page_seq.is_some_and(|seq| self.waits.contains(&seq));
            Ok::<_, Infallible>(if waits { Page::Waits } else { Page::Gone })
        };
        let Ok(mut ruling) = rule(&case, page, &mut self.storms, &self.config);
        if let Some(Ticket { flood, storm, .. }) = ruling.ticket.clone() {
            let number = storm.unwrap_or(self.next);
            self.storms.rage("soc", &flood, number);
            ruling.fold_into(number);
        }
        for row in &ruling.rows {
            match self.rows.iter_mut().find(|known| known.id == row.id) {
                Some(known) => *known = row.clone(),
                None => self.rows.push(row.clone()),
            }
        }
        self.next += 1024;
        ruling
    }

    fn verdict(&mut self, mail: &Mail) -> Verdict {
        self.take(mail).verdict
    }

    fn pages(&mut self, mail: &Mail) -> bool {
        self.verdict(mail).pages()
    }

    /// The ids that a close is sent under.
    fn closes(&mut self, mail: &Mail) -> Vec<String> {
        let ruling = self.take(mail);
        let sent = (ruling.verdict == Verdict::Pass).then_some(ruling.external_id).flatten();
        let further = ruling.further.into_iter().filter(|further| further.verdict == Verdict::Pass);
        sent.into_iter().chain(further.map(|further| further.external_id)).collect()
    }

    fn reason(&mut self, mail: &Mail) -> String {
        match self.verdict(mail) {
            Verdict::Count { reason } => reason,
            other => panic!("it is counted, not {other:?}"),
        }
    }

    fn open(&self, key: &str) -> usize {
        self.rows.iter().filter(|row| row.key == key && row.is_open()).count()
    }
}

#[test]
fn the_first_open_of_a_known_sender_pages_under_the_same_id_though_a_stranger_holds_the_key() {
    let mut world = World::new();
    assert!(world.pages(&of("nagios", "nagios@site.example", "host").stranger()));
    for trust in [Trust::Proven, Trust::Trusted] {
        let mut world = World { rows: world.rows.clone(), ..World::new() };
        let known = of("nagios", "nagios@site.example", "host").with(|identity| identity.trust = trust);
        let ruling = world.take(&known);
        assert_eq!((ruling.verdict, ruling.external_id.as_deref()), (Verdict::Page, Some("host")));
        assert_eq!(ruling.rows[0].trust, Some(trust));
        assert!(!world.pages(&known), "its own repeat is one");
    }
}

#[test]
fn nothing_of_a_stranger_closes_or_acknowledges() {
    let mut world = World::new();
    let open = of("nagios", "nagios@site.example", "host");
    world.take(&open);
    for status in [Status::Resolved, Status::Acknowledged] {
        for source in [KeySource::Shipped, KeySource::Site, KeySource::Parameters, KeySource::Guess] {
            let close = Mail { status, ..open.clone().stranger().by(source) };
            assert!(world.reason(&close).contains("nothing proves"));
        }
    }
    assert_eq!(world.open("host"), 1);
}

#[test]
fn two_installations_are_two_and_each_closes_its_own() {
    let mut world = World::new();
    let [first, second] = ["zabbix@a.example", "zabbix@b.example"].map(|from| of("zabbix", from, "4711"));
    assert_eq!(world.take(&first).external_id.as_deref(), Some("4711"));
    let ruling = world.take(&second);
    assert_eq!(ruling.verdict, Verdict::Page);
    assert_eq!(ruling.external_id.as_deref(), Some("4711@zabbix@b.example"));
    assert!(ruling.note.is_some_and(|note| note.contains("another source")));
    assert_eq!(world.closes(&second.clone().closes()), ["4711@zabbix@b.example"]);
    assert_eq!(world.open("4711"), 1, "the other's stays open");
    assert_eq!(world.closes(&first.clone().closes()), ["4711"]);
    assert_eq!(world.take(&second).external_id.as_deref(), Some("4711"), "while nobody else holds it");
}

#[test]
fn a_stranger_makes_no_known_senders_id_longer_but_gets_a_longer_one_himself() {
    let mut world = World::new();
    world.take(&of("zabbix", "evil@x.example", "4711").stranger());
    let known = of("zabbix", "zabbix@a.example", "4711");
    assert_eq!(world.take(&known).external_id.as_deref(), Some("4711"));
    let other = world.take(&of("zabbix", "evil@y.example", "4711").stranger());
    assert_eq!(other.external_id.as_deref(), Some("4711@evil@y.example"));
    let mut world = World::new();
    world.take(&known);
    let same = world.take(&known.clone().stranger());
    assert_eq!(
        (same.verdict, same.external_id.as_deref()),
        (Verdict::Page, Some("4711")),
        "of the same source"
    );
}

#[test]
fn keys_of_the_sites_own_rules_parameters_and_the_operator_never_get_longer() {
    for source in [KeySource::Site, KeySource::Parameters, KeySource::Operator, KeySource::Guess] {
        let mut world = World::new();
        world.take(&of("zabbix", "zabbix@a.example", "k"));
        let own = world.take(&of("", "other@b.example", "k").by(source));
        assert_eq!(own.external_id.as_deref(), Some("k"), "{source:?}");
    }
}

#[test]
fn a_sites_own_rule_joins_sources_and_its_close_closes_them_all() {
    let mut world = World::new();
    let product = of("zabbix", "zabbix@a.example", "db7");
    world.take(&product);
    world.take(&of("nagios", "nagios@b.example", "db7"));
    let site = of("", "x@c.example", "db7").by(KeySource::Site);
    assert!(!world.pages(&site), "it is a repeat of what is open");
    assert_eq!(world.closes(&site.closes()).len(), 2);
    assert_eq!(world.open("db7"), 0);
}

#[test]
fn the_operator_closes_by_key_and_by_posted_id() {
    let mut world = World::new();
    let [first, second] = ["z@a.example", "z@b.example"].map(|from| of("zabbix", from, "1"));
    world.take(&first);
    world.take(&second);
    let operator = |key: &str| of("", "", key).by(KeySource::Operator).closes();
    assert_eq!(world.closes(&operator("1@z@b.example")), ["1@z@b.example"]);
    assert_eq!(world.open("1"), 1);
    world.take(&second);
    assert_eq!(world.closes(&operator("1")).len(), 2);
}

#[test]
fn parameters_close_only_what_parameters_opened() {
    let mut world = World::new();
    world.take(&of("nagios", "nagios@a.example", "host"));
    let parameters = of("", "form@a.example", "host").by(KeySource::Parameters);
    let reason = world.reason(&parameters.clone().closes());
    assert_eq!(reason, "closes nothing that this source opened; nagios@a.example holds this key");
    assert!(world.pages(&parameters));
    assert_eq!(world.closes(&parameters.closes()), ["host"]);
    assert_eq!(world.open("host"), 1);
}

#[test]
fn a_close_of_another_installation_or_product_closes_nothing() {
    let mut world = World::new();
    world.take(&of("nagios", "nagios@a.example", "host"));
    for other in [of("nagios", "nagios@b.example", "host"), of("icinga", "nagios@a.example", "host")] {
        assert!(world.reason(&other.closes()).starts_with("closes nothing that this source opened"));
    }
    assert_eq!(world.open("host"), 1);
}

#[test]
fn a_close_of_what_nobody_knows_is_sent_as_it_is() {
    let mut world = World::new();
    assert_eq!(world.closes(&of("nagios", "nagios@a.example", "host").closes()), ["host"]);
}

#[test]
fn the_other_machine_of_a_pair_closes_the_only_incident_of_its_domain_and_the_line_is_named() {
    let pair = |name: &str| of("zabbix", &format!("{name}@a.example"), "4711");
    for trust in [Trust::Trusted, Trust::Proven] {
        let mut world = World::new();
        world.take(&pair("zbx1"));
        let ruling = world.take(&pair("zbx2").with(|identity| identity.trust = trust).closes());
        assert_eq!((ruling.verdict, ruling.external_id.as_deref()), (Verdict::Pass, Some("4711")));
        let told = crate::incident::advice(&ruling.note.expect("a remark")).expect("advice");
        let parts = ["a mail closed", "[rules.instances]", "zbx1@a.example", "zbx2@a.example"];
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
    let mut world = World::new();
    world.take(&pair("zbx1"));
    world.take(&pair("zbx3"));
    assert!(world.reason(&pair("zbx2").closes()).contains("closes nothing"), "there are two");
    let mut world = World::new();
    world.take(&of("zabbix", "kim@b.example", "4711").with(|of| of.domain = "a.example".to_owned()));
    let note = world.take(&pair("zbx2").closes()).note.expect("a remark");
    assert!(note.starts_with("closes what kim@b.example passed on"), "{note}");
    assert!(crate::incident::advice(&note).is_none());
}

#[test]
fn the_forms_of_one_family_share_a_key_within_a_domain() {
    let mut world = World::new();
    let form = |form: &str, from: &str| {
        of("thehive", from, "~4120").with(|identity| identity.form = Some(form.to_owned()))
    };
    world.take(&form("thehive-case", "hive@a.example"));
    assert!(!world.pages(&form("cortex", "cortex@a.example")), "one incident");
    assert!(world.pages(&form("cortex", "cortex@b.example")), "of another domain");
    assert_eq!(world.closes(&form("cortex", "cortex@a.example").closes()), ["~4120"]);
}

#[test]
fn a_known_senders_close_closes_the_strangers_incident_of_the_same_source_with_one_post() {
    let mut world = World::new();
    let known = of("nagios", "nagios@a.example", "host");
    world.take(&known.clone().stranger());
    world.take(&known);
    assert_eq!(world.closes(&known.clone().closes()), ["host"]);
    assert_eq!(world.open("host"), 0);
    world.take(&known.clone().stranger());
    assert_eq!(world.closes(&known.closes()), ["host"], "also if only that is there");
}

#[test]
fn a_strangers_incident_whose_page_waits_gets_a_close_of_its_own_behind_it() {
    let mut world = World::new();
    let known = of("nagios", "nagios@a.example", "host");
    let page = world.take(&known.clone().stranger()).rows[0].page_seq.expect("it paged");
    world.take(&known);
    world.waits.insert(page);
    assert_eq!(world.closes(&known.closes()), ["host", "host"]);
}

#[test]
fn a_mail_that_is_handed_in_again_neither_pages_nor_opens_again() {
    let mut world = World::new();
    let mail = of("nagios", "nagios@a.example", "host");
    world.take(&mail);
    world.take(&mail.clone().closes());
    let again = Mail { handed_in: Some("1A"), ..mail };
    assert_eq!(world.reason(&again), "handed in again: it is mail 1A");
    assert_eq!(world.open("host"), 0);
    assert_eq!(world.reason(&Mail { key: None, ..again }), "handed in again: it is mail 1A");
}

#[test]
fn a_proven_close_that_was_written_before_its_open_or_was_seen_before_is_a_replay() {
    let mut world = World::new();
    let mail = of("nagios", "nagios@a.example", "host").proven();
    world.take(&mail.clone().written(10_000));
    assert!(world.reason(&mail.clone().closes().written(10_000 - 601)).contains("replay"));
    assert!(world.reason(&Mail { replayed: true, ..mail.clone().closes() }).contains("signature was seen"));
    assert_eq!(world.open("host"), 1);
    assert_eq!(world.closes(&mail.clone().closes().written(10_000 - 600)), ["host"], "clocks differ");
    world.take(&mail.clone().written(20_000));
    assert_eq!(world.closes(&mail.closes()), ["host"], "without a time only the signature counts");
}

#[test]
fn each_text_of_a_guessed_key_is_an_incident_of_its_own() {
    let mut world = World::new();
    assert!(world.pages(&text("idrac", "psu 1 failed")));
    assert!(world.pages(&text("idrac", "drive 4 removed")));
    assert!(!world.pages(&text("idrac", "psu 1 failed")));
}

#[test]
fn five_texts_of_a_guessed_key_page_one_by_one_and_the_others_in_a_digest_until_it_is_quiet() {
    let mut world = World::new();
    for n in 0..TEXTS {
        assert!(world.pages(&text("idrac", &n.to_string())), "text {n}");
        world.now += 60;
    }
    for n in TEXTS..TEXTS + 3 {
        let ruling = world.take(&text("idrac", &n.to_string()).rated(Severity::Critical));
        assert_eq!(ruling.verdict, Verdict::Fold, "text {n}");
        let ticket = ruling.ticket.expect("a storm");
        assert_eq!((ticket.flood.kind, ticket.storm.is_some()), (Kind::Texts, n > TEXTS));
    }
    assert!(world.pages(&text("other", "a")), "of another sender");
    assert!(world.pages(&text("idrac", "a").stranger()), "strangers have a bound of their own");
    let mut later = World { storms: Storms::default(), now: 2_000, ..world };
    assert!(later.pages(&text("idrac", "z")), "the quiet time is over and so is the storm");
}

#[test]
fn an_end_mark_closes_what_problems_of_the_same_subject_opened_each_under_its_own_id() {
    let mut world = World::new();
    for hash in ["a", "b"] {
        world.take(&text("backup", hash).marked(Mark::Problem));
    }
    world.take(&text("backup", "note"));
    world.take(&text("backup", "a").marked(Mark::Problem).stranger());
    let mut closed = world.closes(&text("backup", "fine").marked(Mark::End));
    closed.sort();
    assert_eq!(closed, ["backup#a", "backup#b"]);
    assert_eq!((world.open("backup#a"), world.open("backup#note")), (0, 1), "what no problem opened stays");
    assert!(world.pages(&text("backup", "a").marked(Mark::Problem)), "a problem after an end pages");
}

#[test]
fn an_end_mark_without_a_problem_pages_as_low() {
    let mut world = World::new();
    let end = text("vpn", "brute force").marked(Mark::End);
    let ruling = world.take(&end);
    assert_eq!(
        (ruling.verdict, ruling.status, ruling.severity),
        (Verdict::Page, Status::New, Some(Severity::Low))
    );
    assert!(matches!(world.verdict(&end), Verdict::Count { .. }), "its repeat is one");
    world.take(&text("vpn", "brute force").marked(Mark::Problem));
    assert_eq!(world.take(&end).status, Status::Resolved, "a problem of the same text has its end");
    let mut world = World::new();
    world.take(&text("vpn", "a").marked(Mark::Problem));
    world.now = 8 * 24 * 3_600;
    assert_eq!(world.take(&end).status, Status::New, "the problem is further back than retention");
}

#[test]
fn a_severity_that_a_later_text_of_the_same_key_raises_pages() {
    let mut world = World::new();
    world.take(&text("backup", "a").marked(Mark::Problem).rated(Severity::Medium));
    assert!(world.pages(&text("backup", "a").marked(Mark::Problem).rated(Severity::Critical)));
}

#[test]
fn what_an_operator_releases_goes_out_whatever_the_law_says() {
    let mut world = World::new();
    let mail = of("nagios", "nagios@a.example", "host");
    world.take(&mail);
    for released in [mail.clone(), mail.clone().stranger(), Mail { handed_in: Some("1A"), ..mail.clone() }] {
        assert_eq!(world.take_as(Will::Operator, &released).verdict, Verdict::Page);
    }
    for close in [mail.clone().stranger(), of("nagios", "nagios@b.example", "host"), mail] {
        assert_eq!(world.take_as(Will::Operator, &close.closes()).verdict, Verdict::Pass);
    }
}

#[test]
fn what_follows_an_incident_to_another_team_goes_there_under_its_own_id() {
    let mut world = World::new();
    world.take(&of("nagios", "nagios@b.example", "host"));
    let close = of("nagios", "nagios@a.example", "host").closes();
    let ruling = world.take_as(Will::Follow, &close);
    assert_eq!((ruling.verdict, ruling.rows.len()), (Verdict::Pass, 0));
    assert_eq!(world.open("host"), 1, "what that team has of its own stays open");
}

#[test]
fn a_strangers_flood_folds_no_page_of_a_known_sender() {
    let storm = crate::incident::Storm { after: Some(3), ..crate::incident::Storm::default() };
    let mut world = World::with(Config { storm: Some(storm), ..Config::default() });
    let fakes = (0..300).map(|n| of("nagios", "evil@x.example", &format!("fake {n}")).stranger());
    let folded = fakes.filter(|fake| world.verdict(fake) == Verdict::Fold).count();
    assert!(folded > 290, "{folded}");
    let too_many = of("zabbix", "evil@x.example", "1").stranger().with(|identity| identity.excess = true);
    assert_eq!(world.verdict(&too_many), Verdict::Fold, "without a storm before it");
    assert_eq!(world.verdict(&of("nagios", "nagios@a.example", "real")), Verdict::Page);
}
