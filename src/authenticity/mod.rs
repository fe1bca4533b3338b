//! Evidence about the sender's identity: SPF, DKIM, DMARC and ARC, checked here or by the relay in front.
//!
//! ```text
//! Checker ──► relay     what a trusted relay wrote (Authentication-Results, read by `results`)
//!         └─► check     what we find ourselves, by mail-auth and the DNS of a Resolver
//!               └─► seal      what a trusted sealer found (ARC)
//! cover, reading        whether a signature covers what rules go by
//! evidence              which signature proves the mail, and when it was made
//! trust                 the class that follows
//! told                  the same in words, and the line of the config that changes it
//! ```
//!
//! It promises facts in bounded time and with bounded work, whatever the mail and the DNS do: what cannot be
//! found out in time is `temperror`, and the mail goes on. If DNS is dead, mails are held up only now and then to find
//! out whether it still is. It refuses nothing itself and changes no mail. A
//! mail from inside the trusted networks costs a look at its header and no DNS.

mod breaker;
mod check;
mod config;
mod cover;
mod evidence;
mod fields;
mod reading;
mod relay;
mod resolver;
mod results;
mod seal;
pub mod told;
mod trust;

pub use config::{Check, Config};
pub use resolver::Resolver;
pub use trust::{Standing, Trusted};

use std::net::IpAddr;

use bytes::Bytes;
use tracing::error;

use crate::mail::{Authenticity, Envelope, Header, Origin, Policy, Verdict};
use crate::network::Network;

/// Gathers the evidence about the senders of mails.
pub struct Checker {
    config: Config,
    trusted: Vec<Network>,
    resolver: Resolver,
}

impl Checker {
    /// A checker by `config` that asks `resolver`. Mails from `trusted` networks are taken for a site's own.
    pub fn new(config: Config, trusted: Vec<Network>, resolver: Resolver) -> Self {
        Self { config, trusted, resolver }
    }

    /// What can be found out about a mail; none if there is nothing to check, or nothing is to be checked.
    pub async fn examine(&self, envelope: &Envelope, content: &Bytes) -> Option<Authenticity> {
        if envelope.origin != Origin::Smtp || (self.config.check == Check::None && self.is_alone()) {
            return None;
        }
        let header = Header::read(content);
        let relayed = self.relayed(envelope, &header, content);
        // Where the relay's word proves nothing, a seal may.
        let sealed = || {
            !self.config.arc_sealers.is_empty()
                && header.names().any(|name| name.eq_ignore_ascii_case("arc-seal"))
        };
        let relayed = match relayed {
            Some(found) if found.proven.is_some() || !sealed() => return Some(found),
            relayed => relayed,
        };
        let known = envelope.client_vouches(header.received(), &self.trusted);
        let wanted = match self.config.check {
            Check::Outside => !known && !envelope.is_from_within(header.received(), &self.trusted),
            Check::All => true,
            Check::None => false,
        };
        if !wanted {
            return relayed;
        }
        let question = check::Question {
            // Of a mail that a relay passed on, the client's address says nothing of the sender.
            address: envelope.client.address.filter(|_| !envelope.client_is_within(&self.trusted)),
            helo: envelope.client.helo.clone(),
            reverse_path: envelope.reverse_path.clone(),
            content: content.clone(),
            received_at: envelope.received_at,
            timeout: self.config.timeout,
            sealers: self.config.arc_sealers.clone(),
        };
        let answer = check::on_its_own(self.resolver.clone(), question).await;
        let found = answer.unwrap_or_else(|_| {
            error!("checking who sent a mail failed inside the gateway; the mail is taken as unproven");
            Authenticity::all(Verdict::TempError)
        });
        Some(relayed.filter(|_| found.sealer.is_none()).unwrap_or(found))
    }

    /// What a trusted relay in front found out about a mail, if it did. Asks no DNS.
    pub fn told(&self, envelope: &Envelope, content: &[u8]) -> Option<Authenticity> {
        if envelope.origin != Origin::Smtp || self.is_alone() {
            return None;
        }
        self.relayed(envelope, &Header::read(content), content)
    }

    /// Whether the mail is to be refused: its domain wants that, and it came from outside with nothing else to
    /// vouch for it. A relay that passed it on gets no such reply: it would return the mail to the sender that the
    /// mail names.
    pub fn refuses(&self, envelope: &Envelope) -> bool {
        self.config.reject
            && !envelope.client.is_known()
            && !envelope.client_is_within(&self.trusted)
            && envelope.authenticity.as_ref().is_some_and(|found| {
                found.by.is_none() && found.dmarc == Verdict::Fail && found.policy == Some(Policy::Reject)
            })
    }

    /// The trusted networks.
    pub fn trusted(&self) -> &[Network] {
        &self.trusted
    }

    /// The address outside the trusted networks that the mail came from, directly or by a relay of the site's own.
    pub fn outside(&self, envelope: &Envelope, content: &[u8]) -> Option<IpAddr> {
        envelope.outside(Header::read(content).received(), &self.trusted)
    }

    /// Whether no relay's word counts.
    fn is_alone(&self) -> bool {
        self.config.authserv_ids.is_empty()
    }

    fn relayed(&self, envelope: &Envelope, header: &Header<'_>, content: &[u8]) -> Option<Authenticity> {
        // Behind a proxy the header is the sender's own from its first line on.
        let told =
            !self.is_alone() && envelope.client.relay.is_none() && envelope.client_is_within(&self.trusted);
        if told { relay::read(header, content, &self.config, &self.trusted) } else { None }
    }
}

#[cfg(test)]
mod tests;
