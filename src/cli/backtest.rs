//! `backtest`: the mails that came, judged by other rules, and what would have been otherwise. It reads the
//! spool, beside a running service or without one, and changes nothing.
//!
//! Pages of mails are read one at a time and judged on every core; what is kept of a mail is a count, and
//! a few samples of each change. So it takes the same memory for a thousand mails and for a million.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock::{Clock, System};
use crate::config::{Config, Routes};
use crate::event::Event;
use crate::gateway::load_unproven;
use crate::mail::MailId;
use crate::rules::{Judgement, Outcome, RuleSet, Subject};
use crate::spool::{Past, Reader};
use crate::time::parse_duration;

use super::difference::{FieldChange, Kind, changes, fields, pairs};
use super::progress::Progress;
use super::site::{Exit, Site, runtime, tell_all};
use super::terminal::{excerpt, print};

/// Mails that are read at a time.
const PAGE: usize = 128;

/// Samples of each change.
const SAMPLES: usize = 3;

/// What `backtest` is told.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  smtp2signl4 backtest new-rules/                 what they would have changed, on all mails kept
  smtp2signl4 backtest new.toml --since 7d        on those of the last week
  smtp2signl4 backtest new.toml --json | jq '.changes'

RULES stand in the place of the site's rules; the shipped ones stay. Nothing is sent and nothing changes.")]
pub(super) struct Arguments {
    /// Rule files or folders
    #[arg(required = true, value_name = "RULES")]
    rules: Vec<PathBuf>,
    /// Only mails that came within this time, such as 12h or 7d
    #[arg(long, value_parser = duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Only the newest so many mails
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a time such as 90m, 12h or 7d".to_owned())
}

/// Judges what came and reports.
pub(super) fn backtest(site: &Site, arguments: &Arguments) -> Exit {
    let config = match site.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let loaded = load_unproven(&config, None)
        .and_then(|before| Ok((before, load_unproven(&config, Some(&arguments.rules))?)));
    let (before, after) = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => return tell_all(&problems),
    };
    let bench = Bench { before, after, routes: Routes::new(&config.teams), config: &config };
    match walk(&bench, arguments) {
        Ok((tally, took)) if arguments.json => {
            print(&format!("{}\n", tally.json(took)));
            Exit::Done
        }
        Ok((tally, took)) => {
            print(&tally.page(took));
            Exit::Done
        }
        Err(problem) => {
            eprintln!("smtp2signl4: {problem}");
            Exit::Unavailable
        }
    }
}

/// What judges.
struct Bench<'c> {
    before: RuleSet,
    after: RuleSet,
    routes: Routes,
    config: &'c Config,
}

/// Goes through the spool, latest mail first.
fn walk(bench: &Bench<'_>, arguments: &Arguments) -> Result<(Tally, Duration), String> {
    let runtime = runtime();
    let spool = Reader::open(&bench.config.spool.path).map_err(|error| error.to_string())?;
    let start = arguments.since.map_or(Timestamp::UNIX_EPOCH, |since| {
        System.now().checked_sub(since).unwrap_or(Timestamp::UNIX_EPOCH)
    });
    let from = MailId::new(start, 0);
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let count = runtime.block_on(spool.count_mails(from)).map_err(|error| error.to_string())?;
    let removed = runtime.block_on(spool.removed_early(start)).map_err(|error| error.to_string())?;
    let mut progress = Progress::new("mails", count.min(limit));
    let done = AtomicU64::new(0);
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tally = std::thread::scope(|scope| {
        // Few pages ahead: reading is faster than judging, and memory stays flat.
        let (pages, inbox) = mpsc::sync_channel::<Vec<Past>>(workers);
        let inbox = Arc::new(Mutex::new(inbox));
        let judges: Vec<_> = (0..workers)
            .map(|_| {
                let (inbox, done) = (Arc::clone(&inbox), &done);
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    loop {
                        let page = inbox.lock().expect("no holder of this lock can panic").recv();
                        let Ok(page) = page else { return tally };
                        for mail in &page {
                            bench.judge(mail, &mut tally);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        // If all judges panic, no receiver is left, and sending fails.
        drop(inbox);
        let mut left = limit;
        let mut last = None;
        let read = loop {
            let wanted = usize::try_from(left).unwrap_or(PAGE).min(PAGE);
            let page = match runtime.block_on(spool.mails(from, last, wanted)) {
                Ok(page) => page,
                Err(error) => break Err(error.to_string()),
            };
            let Some(oldest) = page.last() else { break Ok(()) };
            last = Some(oldest.id);
            left -= page.len() as u64;
            if pages.send(page).is_err() {
                break Ok(());
            }
            progress.show(done.load(Ordering::Relaxed));
            if left == 0 {
                break Ok(());
            }
        };
        drop(pages);
        let mut whole = Tally::default();
        for judge in judges {
            whole.add(judge.join().map_err(|_| "judging a mail failed inside the program".to_owned())?);
        }
        whole.removed = removed;
        read.map(|()| whole)
    })?;
    Ok((tally, progress.elapsed()))
}

impl Bench<'_> {
    fn judge(&self, mail: &Past, tally: &mut Tally) {
        let (Some(envelope), Some(content)) = (&mail.envelope, &mail.content) else {
            tally.without += 1;
            return;
        };
        let message = self.after.read(content);
        let mut changed = false;
        for team in self.routes.reached(&envelope.recipients) {
            let subject = Subject { message: &message, envelope, team: &team };
            let (before, after) = (self.before.judge(&subject), self.after.judge(&subject));
            tally.count(&before, 0);
            tally.count(&after, 1);
            for (old, new) in pairs(&before.events, &after.events) {
                let kind = Kind::of(old, new);
                changed |= kind != Kind::Unchanged;
                tally.note(kind, || Sample {
                    mail: mail.id,
                    subject: message.subject.clone(),
                    before: Made::of(old, &before),
                    after: Made::of(new, &after),
                    fields: changes(old, new),
                });
            }
        }
        tally.mails += 1;
        tally.changed += u64::from(changed);
    }
}

/// A rule: the name of its source and its own.
type Rule = (Arc<str>, Arc<str>);

/// What was found so far.
#[derive(Default)]
struct Tally {
    mails: u64,
    /// Mails of the time that were deleted before `retention`, as the spool was full.
    removed: u64,
    /// Mails of which something changes.
    changed: u64,
    /// Events without a mail, and mails that the disk has damaged.
    without: u64,
    kinds: [Found; Kind::ALL.len()],
    /// How often each rule held, before and after.
    rules: HashMap<Rule, [u64; 2]>,
}

/// What was found of one change.
#[derive(Default)]
struct Found {
    count: u64,
    samples: Vec<Sample>,
}

/// A mail of which an event changes.
struct Sample {
    mail: MailId,
    subject: String,
    before: Made,
    after: Made,
    fields: Vec<FieldChange>,
}

/// What rules made of a mail.
enum Made {
    Event(Box<Event>),
    Dropped(String),
    Nothing,
}

impl Made {
    fn of(event: Option<&Event>, judgement: &Judgement) -> Self {
        match (event, &judgement.dropped) {
            (Some(event), _) => Self::Event(Box::new(event.clone())),
            (None, Some(dropped)) => Self::Dropped(format!("{}: {}", dropped.rule, dropped.reason)),
            (None, None) => Self::Nothing,
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Event(event) => Value::Object(fields(event)),
            Self::Dropped(by) => json!({ "dropped": by }),
            Self::Nothing => Value::Null,
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Event(event) => {
                let key = event.external_id.as_deref().unwrap_or("no key");
                format!("{}, {}: {:?} ({})", event.team, event.status, excerpt(&event.title), excerpt(key))
            }
            Self::Dropped(by) => format!("dropped by {}", excerpt(by)),
            Self::Nothing => "no event".to_owned(),
        }
    }
}

impl Tally {
    fn count(&mut self, judgement: &Judgement, side: usize) {
        for source in judgement.trace.pieces.iter().flat_map(|piece| &piece.sources) {
            for rule in source.rules.iter().filter(|rule| rule.outcome == Outcome::Held) {
                let name = (Arc::clone(&source.source), Arc::clone(&rule.rule));
                self.rules.entry(name).or_default()[side] += 1;
            }
        }
    }

    fn note(&mut self, kind: Kind, sample: impl FnOnce() -> Sample) {
        let at = Kind::ALL.iter().position(|other| *other == kind).expect("all kinds are listed");
        let found = &mut self.kinds[at];
        found.count += 1;
        // Mails come latest first, so that these are the latest.
        if kind != Kind::Unchanged && found.samples.len() < SAMPLES {
            found.samples.push(sample());
        }
    }

    fn add(&mut self, other: Self) {
        self.mails += other.mails;
        self.changed += other.changed;
        self.without += other.without;
        for (found, others) in self.kinds.iter_mut().zip(other.kinds) {
            found.count += others.count;
            found.samples.extend(others.samples);
            found.samples.sort_by_key(|sample| std::cmp::Reverse(sample.mail));
            found.samples.truncate(SAMPLES);
        }
        for (rule, counts) in other.rules {
            let sum = self.rules.entry(rule).or_default();
            sum[0] += counts[0];
            sum[1] += counts[1];
        }
    }

    /// The rules by name; the text shows those alone that hold more or less often.
    fn rules(&self) -> Vec<(String, [u64; 2])> {
        let mut rules: Vec<_> = self
            .rules
            .iter()
            .map(|((source, rule), counts)| (format!("{source}: {rule}"), *counts))
            .collect();
        rules.sort();
        rules
    }

    fn json(&self, took: Duration) -> Value {
        let kind = |kind: Kind| serde_json::to_value(kind).expect("a kind is a word");
        let mut changes = serde_json::Map::new();
        let mut samples = Vec::new();
        for (of, found) in Kind::ALL.iter().zip(&self.kinds) {
            changes.insert(kind(*of).as_str().unwrap_or_default().to_owned(), json!(found.count));
            samples.extend(found.samples.iter().map(|sample| {
                json!({
                    "change": kind(*of),
                    "mail": sample.mail,
                    "subject": sample.subject,
                    "before": sample.before.json(),
                    "after": sample.after.json(),
                    "fields": sample.fields,
                })
            }));
        }
        let rules: Vec<Value> = self
            .rules()
            .into_iter()
            .map(|(rule, [before, after])| json!({ "rule": rule, "before": before, "after": after }))
            .collect();
        json!({
            "mails": self.mails,
            "mails-changed": self.changed,
            "without-mail": self.without,
            "removed-early": self.removed,
            "seconds": took.as_secs_f64(),
            "changes": changes,
            "rules": rules,
            "samples": samples,
        })
    }

    fn page(&self, took: Duration) -> String {
        let mut text = format!(
            "{} mails judged twice in {:.1} s; {} would come out otherwise\n",
            self.mails,
            took.as_secs_f64(),
            self.changed
        );
        if self.without > 0 {
            text.push_str(&format!("{} events without a mail to judge were left out\n", self.without));
        }
        if self.removed > 0 {
            text.push_str(&format!(
                "{} mails of these days are missing: they were deleted early, as the spool was full\n",
                self.removed
            ));
        }
        text.push('\n');
        for (kind, found) in Kind::ALL.iter().zip(&self.kinds) {
            text.push_str(&format!("  {:<18}{:>9}\n", kind.words(), found.count));
        }
        for (kind, found) in Kind::ALL.iter().zip(&self.kinds) {
            if found.samples.is_empty() {
                continue;
            }
            let such = if found.count > SAMPLES as u64 { ", such as" } else { "" };
            text.push_str(&format!("\n{}: {}{such}\n", kind.words(), found.count));
            for sample in &found.samples {
                text.push_str(&format!("  {}  {}\n", sample.mail, excerpt(&sample.subject)));
                match (&sample.before, &sample.after) {
                    (Made::Event(_), Made::Event(_)) => {
                        for change in &sample.fields {
                            text.push_str(&format!("    {}\n", change.line()));
                        }
                    }
                    (before, after) => {
                        text.push_str(&format!("    before  {}\n", before.line()));
                        text.push_str(&format!("    after   {}\n", after.line()));
                    }
                }
            }
        }
        let moved: Vec<_> = self.rules().into_iter().filter(|(_, [before, after])| before != after).collect();
        if !moved.is_empty() {
            text.push_str(&format!(
                "\n{:>9} {:>9}  rules that would hold more or less often\n",
                "before", "after"
            ));
        }
        for (rule, [before, after]) in moved {
            text.push_str(&format!("{before:>9} {after:>9}  {}\n", excerpt(&rule)));
        }
        text
    }
}
