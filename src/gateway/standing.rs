//! Who vouches for a mail, as the spool and the operator are told it, and which line of the config would change it.

use serde::{Deserialize, Serialize};

use crate::authenticity::Standing;
use crate::mail::{Envelope, Message, Trust, domain_of};

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
    let domain = found.proven.as_ref().filter(|_| found.vouches_for(message.sent_by()))?;
    Some(format!("[rules] closing-domains = [\"{}\"]", domain.escape_debug()))
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
