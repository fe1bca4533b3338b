//! The shares of an account's windows.

/// How much of the account's windows may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// All: by what known senders have sent.
    Whole,
    /// The first half: by what strangers have sent, so that they never use up what a known sender's page needs.
    Half,
}

impl Share {
    pub(super) fn of(self, limit: u64) -> u64 {
        match self {
            Self::Whole => limit,
            Self::Half => limit.div_ceil(2),
        }
    }
}
