//! What the gateway itself says of incidents and rules.

use std::collections::BTreeMap;

use super::super::super::record::{Record, Status};
use super::super::{Breach, breach};
use super::followed;

/// What `queue incidents` tells of an incident is what its mails have made of it.
pub fn the_gateway_knows_what_is_open(record: &Record, found: &mut Vec<Breach>) {
    let followed = followed(record);
    for (incident, lane) in record.lanes().into_iter().filter(|(incident, _)| !followed.contains(incident)) {
        let last = lane.iter().rev().map(|event| event.status).find(|status| *status != Status::Acknowledged);
        let closed = last == Some(Status::Resolved);
        let told = record.incidents.get(&incident);
        if told != Some(&closed) {
            let what = format!("{incident:?}: closed is {closed}, and it says {told:?}, m{}", lane[0].serial);
            found.push(breach("the gateway knows which incidents are open", what));
        }
    }
}

/// Each mail was judged by rules that were in force while it was handed in.
pub fn a_mail_is_judged_by_rules_in_force(record: &Record, found: &mut Vec<Breach>) {
    let rules: BTreeMap<u32, _> = record.rules.iter().map(|rules| (rules.generation, rules)).collect();
    let posts = record.posts_by_event();
    for event in &record.events {
        let Some(posts) = posts.get(&event.name()) else { continue };
        let by = posts[0].generation();
        let right = by.and_then(|by| rules.get(&by)).is_some_and(|rules| record.may_judge(rules, event));
        if !right {
            let what = format!("m{} was judged by generation {by:?}", event.serial);
            found.push(breach("a mail is judged by rules that are in force", what));
        }
    }
}
