//! The bounds of a team.

use jiff::SignedDuration;

/// The bounds of a team.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TeamLimits {
    /// Posts at the same time.
    pub(crate) concurrency: usize,
    /// The age at which an event that fails is given up.
    pub(crate) give_up_after: SignedDuration,
    /// How long a team is held before its events go to its fallback.
    pub(crate) fallback_after: SignedDuration,
    /// Whether a non-paging question may be posted to find out whether the secret is right.
    pub(crate) probe: bool,
    /// Events in memory.
    pub(crate) window: usize,
    /// Those of them that may be read before their turn, since they are urgent.
    pub(crate) urgent: usize,
    /// Events of one lane in memory.
    pub(crate) lane: usize,
    /// Events read from the spool at once.
    pub(crate) page: usize,
    /// Bytes of payloads in memory.
    pub(crate) payload_bytes: usize,
}
