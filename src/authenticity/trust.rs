//! The trust class of a mail: who vouches for it, and why. Pure: what was found out about the mail comes in.

use crate::mail::{Envelope, Message, Trust};
use crate::network::Network;

/// The networks and domains that the site trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trusted {
    /// `[rules] trusted`: the networks that the site's own machines are in.
    pub networks: Vec<Network>,
    /// `[rules] closing-domains`: the domains, and those below them, whose proven mail counts as theirs, in lower case.
    pub domains: Vec<String>,
}

/// A trust class and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The class.
    pub trust: Trust,
    /// Why, in words for `explain` and `queue show`.
    pub why: String,
}

impl Trusted {
    /// Who vouches for the mail.
    pub fn standing(&self, message: &Message, envelope: &Envelope) -> Standing {
        if envelope.is_from_within(message.header("Received"), &self.networks) {
            return Standing {
                trust: Trust::Trusted,
                why: "the client and every hop are in trusted networks".to_owned(),
            };
        }
        if envelope.client_vouches(message.header("Received"), &self.networks) {
            return Standing {
                trust: Trust::Proven,
                why: "its client has logged in or shown a certificate, and no hop before it is outside"
                    .to_owned(),
            };
        }
        let found = envelope.authenticity.as_deref().filter(|found| found.vouches_for(message.sent_by()));
        if let Some(domain) = found.filter(|found| found.assumed).and_then(|found| found.proven.as_deref()) {
            let why = match self.names(domain) {
                true => "it is assumed to be proven".to_owned(),
                false => format!(
                    "it is assumed to be proven, and that `closing-domains` names {}, as it does not",
                    domain.escape_debug()
                ),
            };
            return Standing { trust: Trust::Proven, why };
        }
        match found.and_then(|found| found.proven.as_deref()) {
            Some(domain) if self.names(domain) => Standing {
                trust: Trust::Proven,
                why: format!(
                    "it is proven to be from {}, which `closing-domains` names",
                    domain.escape_debug()
                ),
            },
            Some(domain) => Standing {
                trust: Trust::Stranger,
                why: format!(
                    "it is proven to be from {}, which `closing-domains` does not name",
                    domain.escape_debug()
                ),
            },
            None => {
                let unsigned = envelope.authenticity.as_deref().map_or(&[][..], |found| &found.unsigned);
                let why = match unsigned {
                    [] => "nothing proves who sent it from outside".to_owned(),
                    _ => format!(
                        "its signature leaves out a field that makes it what it is: one of {}",
                        unsigned.join(", ").escape_debug()
                    ),
                };
                Standing { trust: Trust::Stranger, why }
            }
        }
    }

    /// Whether `domain`, in lower case, is one of the site's own or below one.
    fn names(&self, domain: &str) -> bool {
        self.domains.iter().any(|of| {
            domain.strip_suffix(of.as_str()).is_some_and(|below| below.is_empty() || below.ends_with('.'))
        })
    }
}
