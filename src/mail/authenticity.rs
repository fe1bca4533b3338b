//! Authenticity: the evidence about the sender's identity (SPF, DKIM, DMARC, ARC), in the words of RFC 8601. Plain data;
//! it is part of the envelope, so that a mail that is judged again is judged by the same facts.

use crate::words::Words;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::mailbox::Address;

/// The result of a method (RFC 8601 section 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
pub enum Verdict {
    /// There was nothing to check, or it was not checked.
    #[default]
    None,
    /// It is as the domain says.
    Pass,
    /// It is not.
    Fail,
    /// SPF: probably not.
    SoftFail,
    /// The domain does not say, or the signature cannot be used.
    Neutral,
    /// A valid signature that covers too little of the mail to prove anything.
    Policy,
    /// It could not be found out this time.
    TempError,
    /// What the domain or the mail says makes no sense.
    PermError,
}

/// What a domain wants done with mails that fail DMARC (RFC 9989 section 4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Nothing.
    None,
    /// Take them as suspicious.
    Quarantine,
    /// Refuse them.
    Reject,
}

/// What was found out about a mail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Authenticity {
    /// The relay in front that found it, by its authserv-id; none if we did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// SPF (RFC 7208) of the client for the domain of the reverse-path.
    pub spf: Verdict,
    /// DKIM (RFC 6376): the best of its signatures.
    pub dkim: Verdict,
    /// The domains of the signatures that passed, in lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dkim_domains: Vec<String>,
    /// DMARC (RFC 9989) of the domain in From.
    pub dmarc: Verdict,
    /// What that domain wants done with mails that fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The chain of forwarders (ARC, RFC 8617). It says that the mail did not change since the first of them
    /// sealed it, not that the first is to be trusted: it proves nothing unless the site trusts the sealers.
    pub arc: Verdict,
    /// The domain of From that DMARC, or a DKIM signature of that domain, vouches for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proven: Option<String>,
    /// The trusted sealer whose word on DMARC proves it, by its name in `trusted-arc-sealers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealer: Option<String>,
    /// A hash of the signature that proves it; none if something else does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The fields that the signature leaves out and that rules could go by, in lower case. Anyone may have written them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsigned: Vec<String>,
    /// When the mail was signed, by the clock of the signer: `t=` of that signature, else the Date that it covers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Timestamp>,
    /// Whether all this is only assumed, and with it that the domain is one of the site's own: for questions of what
    /// would be.
    #[serde(skip)]
    pub assumed: bool,
}

impl Authenticity {
    /// Nothing but `verdict` for every method.
    pub fn all(verdict: Verdict) -> Self {
        Self { spf: verdict, dkim: verdict, dmarc: verdict, arc: verdict, ..Self::default() }
    }

    /// A mail from `from` that has passed, and whose domain is one of the site's own, for questions of what would be.
    pub fn assumed(from: &[Address]) -> Self {
        Self { dmarc: Verdict::Pass, proven: domain_of(from), assumed: true, ..Self::default() }
    }

    /// Whether every mailbox in `from` is of the domain that is vouched for.
    pub fn vouches_for(&self, from: &[Address]) -> bool {
        self.proven.is_some() && domain_of(from) == self.proven
    }
}

/// The one domain of all mailboxes of From, in lower case; none if there is none or there are several.
pub fn domain_of(from: &[Address]) -> Option<String> {
    let mut domains = from.iter().map(|mailbox| {
        let domain = mailbox.address.rsplit_once('@').map_or("", |(_, domain)| domain);
        domain.trim_end_matches('.').to_lowercase()
    });
    let first = domains.next().filter(|domain| !domain.is_empty())?;
    domains.all(|domain| domain == first).then_some(first)
}

impl fmt::Display for Authenticity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spf={} dkim={}", self.spf.word(), self.dkim.word())?;
        if !self.dkim_domains.is_empty() {
            write!(f, " ({})", self.dkim_domains.join(", "))?;
        }
        write!(f, " dmarc={}", self.dmarc.word())?;
        match self.policy {
            Some(Policy::Reject) => write!(f, " (p=reject)")?,
            Some(Policy::Quarantine) => write!(f, " (p=quarantine)")?,
            Some(Policy::None) => write!(f, " (p=none)")?,
            None => {}
        }
        write!(f, " arc={}", self.arc.word())?;
        match &self.proven {
            Some(domain) => write!(f, "; proves {domain}")?,
            None => write!(f, "; proves nothing")?,
        }
        if let Some(sealer) = &self.sealer {
            write!(f, " by the seal of {sealer}")?;
        }
        match &self.by {
            Some(id) => write!(f, "; by {id}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailboxes(addresses: &[&str]) -> Vec<Address> {
        addresses
            .iter()
            .map(|address| Address { name: String::new(), address: (*address).to_owned() })
            .collect()
    }

    #[test]
    fn nobody_vouches_for_a_from_of_two_domains() {
        assert_eq!(
            domain_of(&mailboxes(&["a@Example.org", "b@example.org."])).as_deref(),
            Some("example.org")
        );
        assert_eq!(domain_of(&mailboxes(&["a@example.org", "b@example.net"])), None);
        for nothing in [&[][..], &["root"], &["a@"]] {
            assert_eq!(domain_of(&mailboxes(nothing)), None, "{nothing:?}");
            assert!(!Authenticity::assumed(&mailboxes(nothing)).vouches_for(&mailboxes(nothing)));
        }
    }

    #[test]
    fn facts_survive_the_spool_and_old_envelopes_have_none() {
        let found =
            Authenticity { dkim: Verdict::SoftFail, by: Some("mx".into()), ..Authenticity::default() };
        let text = serde_json::to_string(&found).unwrap();
        assert_eq!(serde_json::from_str::<Authenticity>(&text).unwrap(), found);
        assert!(text.contains(r#""dkim":"softfail""#), "{text}");
    }
}
