//! The trust in the sender of a mail, which every law about trust asks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The trust class of a mail, decided once at intake and kept with what comes of it. Greater is trusted more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// It came from outside, and nothing proves who sent it. It pages, and closes, delays and hides nothing of others.
    Stranger,
    /// It came from outside, and a login, a client certificate or an aligned DKIM or DMARC result of one of the site's
    /// `closing-domains` proves who sent it.
    Proven,
    /// The client and every hop before it are in the trusted networks, or it was made on this machine.
    #[default]
    Trusted,
}

impl Trust {
    /// True if nothing vouches for the sender.
    pub fn is_stranger(self) -> bool {
        self == Self::Stranger
    }

    /// The word for it, in logs, in the spool and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Proven => "proven",
            Self::Trusted => "trusted",
        }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
