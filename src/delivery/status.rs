//! How it stands with the teams, as those who ask are told.

use jiff::Timestamp;

/// How it stands with a team.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No post was answered since the start.
    Untried,
    /// Events go out.
    Open,
    /// SIGNL4 refuses the secret or the URL is wrong.
    Held,
    /// SIGNL4 has blocked the account for a while.
    Throttled,
    /// Nothing answers.
    Down,
    /// The account has posted what it may, and nothing goes out for long.
    Starved,
    /// The spool holds events for a team that the config does not name.
    Unknown,
}

/// A time in which nothing goes out, since an account has posted what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Starved {
    /// Since when.
    pub since: Timestamp,
    /// Until when it will last.
    pub until: Timestamp,
}

/// How it stands with one team.
#[derive(Debug, Clone)]
pub struct Status {
    /// The team's name.
    pub team: String,
    /// Whether its events go out.
    pub state: State,
    /// Why not, or why only as fast as the account's limit lets them; empty if they do.
    pub reason: String,
    /// Since when and until when, if its account has posted what it may.
    pub starved: Option<Starved>,
    /// Whether it is held since another than SIGNL4 answers.
    pub meets_another: bool,
    /// Its events in memory.
    pub queued: usize,
    /// Whether more of them may wait on disk.
    pub more: bool,
    /// Posts under way.
    pub in_flight: usize,
    /// When the oldest of them was accepted.
    pub oldest: Option<Timestamp>,
    /// Posts since the start of an event that SIGNL4 may have taken before without an answer coming: the
    /// alerts that may be there twice.
    pub doubles: u64,
}

impl Status {
    /// Whether the team has events and none of them goes out: SIGNL4 is out of reach, refuses the secret or throttles,
    /// the account has posted what it may, or the config does not name the team.
    pub fn is_stuck(&self) -> bool {
        let goes_out = matches!(self.state, State::Open | State::Untried);
        !goes_out && (self.queued > 0 || self.more || self.in_flight > 0)
    }
}
