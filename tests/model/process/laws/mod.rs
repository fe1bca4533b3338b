//! The laws that a history must hold. Each tells what breaks it, and none goes by how long something took where
//! a slow machine could make the difference.

mod budget;
mod doubles;
mod incidents;
mod kept;
mod order;
mod urgency;

use super::record::Record;

pub use urgency::overtakes;

/// A law: what breaks it, in words.
type Law = fn(&Record) -> Vec<String>;

const LAWS: [(&str, Law); 13] = [
    ("nothing acknowledged is missing", kept::nothing_is_missing),
    ("nothing refused is kept, and nothing is made up", kept::nothing_is_made_up),
    ("everything that waits is listed", kept::what_waits_is_listed),
    ("what is listed as delivered was taken", kept::delivered_is_true),
    ("the order of acceptance is that of the senders", order::acceptance),
    ("events of an incident arrive in the order of acceptance", order::arrival),
    ("no window holds more posts than it may", budget::windows),
    ("an event is taken twice only where nobody could know", doubles::causes),
    ("a retry is the same request", doubles::same),
    ("what pages and what is counted follows from what came before", incidents::pages),
    ("no incident pages twice within its quiet time", incidents::quiet_time),
    ("what is urgent goes first", urgency::first),
    ("a mail is judged by rules that are in force", incidents::rules_in_force),
];

/// All that breaks a law.
pub fn broken(record: &Record) -> Vec<String> {
    let mut all = Vec::new();
    for (law, breaks) in LAWS {
        all.extend(breaks(record).into_iter().map(|what| format!("{law}: {what}")));
    }
    all
}
