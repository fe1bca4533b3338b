//! Who else hears a close: the teams that had a page of an incident posted to them, by way of a fallback or by an
//! operator's word.

use crate::event::Status;

/// What is to follow an event.
#[derive(Debug, PartialEq, Eq)]
pub struct Following<'a> {
    /// The other teams that are told the same.
    pub teams: Vec<&'a str>,
    /// Whether nothing is left to follow afterwards.
    pub over: bool,
}

/// What follows an event of this status that took effect on an incident of the team `own`, of which pages went to
/// `teams` as well. An open goes to its own team alone: the others were told of one.
pub fn following<'a>(own: &str, teams: &'a [String], status: Status) -> Following<'a> {
    if status == Status::New {
        return Following { teams: Vec::new(), over: false };
    }
    let others = teams.iter().map(String::as_str).filter(|team| *team != own).collect();
    Following { teams: others, over: status == Status::Resolved && !teams.is_empty() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_heard_once_by_each_other_team_that_was_paged_and_an_acknowledgement_each_time() {
        let teams = ["ops".to_owned(), "soc".to_owned()];
        assert_eq!(following("soc", &teams, Status::Resolved), Following { teams: vec!["ops"], over: true });
        assert_eq!(
            following("soc", &teams, Status::Acknowledged),
            Following { teams: vec!["ops"], over: false }
        );
        assert_eq!(following("soc", &teams, Status::New), Following { teams: vec![], over: false });
        assert_eq!(following("soc", &[], Status::Resolved), Following { teams: vec![], over: false });
    }
}
