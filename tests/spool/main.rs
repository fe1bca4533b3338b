//! The guarantees of the spool, sentence by sentence.

#![allow(clippy::unwrap_used, reason = "a helper that cannot go on fails its test")]

mod crash;
mod identity;
mod incidents;
mod large;
mod memo;
mod open;
mod queue;
mod room;
mod schema;
mod storms;
mod upkeep;
mod urgent;

#[path = "../support/spool.rs"]
mod support;

use std::iter;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use smtp2signl4::clock::{Clock, Manual};
use smtp2signl4::event::{Event, Repeat};
use smtp2signl4::incident;
use smtp2signl4::mail::{Client, Envelope, MailId, Origin};
use smtp2signl4::spool::{Config, Entry, Spool};

/// The moment at which every test begins.
fn start() -> Timestamp {
    "2026-11-20T17:00:00Z".parse().unwrap()
}

/// A clock that the test moves.
fn clock() -> Arc<Manual> {
    Arc::new(Manual::new(start()))
}

/// The defaults, but that every event goes out: what is tested with it is not the law of incidents.
fn config(folder: &Path) -> Config {
    let incidents = incident::Config { repeat: Repeat::Update, storm: None, ..incident::Config::default() };
    Config { incidents, ..Config::at(folder) }
}

/// The spool in `folder`.
fn open(folder: &Path) -> Spool {
    open_at(folder, &clock())
}

fn open_at(folder: &Path, clock: &Arc<Manual>) -> Spool {
    let clock: Arc<dyn Clock> = clock.clone();
    Spool::open(&config(folder), clock).unwrap()
}

/// The id of the `n`th mail.
fn id(n: u32) -> MailId {
    MailId::new(start() + SignedDuration::from_millis(n.into()), 7)
}

/// The `n`th mail, with an event for `team` that has the number in its title.
fn mail(n: u32, team: &str) -> Entry {
    sized(n, team, 64)
}

/// The same with a content of `size` bytes.
fn sized(n: u32, team: &str, size: usize) -> Entry {
    Entry {
        id: id(n),
        envelope: Envelope {
            received_at: start() + SignedDuration::from_millis(n.into()),
            origin: Origin::Smtp,
            client: Client {
                address: Some([192, 0, 2, 1].into()),
                helo: "mx.example".into(),
                ..Client::default()
            },
            reverse_path: format!("sender{n}@example.org"),
            recipients: vec![format!("{team}@example.net")],
            ..Envelope::default()
        },
        content: Some(content(n, size)),
        story: serde_json::json!({ "rules": ["default"], "number": n }),
        events: vec![event(n, team)],
        dropped: None,
    }
}

/// The content of the `n`th mail: its own in each byte, so that any damage shows and no packing makes it smaller.
fn content(n: u32, size: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(n.into());
    format!("Subject: mail {n}\r\n\r\n")
        .bytes()
        .chain(iter::repeat_with(|| random.u8(..)))
        .take(size)
        .collect()
}

fn event(n: u32, team: &str) -> Event {
    Event {
        team: team.into(),
        title: format!("event {n}"),
        external_id: Some(format!("incident {}", n % 10)),
        ..Event::default()
    }
}
