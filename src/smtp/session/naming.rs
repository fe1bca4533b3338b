//! XCLIENT in a session (Postfix's XCLIENT_README): a relay says whose mail it brings.
//!
//! Only those of the entrance's `xclient` may, by the address that they themselves have, however often they
//! have named another. From then on the client is the one that they name: for the rules, for the log, and
//! for what it may do. What the relay itself proved, by AUTH or a certificate, proves nothing of its client.

use tracing::info;

use crate::smtp::reply;
use crate::smtp::xclient::Said;

use super::Session;

impl Session {
    /// Whether who speaks may name its client.
    pub(super) fn may_name_client(&self) -> bool {
        self.speaker.is_some_and(|speaker| self.entrance.xclient.iter().any(|relay| relay.contains(speaker)))
    }

    pub(super) fn name_client(&mut self, said: Option<Said>) {
        let Some(relay) = self.speaker.filter(|_| self.may_name_client()) else {
            self.refuse(&reply::MAY_NOT_NAME_CLIENT);
            return;
        };
        if self.transaction.is_some() {
            self.refuse(&reply::IN_TRANSACTION);
            return;
        }
        let Some(said) = said else {
            self.refuse(&reply::XCLIENT_SYNTAX);
            return;
        };
        // What several commands say adds up, so that a relay need not put it all into one line.
        let named = &mut self.named;
        named.address = said.address.or(named.address);
        named.helo = said.helo.or(named.helo.take());
        named.login = said.login.or(named.login.take());
        let client = &mut self.client;
        if let Some(address) = named.address {
            client.address = address;
            client.relay = Some(relay);
        }
        client.helo = named.helo.clone().flatten().unwrap_or_default();
        client.user = named.login.clone().flatten();
        self.logged_in = false;
        if let Some(tls) = &mut client.tls {
            tls.subject = None;
        }
        info!(client = %self.peer(), %relay, helo = ?self.client.helo, user = ?self.client.user, "named by XCLIENT");
        self.greet_client();
    }
}
