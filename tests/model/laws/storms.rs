//! A storm of mails ends in few pages that name them all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::record::{Life, MINUTE, Millis, Name, Of, Record, Status, Storm};
use super::{Breach, breach};

/// What a storm has folded was one, is told, and few pages tell it.
pub fn a_storm_is_told(record: &Record, found: &mut Vec<Breach>) {
    let law = "a storm ends in few pages that name them all";
    let mut told: BTreeMap<u64, u64> = BTreeMap::new();
    for post in record.posts.iter().filter(|post| post.is_taken()) {
        if let Of::Digest { storm, folded, names_the_list: true, .. } = post.of {
            let most = told.entry(storm).or_default();
            *most = folded.max(*most);
        }
    }
    let mut folded: BTreeMap<u64, u64> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for line in record.lines().iter().filter(|line| line.state == "folded") {
        match line.digest {
            Some(storm) => *folded.entry(storm).or_default() += 1,
            None => found.push(breach(law, format!("{:?} is folded into nothing", line.serial))),
        }
        names.extend(line.serial.map(|serial| (serial, line.team)));
    }
    for (storm, count) in folded {
        let told = told.get(&storm).copied().unwrap_or(0);
        if told != count {
            found.push(breach(law, format!("storm {storm} has folded {count} and told {told}")));
        }
    }
    let opens = || record.events.iter().filter(|event| event.kept.is_some() && event.status == Status::New);
    let mut times: BTreeMap<usize, (Vec<Millis>, Vec<Millis>)> = BTreeMap::new();
    for event in opens() {
        let (begun, kept) = times.entry(event.team).or_default();
        begun.push(event.begun);
        kept.extend(event.kept);
    }
    for (begun, kept) in times.values_mut() {
        begun.sort_unstable();
        kept.sort_unstable();
    }
    let mut before: Vec<Millis> = vec![Millis::MIN / 2; 16];
    for event in opens().filter(|event| names.contains(&(event.serial, event.team))) {
        let at = event.kept.unwrap_or(event.begun);
        if event.severity == Some(0) {
            found.push(breach(law, format!("m{} is critical and folded", event.serial)));
        }
        let Some(Storm { least, calm, .. }) = event.policy.storm else {
            found.push(breach(law, format!("m{} is folded where nothing may be", event.serial)));
            continue;
        };
        let (begun, kept) = &times[&event.team];
        let near =
            begun.partition_point(|&begun| begun <= at) - kept.partition_point(|&kept| kept < at - MINUTE);
        let last = std::mem::replace(&mut before[event.team], at);
        let goes_on = at - last <= calm + 2 * MINUTE || record.had_restart(last, at);
        if near <= least && !goes_on {
            found.push(breach(law, format!("m{} is folded and there is no storm", event.serial)));
        }
    }
    let single: BTreeSet<_> = record
        .posts_by_event()
        .iter()
        .filter(|(_, posts)| posts.iter().any(|post| post.is_taken()))
        .map(|(name, _)| *name)
        .collect();
    let sources = 1 + record.events.iter().map(|event| event.source).collect::<BTreeSet<_>>().len();
    for life in &record.lives {
        a_flood_is_folded(record, life, &single, sources, found);
    }
}

/// Within a minute of one life no more single pages leave that could be folded than are no storm.
fn a_flood_is_folded(
    record: &Record,
    life: &Life,
    single: &BTreeSet<Name>,
    sources: usize,
    found: &mut Vec<Breach>,
) {
    let mut recent: BTreeMap<usize, VecDeque<Millis>> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for event in &record.events {
        let name = (event.serial, event.team);
        let within = event.begun >= life.from && life.to.is_none_or(|to| event.begun < to);
        let rises = event.incident.is_some_and(|incident| !known.insert((event.team, incident)));
        let Some(Storm { most, .. }) = event.policy.storm else { continue };
        if !within
            || rises
            || event.severity == Some(0)
            || event.status != Status::New
            || !single.contains(&name)
        {
            continue;
        }
        let times = recent.entry(event.team).or_default();
        times.push_back(event.begun);
        while times.front().is_some_and(|&at| event.begun - at >= 60_000) {
            times.pop_front();
        }
        if times.len() > most * sources {
            let what = format!("{} pages leave within a minute up to m{}", times.len(), event.serial);
            found.push(breach("a storm ends in few pages that name them all", what));
        }
    }
}
