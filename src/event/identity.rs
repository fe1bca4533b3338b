//! The identity of an event: what it is about and who says so. With the external id it decides which incident an event
//! belongs to. None of it is sent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::mail::Trust;
use crate::words::Words;

/// Where an external id came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum KeySource {
    /// No rule gave one: it was made of the sender, the subject or the conversation, and of the text.
    Guess,
    /// A shipped rule.
    Shipped,
    /// A rule of the site's own: it joins what other sources call the same.
    Site,
    /// SIGNL4's own parameters in the mail (`X-S4-ExternalID`).
    Parameters,
    /// The operator, or the gateway itself.
    #[default]
    Operator,
}

/// What a mark at the front of a subject says, such as `[FIRING]` or `RECOVERY:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Mark {
    /// Something is wrong.
    Problem,
    /// It is over.
    End,
}

/// An external id that no rule gave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Guess {
    /// What all mails of this kind share, whatever their text: the conversation, or sender and subject without marks.
    /// The external id is this, a `#`, and a hash of the text up to what changes from mail to mail.
    pub base: String,
    /// What the subject's mark says. An end closes every open incident of the same base that a problem opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

/// What an event is about and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Identity {
    /// Who vouches for the mail.
    pub trust: Trust,
    /// Whether it is one too many from a stranger's address: it is told in the digest of strangers' mails.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub excess: bool,
    /// Where the external id came from.
    pub key_source: KeySource,
    /// Set if and only if the external id is a guess.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guess: Option<Guess>,
    /// The product family that the external id belongs to; none if no product is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// The form of the family's mails: the name of the rule file that gave the external id. Forms of one family share
    /// external ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
    /// Which installation of the product it is: the From mailbox in lower case, the name that `[rules.instances]` has
    /// for it, or what a rule set. Empty where nothing tells.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// The domain of the From mailbox in lower case. Empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// When the sender wrote the mail, by his own clock: `t=` of the signature that proves him, else Date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// A hash of the signature that proves the sender: a close that shows it a second time is a replay. None if something
    /// else vouches for the mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Identity {
    /// What gave the external id, and which source it is of, in words for an operator.
    pub fn words(&self) -> String {
        let by = match self.key_source {
            KeySource::Guess => "guessed, as no rule gave one",
            KeySource::Shipped => "given by a shipped rule",
            KeySource::Site => "given by a rule of the site's own, for all sources that give the same",
            KeySource::Parameters => "given by parameters of the mail",
            KeySource::Operator => "given by the operator",
        };
        let family = self.family.as_deref().unwrap_or("no known product");
        let instance = if self.instance.is_empty() { "unknown" } else { &self.instance };
        let mut text = format!("key {by}; from {family}, installation {instance}");
        if let Some(Guess { base, mark }) = &self.guess {
            let mark = mark.map_or_else(String::new, |mark| format!(", marked {}", mark.word()));
            text.push_str(&format!("; base {base}{mark}: another text is another incident"));
        }
        text
    }
}
