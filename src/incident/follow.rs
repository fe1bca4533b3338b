//! Who else hears a close: the teams that had a page of an incident posted to them, by way of a fallback or by an
//! operator's word.

use super::row::Row;
use crate::event::Status;

/// The other teams that are told what an event of `team` with this status does to `rows`, each with what SIGNL4 is told there.
/// An open goes to its own team alone: the others were told of one. After a close nothing is left to follow.
pub(super) fn follow(team: &str, status: Status, rows: &mut [Row]) -> Vec<(String, String)> {
    let mut followers = Vec::new();
    for row in rows.iter_mut().filter(|_| status != Status::New) {
        let others = row.elsewhere.iter().filter(|other| *other != team);
        followers.extend(others.map(|other| (other.clone(), row.incident.external_id.clone())));
        if status == Status::Resolved {
            row.elsewhere.clear();
        }
    }
    followers
}
