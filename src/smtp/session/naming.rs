//! XCLIENT in a session (Postfix's XCLIENT_README): a relay says whose mail it brings.
//!
//! Only those of the listener's `xclient` may, by the address that they themselves have, whichever they
//! have named. From then on the client is the one that they name: for the rules, for the log, and
//! for what it may do. What the relay itself proved, by AUTH or a certificate, proves nothing of its client.
//!
//! A relay names its client once. A proxy such as nginx names it, greets, and from then on passes the client's own
//! bytes on: an XCLIENT that comes later is the client's. So commands that follow each other directly are one naming,
//! which says each attribute once; any other command ends it, and none is taken for the rest of the connection.

use tracing::info;

use crate::smtp::reply;
use crate::smtp::xclient::{Naming, Said};

use super::Session;

impl Session {
    /// Notes a command other than XCLIENT.
    pub(super) fn end_naming(&mut self) {
        if self.naming == Naming::UnderWay {
            self.naming = Naming::Over;
        }
    }

    /// Whether who speaks may name its client.
    pub(super) fn may_name_client(&self) -> bool {
        self.speaker.is_some_and(|speaker| self.listener.xclient.iter().any(|relay| relay.contains(speaker)))
    }

    pub(super) fn name_client(&mut self, said: Option<Said>) {
        let Some(relay) = self.speaker.filter(|_| self.may_name_client()) else {
            self.refuse(&reply::MAY_NOT_NAME_CLIENT);
            return;
        };
        if self.naming == Naming::Over {
            info!(client = %self.peer(), %relay, "XCLIENT refused: the client was named before");
            self.refuse(&reply::NAMED_ALREADY);
            return;
        }
        if self.transaction.is_some() {
            self.refuse(&reply::IN_TRANSACTION);
            return;
        }
        let Some(said) = said else {
            self.refuse(&reply::XCLIENT_SYNTAX);
            return;
        };
        // What several commands say adds up, so that a relay need not put it all into one line.
        if !self.named.add(said) {
            info!(client = %self.peer(), %relay, "XCLIENT refused: it says an attribute again");
            self.refuse(&reply::NAMED_ALREADY);
            return;
        }
        self.naming = Naming::UnderWay;
        let named = &self.named;
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
