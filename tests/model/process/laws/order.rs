//! The order of acceptance, and that of an incident's events at SIGNL4.

use std::collections::HashMap;

use super::super::record::{Id, Record};

/// A mail that was handed in after another was acknowledged has the greater number.
pub fn acceptance(record: &Record) -> Vec<String> {
    let seqs: HashMap<&Id, u64> = record.end().iter().map(|line| (&line.id, line.seq)).collect();
    let mut ends: Vec<_> = record.acknowledged().filter_map(|(id, at)| Some((at, *seqs.get(&id)?))).collect();
    ends.sort();
    let mut begins: Vec<_> =
        record.end().iter().filter_map(|line| Some((record.mail(&line.id)?.begun_at, line))).collect();
    begins.sort_by_key(|(at, _)| *at);
    let (mut broken, mut ends, mut greatest) = (Vec::new(), ends.into_iter().peekable(), 0);
    for (begun_at, line) in begins {
        while let Some((_, seq)) = ends.next_if(|(at, _)| *at < begun_at) {
            greatest = greatest.max(seq);
        }
        if line.seq < greatest {
            broken.push(format!("{:?} has {} after {greatest}", line.id, line.seq));
        }
    }
    broken
}

/// No event comes, not even again, after one that its incident had later.
pub fn arrival(record: &Record) -> Vec<String> {
    let seqs: HashMap<&Id, u64> = record.end().iter().map(|line| (&line.id, line.seq)).collect();
    let mut broken = Vec::new();
    let mut furthest: HashMap<(&str, &str), (u64, &Id)> = HashMap::new();
    for post in &record.posts {
        let Some(id) = &post.event else { continue };
        let (Some(incident), Some(&seq)) = (record.incident(id), seqs.get(id)) else { continue };
        let before = furthest.entry(incident).or_insert((seq, id));
        if seq < before.0 {
            broken.push(format!("{id:?} after {:?}, at {}", before.1, post.at));
        }
        *before = (*before).max((seq, id));
    }
    broken
}
