//! The part of a session that makes it safe: STARTTLS (RFC 3207), AUTH (RFC 4954), and what an entrance asks of
//! both before it takes a mail.

use tracing::info;

use crate::mail::{Client, Tls};
use crate::smtp::auth::{Mechanism, Turn};
use crate::smtp::entrance::TlsMode;
use crate::smtp::logins::Verdict;
use crate::smtp::reply;
use crate::smtp::reply::Reply;

use super::{Session, Step};

impl Session {
    /// The stream is encrypted. Nothing that was said before is true any more (RFC 3207 section 4.2): somebody in
    /// between may have said it.
    pub fn encrypted(&mut self, tls: Tls) {
        self.client = Client { address: self.client.address, relay: self.client.relay, ..Client::default() };
        self.client.tls = Some(tls);
        self.partial = Vec::new();
        self.transaction = None;
        self.exchange = None;
        self.logged_in = false;
        self.data_refused = false;
    }

    /// The answer to [`Step::Authenticate`] with the login of `name`.
    pub fn login_is(&mut self, name: String, verdict: Verdict) {
        match verdict {
            Verdict::Right => {
                info!(client = %self.peer(), helo = ?self.client.helo, user = ?name, "login");
                self.client.user = Some(name);
                self.logged_in = true;
                self.answer(&reply::LOGGED_IN);
            }
            Verdict::Wrong(_) => {
                info!(client = %self.peer(), helo = ?self.client.helo, user = ?name, "login refused");
                self.refuse(&reply::LOGIN_REFUSED);
            }
            Verdict::Later => {
                info!(client = %self.peer(), helo = ?self.client.helo, user = ?name, "login not checked");
                self.refuse(&reply::LOGIN_LATER);
            }
            Verdict::TooMany => self.close(&reply::TOO_MANY_LOGINS),
        }
    }

    /// What EHLO offers to this client beside what everybody is offered.
    pub(super) fn extensions(&self) -> Vec<&'static str> {
        let mut offered = Vec::new();
        if self.offers_tls() {
            offered.push("STARTTLS");
        }
        if self.offers_auth() {
            offered.push("AUTH PLAIN LOGIN");
        }
        offered
    }

    /// What a client has to do before its first mail.
    pub(super) fn unready(&self) -> Option<&'static Reply> {
        let certified = self.client.tls.as_ref().is_some_and(|tls| tls.subject.is_some());
        if self.entrance.require_tls && self.client.tls.is_none() {
            Some(&reply::NEED_TLS)
        } else if self.entrance.require_auth && self.client.user.is_none() && !certified {
            Some(&reply::NEED_LOGIN)
        } else {
            None
        }
    }

    /// STARTTLS, at any time: a mail that had begun is forgotten.
    ///
    /// A client must wait for the reply (RFC 3207 section 4.1). If there is input behind the command, somebody in
    /// between may have put it there, to be taken for what the client says under TLS. It would be enough to
    /// forget it, as we do with what comes later; but a client that sends it is broken or attacked, so that the
    /// session ends, as it does in Postfix since 3.9.
    pub(super) fn starttls(&mut self, followed: bool) -> Option<Step> {
        if self.client.tls.is_some() {
            self.refuse(&reply::TLS_ALREADY);
        } else if !self.offers_tls() {
            self.refuse(&reply::NOT_IMPLEMENTED);
        } else if followed {
            self.close(&reply::NOTHING_BEHIND_STARTTLS);
        } else {
            self.answer(&reply::START_TLS);
            return Some(Step::StartTls);
        }
        None
    }

    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>) -> Option<Step> {
        let refusal = if self.transaction.is_some() {
            &reply::NO_AUTH_IN_MAIL
        } else if self.logged_in {
            &reply::LOGGED_IN_ALREADY
        } else if self.offers_auth() {
            match Mechanism::named(mechanism) {
                Some(mechanism) => return self.converse(mechanism.begin(initial)),
                None => &reply::UNKNOWN_MECHANISM,
            }
        } else if self.entrance.auth {
            &reply::LOGIN_NEEDS_TLS
        } else {
            &reply::NOT_IMPLEMENTED
        };
        self.refuse(refusal);
        None
    }

    /// Goes on with a login.
    pub(super) fn converse(&mut self, turn: Turn) -> Option<Step> {
        match turn {
            Turn::Ask(exchange, challenge) => {
                self.exchange = Some(exchange);
                self.answer(challenge);
                None
            }
            Turn::Over(reply) => {
                self.refuse(reply);
                None
            }
            // It proves nothing, so the client is not taken for a user.
            Turn::Done(_) if self.takes_any_login() => {
                self.logged_in = true;
                self.answer(&reply::LOGGED_IN);
                None
            }
            Turn::Done(login) => Some(Step::Authenticate(login)),
        }
    }

    fn offers_tls(&self) -> bool {
        self.entrance.tls == TlsMode::Starttls && self.client.tls.is_none()
    }

    fn offers_auth(&self) -> bool {
        let safe = self.client.tls.is_some() || self.entrance.auth_without_tls;
        (self.entrance.auth && safe) || self.takes_any_login()
    }

    /// Whether the client is in a network whose senders must log in somewhere but have nothing to log in with.
    fn takes_any_login(&self) -> bool {
        let own = &self.entrance.accept_any_login;
        self.client.address.is_some_and(|address| own.iter().any(|network| network.contains(address)))
    }
}
