//! The laws that hold for every history, judged when it is over, whichever driver ran it. Each says in words what breaks
//! it, and each can be broken.
//!
//! None goes by how long something took where a slow machine could make the difference: what a driver cannot tell is in
//! the record's [`Bounds`](super::record::Bounds).

mod budget;
mod doubles;
mod incidents;
mod kept;
mod listings;
mod order;
mod storms;
mod tests;
mod urgency;

use super::record::{Millis, Post, Record};

pub use urgency::overtakes;

/// A law that was broken.
#[derive(Debug, Clone)]
pub struct Breach {
    pub law: &'static str,
    pub what: String,
}

pub fn breach(law: &'static str, what: String) -> Breach {
    Breach { law, what }
}

/// A law: what breaks it.
type Law = fn(&Record, &mut Vec<Breach>);

const LAWS: [Law; 16] = [
    kept::nothing_is_missing,
    kept::nothing_is_made_up,
    listings::what_waits_is_listed,
    listings::what_is_listed_as_delivered_was_taken,
    listings::the_lists_agree,
    order::the_order_of_acceptance_is_that_of_the_senders,
    order::an_incident_keeps_its_order,
    doubles::nothing_is_posted_again_without_need,
    doubles::a_retry_is_the_same_request,
    budget::no_account_is_blocked,
    urgency::the_urgent_goes_first,
    incidents::what_pages_follows_from_what_came_before,
    incidents::between_two_pages_is_the_quiet_time,
    incidents::the_gateway_knows_what_is_open,
    incidents::a_mail_is_judged_by_rules_in_force,
    storms::a_storm_is_told,
];

/// All that breaks a law.
pub fn broken(record: &Record) -> Vec<Breach> {
    let mut found = Vec::new();
    LAWS.iter().for_each(|law| law(record, &mut found));
    found
}

/// When the gateway learnt what became of an event, if it did.
fn settled(posts: &[&Post]) -> Option<Millis> {
    posts.iter().filter(|post| matches!(post.answer, 201 | 400)).filter_map(|post| post.ended).min()
}
