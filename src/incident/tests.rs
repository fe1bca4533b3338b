//! The laws of an incident, in one line each, and against a reference with random histories.

use fastrand::Rng;

use super::*;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_mins(minutes)
}

const HELD: Page = Page::Held(Timestamp::MAX);

fn new(severity: Severity) -> Report<'static> {
    Report { severity: Some(severity), ..Report::default() }
}

const RESOLVED: Report<'_> =
    Report { status: Status::Resolved, severity: None, repeat: None, quiet: None, muted: None };
const ACKNOWLEDGED: Report<'_> = Report { status: Status::Acknowledged, ..RESOLVED };
const MUTED: Report<'_> = Report { status: Status::New, muted: Some("maintenance"), ..RESOLVED };

/// An incident and what becomes of what is told of it.
struct Story {
    config: Config,
    incident: Option<Incident>,
}

impl Story {
    fn new() -> Self {
        Self { config: Config::default(), incident: None }
    }

    fn with(config: Config) -> Self {
        Self { config, incident: None }
    }

    fn tell_at(&mut self, minutes: i64, page: Page, report: &Report<'_>) -> Verdict {
        let verdict = decide(self.incident.as_ref(), page, report, &self.config, at(minutes));
        self.take(minutes, report, &verdict);
        verdict
    }

    fn take(&mut self, minutes: i64, report: &Report<'_>, verdict: &Verdict) {
        let known = self.incident.take();
        self.incident = Some(Incident::after(known, ("soc", "a"), report, verdict, at(minutes)));
    }

    fn tell(&mut self, minutes: i64, report: &Report<'_>) -> Verdict {
        self.tell_at(minutes, Page::Gone, report)
    }

    fn incident(&self) -> &Incident {
        self.incident.as_ref().expect("something was told")
    }
}

fn counted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Count { .. })
}

fn again(repeats: u64) -> Verdict {
    Verdict::PageAgain { repeats, worse: false }
}

fn worse_again(repeats: u64) -> Verdict {
    Verdict::PageAgain { repeats, worse: true }
}

#[test]
fn the_first_pages_repeats_are_counted_and_after_the_quiet_time_the_next_pages_and_tells_of_them() {
    let mut story = Story::new();
    let report = new(Severity::High);
    assert_eq!(story.tell(0, &report), Verdict::Page);
    assert_eq!(
        story.tell(4, &report),
        Verdict::Count { reason: "a repeat, 4m after a page; quiet for 10m".to_owned() }
    );
    assert!(counted(&story.tell(9, &report)));
    assert_eq!(story.tell(10, &report), again(2));
    assert!(counted(&story.tell(19, &report)), "the quiet time counts from the last page");
    let incident = story.incident();
    assert_eq!((incident.mails, incident.unpaged), (5, 1));
    assert_eq!((incident.opened_at, incident.last_at, incident.paged_at), (at(0), at(19), Some(at(10))));
}

#[test]
fn a_severity_that_rises_pages_and_one_that_falls_or_is_not_told_does_not() {
    let mut story = Story::new();
    story.tell(0, &new(Severity::Low));
    assert!(counted(&story.tell(1, &new(Severity::Info))));
    assert!(counted(&story.tell(1, &Report::default())));
    assert_eq!(story.tell(2, &new(Severity::High)), worse_again(2));
    assert!(counted(&story.tell(3, &new(Severity::Low))));
    assert!(counted(&story.tell(3, &new(Severity::High))), "it was paged as high already");
    assert_eq!(story.tell_at(4, Page::Waits, &new(Severity::Critical)), worse_again(2));
    assert_eq!(story.incident().severity, Some(Severity::Critical));
}

#[test]
fn a_severity_that_was_not_told_stands_in_the_middle() {
    let mut story = Story::new();
    story.tell(0, &Report::default());
    assert!(counted(&story.tell(1, &new(Severity::Medium))));
    assert_eq!(story.incident().severity, Some(Severity::Medium));
    assert_eq!(story.tell(2, &new(Severity::High)), worse_again(1));
}

#[test]
fn a_rise_pages_though_repeats_are_only_counted() {
    let mut story = Story::with(Config { repeat: Repeat::Count, ..Config::default() });
    story.tell(0, &new(Severity::Low));
    assert!(counted(&story.tell(10_000, &new(Severity::Low))));
    assert_eq!(story.tell(10_001, &new(Severity::Medium)), worse_again(1));
}

#[test]
fn a_rule_has_its_own_word_on_repeats_and_on_the_quiet_time() {
    let mut story = Story::new();
    story.tell(0, &Report::default());
    let update = Report { repeat: Some(Repeat::Update), ..Report::default() };
    assert_eq!(story.tell(1, &update), Verdict::Update);
    let soon = Report { quiet: Some(SignedDuration::from_mins(2)), ..Report::default() };
    assert!(counted(&story.tell(2, &soon)));
    assert_eq!(story.tell(3, &soon), again(1));
}

#[test]
fn while_somebody_sees_to_it_the_longer_quiet_time_counts_and_a_new_page_wants_a_new_answer() {
    let mut story = Story::new();
    story.tell(0, &Report::default());
    assert_eq!(story.tell(1, &ACKNOWLEDGED), Verdict::Pass);
    assert_eq!(story.incident().state, State::Acknowledged);
    assert!(counted(&story.tell(60, &Report::default())));
    let soon = Report { quiet: Some(SignedDuration::from_mins(2)), ..Report::default() };
    assert!(counted(&story.tell(61, &soon)), "a rule's short quiet time does not undo it");
    assert_eq!(story.incident().state, State::Acknowledged);
    assert_eq!(story.tell(24 * 60, &Report::default()), again(2));
    assert_eq!(story.incident().state, State::Open);
}

#[test]
fn a_close_is_sent_and_the_next_open_pages() {
    let mut story = Story::new();
    story.tell(0, &new(Severity::Critical));
    assert_eq!(story.tell(1, &RESOLVED), Verdict::Pass);
    assert_eq!(story.tell(1, &RESOLVED), Verdict::Pass, "and once more if it is told once more");
    assert_eq!(story.tell(1, &ACKNOWLEDGED), Verdict::Pass);
    assert_eq!(story.incident().state, State::Resolved);
    assert_eq!(story.tell(2, &new(Severity::Low)), Verdict::Page);
    let incident = story.incident();
    assert_eq!((incident.mails, incident.opened_at), (1, at(2)), "it is a new life");
    assert_eq!(story.tell(3, &new(Severity::Medium)), worse_again(0));
}

#[test]
fn a_close_of_an_unknown_incident_is_sent_and_never_pages() {
    for report in [RESOLVED, ACKNOWLEDGED] {
        let mut story = Story::new();
        assert_eq!(story.tell(0, &report), Verdict::Pass);
        assert_eq!(story.tell(1, &RESOLVED), Verdict::Pass);
    }
    let mut story = Story::new();
    story.tell(0, &ACKNOWLEDGED);
    assert_eq!(story.tell(1, &Report::default()), Verdict::Page, "nobody was paged for it yet");
}

#[test]
fn of_what_was_never_sent_no_close_is_sent() {
    let mut story = Story::new();
    assert_eq!(story.tell(0, &MUTED), Verdict::Mute { reason: "maintenance".to_owned() });
    assert!(counted(&story.tell(1, &ACKNOWLEDGED)));
    assert!(counted(&story.tell(2, &RESOLVED)));
    assert_eq!(story.incident().state, State::Resolved);
    assert!(counted(&story.tell(3, &RESOLVED)));
}

#[test]
fn an_open_after_muted_ones_pages_since_nobody_knows_of_it() {
    let mut story = Story::new();
    story.tell(0, &MUTED);
    assert_eq!(story.tell(1, &Report::default()), Verdict::Page);
    story.tell(2, &MUTED);
    assert_eq!(story.incident().unpaged, 1);
    assert_eq!(story.tell(3, &RESOLVED), Verdict::Pass);
}

#[test]
fn what_is_folded_is_told_but_not_posted() {
    let mut story = Story::new();
    story.take(0, &new(Severity::Low), &Verdict::Fold);
    assert!(counted(&story.tell(1, &new(Severity::Low))), "the digest has told it");
    let rise = story.tell(2, &new(Severity::High));
    assert_eq!(rise, worse_again(1));
    let mut folded = Story::new();
    folded.take(0, &new(Severity::Low), &Verdict::Fold);
    assert!(worse_again(0).may_fold(folded.incident.as_ref()), "its rise is told in the digest too");
    assert!(counted(&folded.tell(1, &RESOLVED)));
}

#[test]
fn the_rise_of_what_was_paged_by_itself_is_not_folded() {
    let mut story = Story::new();
    story.tell(0, &new(Severity::Low));
    assert!(!worse_again(0).may_fold(story.incident.as_ref()));
    assert!(again(0).may_fold(story.incident.as_ref()));
    assert!(!Verdict::Pass.may_fold(None));
}

#[test]
fn a_repeat_does_not_queue_up_behind_the_page_that_it_repeats() {
    let mut story = Story::new();
    story.tell(0, &Report::default());
    assert!(counted(&story.tell_at(600, Page::Waits, &Report::default())));
    assert_eq!(story.tell_at(601, Page::Gone, &Report::default()), again(1));
}

#[test]
fn an_open_and_its_close_within_the_hold_time_are_both_kept() {
    let mut story = Story::with(Config { hold: SignedDuration::from_secs(90), ..Config::default() });
    story.tell(0, &Report::default());
    let reason = "opened and closed within 1m 30s".to_owned();
    assert_eq!(story.tell_at(1, HELD, &RESOLVED), Verdict::Flap { reason });
    assert!(!story.incident().posted);
    assert_eq!(story.tell(2, &Report::default()), Verdict::Page);
    assert_eq!(story.tell_at(3, Page::Waits, &RESOLVED), Verdict::Pass, "it was held for long enough");
}

#[test]
fn a_page_that_failed_does_not_keep_the_next_mail_quiet() {
    let mut story = Story::new();
    story.tell(0, &Report::default());
    if let Some(incident) = &mut story.incident {
        incident.paged_at = None;
    }
    assert_eq!(story.tell(1, &Report::default()), Verdict::Page);
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_quiet() {
    let mut story = Story::new();
    story.tell(600, &Report::default());
    assert_eq!(story.tell(0, &Report::default()), again(0));
    assert!(counted(&story.tell(1, &Report::default())));
}

/// What the laws say, worked out from the whole history each time, without any state of its own.
struct Reference<'h> {
    history: &'h [(i64, Report<'static>, Verdict)],
}

impl Reference<'_> {
    /// The history since the incident opened last.
    fn life(&self) -> &[(i64, Report<'static>, Verdict)] {
        let reopened = (1..self.history.len()).rev().find(|&n| {
            let before = self.history[..n].iter().rev().find(|(_, r, _)| r.status != Status::Acknowledged);
            self.history[n].1.status == Status::New
                && before.is_some_and(|(_, r, _)| r.status == Status::Resolved)
        });
        &self.history[reopened.unwrap_or(0)..]
    }

    fn is_closed(&self) -> bool {
        let said = self.history.iter().rev().find(|(_, report, _)| report.status != Status::Acknowledged);
        said.is_some_and(|(_, report, _)| report.status == Status::Resolved)
    }

    /// Whether the laws let `report` page at `minute`; both are false if they leave it open.
    fn pages(&self, minute: i64, report: &Report<'_>, config: &Config) -> (bool, bool) {
        if report.muted.is_some() || report.status != Status::New {
            return (false, true);
        }
        let life = if self.is_closed() { &[][..] } else { self.life() };
        let Some(last) = life.iter().rposition(|(_, _, verdict)| verdict.pages()) else {
            return (true, false);
        };
        let paged = life.iter().filter(|(_, _, verdict)| verdict.pages());
        let known = |severity: Option<Severity>| severity.unwrap_or(Severity::Medium);
        let worst = paged.map(|(_, report, _)| known(report.severity)).max().expect("one paged");
        if report.severity.is_some_and(|severity| severity > worst) {
            return (true, false);
        }
        let acknowledged = life[last..].iter().any(|(_, r, _)| r.status == Status::Acknowledged);
        let quiet = if acknowledged { config.acknowledged_quiet } else { config.quiet };
        match report.repeat.unwrap_or(config.repeat) {
            Repeat::Update => (true, false),
            Repeat::Count => (false, true),
            Repeat::Quiet => {
                let over = minute - life[last].0 >= quiet.as_mins();
                (over, !over)
            }
        }
    }

    /// Whether a close is to be sent: something was posted since it opened, or it opened before our time.
    fn sends_close(&self) -> bool {
        let life = self.life();
        let before_our_time = life.first().is_none_or(|(_, report, _)| report.status != Status::New);
        before_our_time || life.iter().any(|(_, _, verdict)| verdict.pages())
    }
}

#[test]
fn random_histories_hold_the_laws() {
    let severities = [None, Some(Severity::Info), Some(Severity::Medium), Some(Severity::Critical)];
    let (mut paged, mut kept, mut closed) = (0, 0, 0);
    for seed in 0..3_000 {
        let mut rng = Rng::with_seed(seed);
        let config = Config {
            repeat: *rng.choice(&[Repeat::Quiet, Repeat::Quiet, Repeat::Count]).expect("there are some"),
            acknowledged_quiet: SignedDuration::from_mins(30),
            ..Config::default()
        };
        let mut story = Story::with(config.clone());
        let mut history = Vec::new();
        let mut minute = 0;
        for step in 0..rng.usize(1..60) {
            minute += rng.i64(0..8);
            let report = match rng.u32(0..20) {
                0..2 => RESOLVED,
                2..4 => ACKNOWLEDGED,
                4 => MUTED,
                5 => Report { repeat: Some(Repeat::Update), ..Report::default() },
                _ => Report { severity: severities[rng.usize(..severities.len())], ..Report::default() },
            };
            let verdict = story.tell(minute, &report);
            let reference = Reference { history: &history };
            let (must, must_not) = reference.pages(minute, &report, &config);
            let place = format!("seed {seed}, step {step}: {report:?} became {verdict:?}");
            assert!(!must || verdict.pages(), "{place}, and must page");
            assert!(!must_not || !verdict.pages(), "{place}, and must not page");
            if report.status != Status::New && report.muted.is_none() {
                assert_eq!(verdict == Verdict::Pass, reference.sends_close(), "{place}");
                closed += 1;
            }
            paged += usize::from(verdict.pages());
            kept += usize::from(counted(&verdict));
            history.push((minute, report, verdict));
        }
    }
    assert!(paged > 1_000 && kept > 1_000 && closed > 1_000, "{paged} {kept} {closed}");
}
