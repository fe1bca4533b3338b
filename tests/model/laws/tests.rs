//! Each law can be broken: a small record that breaks none, and what must be changed so that it breaks each.

use serde_json::json;

use super::super::record::{
    Aim, Event, Life, Line, Look, Millis, Of, Policy, Post, Record, Repeat, Rules, Status,
};
use super::broken;

fn event(serial: u32, incident: u16, status: Status, severity: u8, begun: Millis) -> Event {
    let (quiet, acknowledged_quiet) = (Some(60_000), 60_000);
    Event {
        serial,
        team: 0,
        incident: Some(incident),
        status,
        severity: Some(severity),
        source: 0,
        begun,
        refused: false,
        kept: Some(begun + 10),
        policy: Policy { repeat: Repeat::Quiet, quiet, acknowledged_quiet, hold: 0, storm: None },
    }
}

fn post(serial: u32, sent: Millis) -> Post {
    Post {
        of: Of::Event { serial, team: 0 },
        by: 0,
        account: 0,
        life: 0,
        sent,
        arrived: Some(sent + 5),
        verdict: 201,
        blocked: false,
        answer: 201,
        ended: Some(sent + 10),
        payload: json!({ "Title": format!("m{serial}"), "Generation": "0" }).into(),
    }
}

fn line(serial: u32, seq: u64, state: &str, received: Millis) -> Line {
    let (state, settled) = (state.to_owned(), Some(received + 110));
    Line { serial: Some(serial), team: 0, seq, state, digest: None, received, settled }
}

fn look(at: Millis, lines: Vec<Line>) -> Look {
    let (all, open) = (Some(lines), Some(Vec::new()));
    Look { from: at, until: at, all, open, digests: Default::default(), queued: Some(0) }
}

/// One incident that opens and closes; another that is critical, comes again and is counted; one that can wait; and a
/// mail that is refused.
fn fine() -> Record {
    let lines = vec![
        line(1, 1, "delivered", 1_000),
        line(2, 2, "delivered", 5_000),
        line(3, 3, "delivered", 5_500),
        line(4, 4, "delivered", 6_000),
        line(5, 5, "counted", 7_000),
    ];
    Record {
        events: vec![
            event(1, 0, Status::New, 3, 1_000),
            event(2, 0, Status::Resolved, 3, 5_000),
            event(3, 1, Status::New, 4, 5_500),
            event(4, 2, Status::New, 0, 6_000),
            event(5, 2, Status::New, 0, 7_000),
            Event { refused: true, kept: None, ..event(6, 3, Status::New, 0, 8_000) },
        ],
        posts: vec![post(1, 1_100), post(2, 5_100), post(3, 5_600), post(4, 6_100)],
        lives: vec![Life {
            from: 0,
            told: Some(90_000),
            to: Some(90_000),
            killed: false,
            concurrency: 2,
            log: Vec::new(),
        }],
        aims: vec![Aim { at: 0, accounts: vec![Some(0), None, None] }],
        rules: vec![Rules { generation: 0, quiet: 60_000, written: 0, loaded: 0 }],
        windows: vec![(3, 1_000)],
        looks: vec![look(100_000, lines)],
        incidents: [((0, 0), true), ((0, 1), false), ((0, 2), false)].into(),
        ..Record::default()
    }
}

impl Record {
    fn end(&mut self) -> &mut Vec<Line> {
        self.looks.last_mut().and_then(|look| look.all.as_mut()).expect("the end is listed")
    }

    /// Puts a listing before the last one.
    fn looked(&mut self, at: Millis, change: impl Fn(&mut Vec<Line>)) {
        let mut lines = self.end().clone();
        change(&mut lines);
        self.looks.insert(0, look(at, lines));
    }
}

/// Changes a record so that it breaks a law.
type Change = fn(&mut Record);

/// What breaks each law.
const CASES: [(&str, Change); 18] = [
    ("nothing acknowledged is missing", |record| _ = record.end().remove(3)),
    ("nothing refused is kept, and nothing is made up", |record| {
        record.end().push(line(6, 6, "counted", 8_000));
    }),
    ("everything that waits is listed", |record| record.looked(6_050, |lines| lines.truncate(3))),
    ("what is listed as delivered was taken", |record| record.looked(6_050, |lines| lines.truncate(4))),
    ("the listings agree", |record| record.looks[0].queued = Some(1)),
    ("the order of acceptance is that of the senders", |record| {
        (record.end()[0].seq, record.end()[3].seq) = (4, 1);
    }),
    ("order per incident", |record| record.posts[1].sent = 1_105),
    ("order per incident", |record| record.posts.insert(2, post(1, 5_200))),
    ("nothing is posted again without need", |record| record.posts.push(post(4, 6_200))),
    ("a retry is the same request", |record| {
        record.posts.push(Post { payload: json!({ "Title": "m4 again" }).into(), ..post(4, 6_200) });
    }),
    ("the budget is never exceeded", |record| {
        record.posts.extend([6_110, 6_120, 6_130].map(|sent| Post { of: Of::Question, ..post(0, sent) }));
    }),
    ("what is urgent goes first", |record| {
        (record.posts[2], record.posts[3]) = (post(3, 6_500), post(4, 6_600));
    }),
    ("no incident pages twice within its quiet time", |record| {
        record.end()[4].state = "delivered".to_owned();
        record.posts.push(post(5, 7_100));
    }),
    ("what is held does not leave", |record| record.events[0].policy.hold = 5_000),
    ("a page says how many mails it stands for", |record| {
        record.posts[0].payload = json!({ "Repeated": "once since the last page", "Generation": "0" }).into();
    }),
    ("the gateway knows which incidents are open", |record| _ = record.incidents.insert((0, 0), false)),
    ("a mail is judged by rules that are in force", |record| {
        record.rules.push(Rules { generation: 1, quiet: 60_000, written: 400, loaded: 500 });
    }),
    ("a storm ends in few pages that name them all", |record| {
        record.end()[4].state = "folded".to_owned();
    }),
];

#[test]
fn every_law_can_be_broken() {
    let found = broken(&fine());
    assert!(found.is_empty(), "{found:#?}");
    for (law, change) in CASES {
        let mut record = fine();
        change(&mut record);
        let found = broken(&record);
        assert!(found.iter().any(|breach| breach.law == law), "{law}: {found:#?}");
    }
}
