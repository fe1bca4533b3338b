//! Who vouches for a mail, as the spool and the operator are told it, and which line of the config would change it.

use serde::{Deserialize, Serialize};

use crate::mail::{Envelope, Message, Trust, Verdict, domain_of};

use super::Standing;

/// The trust class of a mail and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Told {
    /// The class.
    pub class: Trust,
    /// Why.
    pub why: String,
    /// The domain of From, of a stranger's mail; none if there is none or there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The line of the config by which such mail is a stranger's no more, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
}

/// What is told of `standing`, that of `message`.
pub fn of(standing: &Standing, message: &Message, envelope: &Envelope) -> Told {
    let stranger = standing.trust.is_stranger();
    Told {
        class: standing.trust,
        why: standing.why.clone(),
        domain: domain_of(message.sent_by()).filter(|_| stranger),
        line: line(message, envelope).filter(|_| stranger),
    }
}

/// The line of the config that makes known what proves the mail already.
fn line(message: &Message, envelope: &Envelope) -> Option<String> {
    let found = envelope.authenticity.as_deref()?;
    if let Some(domain) = found.proven.as_ref().filter(|_| found.vouches_for(message.sent_by())) {
        return Some(format!("[rules] closing-domains = [\"{}\"]", domain.escape_debug()));
    }
    // The chain is valid, and whose word it is stands in its last seal.
    let sealer = message.header("ARC-Seal").find_map(sealer).filter(|_| found.arc == Verdict::Pass)?;
    Some(format!("[authenticity] trusted-arc-sealers = [\"{}\"]", sealer.escape_debug()))
}

/// The domain that an ARC-Seal names (RFC 8617 section 4.1.3).
fn sealer(seal: &str) -> Option<&str> {
    let domain = seal.split(';').find_map(|tag| tag.trim().strip_prefix("d="))?;
    Some(domain.trim()).filter(|domain| !domain.is_empty())
}

impl Told {
    /// In one line, for people.
    pub fn words(&self) -> String {
        match &self.line {
            Some(line) => format!("{}: {}; {line} changes that", self.class, self.why),
            None => format!("{}: {}", self.class, self.why),
        }
    }
}
