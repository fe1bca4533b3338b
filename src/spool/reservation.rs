//! What the spool keeps for delivery beside the events: which posts an account has been promised, so that
//! its limits hold across a crash. Plain data.

use jiff::Timestamp;

use super::entry::Queued;
use crate::event::{Severity, Status};

/// How many ranks there are.
pub const RANKS: u8 = STRANGE + 1;

/// The rank of non-paging events: behind all that page.
pub const QUIET: u8 = 5;

/// The rank of what strangers sent: the last.
pub const STRANGE: u8 = 6;

/// The rank of an event among those that wait; 0 goes first. One that pages goes by its severity, and with the medium
/// ones if no severity is known. Non-paging events go behind all that page, however severe: the on-call waits
/// for a page. What a stranger sent goes behind everything of known senders, whatever it says of itself.
pub fn rank(status: Status, severity: Option<Severity>, stranger: bool) -> u8 {
    match (status, severity) {
        _ if stranger => STRANGE,
        (Status::Acknowledged | Status::Resolved, _) => QUIET,
        (Status::New, Some(Severity::Critical)) => 0,
        (Status::New, Some(Severity::High)) => 1,
        (Status::New, Some(Severity::Medium) | None) => 2,
        (Status::New, Some(Severity::Low)) => 3,
        (Status::New, Some(Severity::Info)) => 4,
    }
}

/// A note of what an account has posted and is about to post, made before it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The account.
    pub account: String,
    /// When it was made.
    pub at: Timestamp,
    /// Posts that came to their end since the note before.
    pub spent: u64,
    /// Posts that are under way or may be made before the next note. If there is none, it is unknown which of them were.
    pub open: u64,
}

/// The event that must go next for an urgent one to go: the oldest of the same incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urgent {
    /// The event to post.
    pub head: Queued,
    /// The rank of the most urgent event of its incident; 0 is the most urgent.
    pub rank: u8,
    /// The number of that event.
    pub seq: u64,
}
