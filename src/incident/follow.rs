//! Who else hears a close: the teams that had a page of an incident posted to them, by way of a fallback or by an
//! operator's word.

use super::rule::{Case, Ruling};
use crate::event::Status;

/// Adds to a ruling which other teams are told the same. An open goes to its own team alone: the others were told of one.
/// After a close nothing is left to follow.
pub(super) fn follow(case: &Case<'_>, ruling: &mut Ruling) {
    if ruling.status == Status::New {
        return;
    }
    for row in &mut ruling.rows {
        let others = row.elsewhere.iter().filter(|team| *team != case.team);
        ruling.followers.extend(others.map(|team| (team.clone(), row.incident.external_id.clone())));
        if ruling.status == Status::Resolved {
            row.elsewhere.clear();
        }
    }
}
