//! How many events the account of each team lets go in 15 seconds, as far as is known: what a storm is measured
//! by. What was learnt outlives a restart, so that what is no storm before it is none after it.

use std::collections::HashMap;
use std::sync::Mutex;

use super::entry::Memo;

/// What SIGNL4 takes in 15 seconds from an account of the free plan: the value until the real one is known.
const FREE: u32 = 10;

/// The kind of the memos that keep it, each by the name of its team.
pub(super) const MEMO: &str = "allowance";

/// The number of each team.
#[derive(Debug, Default)]
pub(super) struct Allowances(Mutex<HashMap<String, u32>>);

impl Allowances {
    /// That of `team`.
    pub fn of(&self, team: &str) -> u32 {
        let teams = self.0.lock().expect("no holder of this lock can panic");
        teams.get(team).copied().unwrap_or(FREE)
    }

    /// Learns that of `team`. What is to be remembered, if it is another than before.
    pub fn learn(&self, team: &str, events: u32) -> Option<Memo> {
        let mut teams = self.0.lock().expect("no holder of this lock can panic");
        if teams.insert(team.to_owned(), events) == Some(events) {
            return None;
        }
        Some(Memo { kind: MEMO, name: team.to_owned(), value: Some(events.into()) })
    }
}
