//! What is urgent overtakes what is not.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use smtp2signl4::event::Severity;

use super::super::mails::TEAMS;
use super::super::record::{Id, Record};
use super::super::scene::CONCURRENCY;

/// So many less urgent events may come after an urgent one was acknowledged: those that were under way, and a few that
/// leave before the loop looks at what is new.
const UNDER_WAY: usize = CONCURRENCY * TEAMS.len() + 4;

/// What each incident has yet to send, by its number.
struct Lanes<'a> {
    pending: HashMap<(&'a str, &'a str), BTreeMap<u64, Pending>>,
}

struct Pending {
    severity: Severity,
    /// The gateway may know it from the first on, and does from the second on.
    begun_at: Timestamp,
    acknowledged_at: Timestamp,
}

/// An urgent event, and the less urgent ones that came before it while it waited.
struct Wait {
    id: Id,
    overtaken_by: usize,
}

/// No more than that come while an urgent one waits whose team is open.
pub fn first(record: &Record) -> Vec<String> {
    let waits = waits(record).0.into_iter().filter(|wait| wait.overtaken_by > UNDER_WAY);
    waits.map(|wait| format!("{:?} waited for {}", wait.id, wait.overtaken_by)).collect()
}

/// How many events came before less urgent ones that had been acknowledged earlier.
pub fn overtakes(record: &Record) -> usize {
    waits(record).1
}

/// The urgent events that waited while their team was open, and how many had not to.
fn waits(record: &Record) -> (Vec<Wait>, usize) {
    let seqs: HashMap<&Id, u64> = record.end().iter().map(|line| (&line.id, line.seq)).collect();
    let acknowledged: HashMap<Id, Timestamp> = record.acknowledged().collect();
    let mut lanes = Lanes { pending: HashMap::new() };
    for line in record.end().iter().filter(|line| line.state == "delivered") {
        if let (Some(incident), Some(mail)) = (record.incident(&line.id), record.mail(&line.id)) {
            let acknowledged_at = acknowledged.get(&line.id).copied().unwrap_or(Timestamp::MAX);
            let pending = Pending { severity: mail.severity, begun_at: mail.begun_at, acknowledged_at };
            lanes.pending.entry(incident).or_default().insert(line.seq, pending);
        }
    }
    let troubles = troubles(record);
    // Each that waits: the event of its lane that must go first, and how many went before.
    let mut found: BTreeMap<u64, Wait> = BTreeMap::new();
    let mut seen: HashSet<&Id> = HashSet::new();
    let mut overtakes = 0;
    for post in &record.posts {
        let Some(id) = post.event.as_ref().filter(|id| !seen.contains(id)) else { continue };
        let (Some(incident), Some(&seq)) = (record.incident(id), seqs.get(id)) else { continue };
        let rank = lanes.rank(incident, post.at);
        for (other, lane) in &lanes.pending {
            // The first of each lane goes with the most urgent that is there.
            let Some((&head, _)) = lane.first_key_value() else { continue };
            let urgent = lane.values().filter(|pending| Some(pending.severity) > rank);
            let since = urgent.map(|pending| pending.acknowledged_at).min();
            let Some(since) = since.filter(|since| *since < post.at) else { continue };
            if *other == incident || !is_open(record, &troubles, other.0, since, post.at) {
                continue;
            }
            let wait = found
                .entry(head)
                .or_insert_with(|| Wait { id: (other.1.to_owned(), other.0.to_owned()), overtaken_by: 0 });
            wait.overtaken_by += 1;
        }
        let behind = |pending: &Pending| Some(pending.severity) < rank && pending.acknowledged_at < post.at;
        let older = |lane: &BTreeMap<u64, Pending>| lane.range(..seq).next().is_some();
        let waits = |lane: &BTreeMap<u64, Pending>| older(lane) && lane.values().all(behind);
        overtakes += usize::from(lanes.pending.values().any(waits));
        if post.taken {
            seen.insert(id);
            lanes.remove(incident, seq);
        }
    }
    (found.into_values().collect(), overtakes)
}

impl<'a> Lanes<'a> {
    /// How urgent a lane is by what was there at `now`.
    fn rank(&self, incident: (&'a str, &'a str), now: Timestamp) -> Option<Severity> {
        let lane = self.pending.get(&incident)?;
        lane.values().filter(|pending| pending.begun_at <= now).map(|pending| pending.severity).max()
    }

    fn remove(&mut self, incident: (&'a str, &'a str), seq: u64) {
        if let Some(lane) = self.pending.get_mut(&incident) {
            lane.remove(&seq);
        }
    }
}

/// When something went wrong, so that not what is most urgent decides what goes: times at which the gateway did not
/// run or was given another config, SIGNL4 failed, or the gateway says that an answer did not come.
fn troubles(record: &Record) -> Vec<(Timestamp, Timestamp)> {
    let mut all: Vec<_> = record.faults.iter().map(|span| (span.from, span.until)).collect();
    all.extend(record.posts.iter().filter(|post| !post.taken).map(|post| (post.at, post.at)));
    // A team may come or go with them.
    all.extend(record.reloads.iter().map(|(_, span)| (span.from, span.until)));
    all.extend(record.runs.iter().map(|run| (run.span.from, run.span.from)));
    all.extend(record.runs.iter().map(|run| (run.ended_at, run.span.until)));
    for entry in record.runs.iter().flat_map(|run| &run.log) {
        let troubled = entry["level"] == "WARN" || entry["level"] == "ERROR";
        if let Some(at) = entry["timestamp"].as_str().and_then(|at| at.parse().ok()).filter(|_| troubled) {
            all.push((at, at));
        }
    }
    all
}

/// Whether all went well from `since` to `until`, and `team` had got an event through since the last trouble.
fn is_open(
    record: &Record,
    troubles: &[(Timestamp, Timestamp)],
    team: &str,
    since: Timestamp,
    until: Timestamp,
) -> bool {
    if troubles.iter().any(|(from, to)| *from <= until && *to >= since) {
        return false;
    }
    let last = troubles.iter().map(|(_, to)| *to).filter(|to| *to < since).max().unwrap_or(Timestamp::MIN);
    record.posts.iter().any(|post| post.by == team && post.taken && post.at > last && post.at < since)
}
