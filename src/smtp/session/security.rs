//! The part of a session that makes it safe: STARTTLS (RFC 3207), AUTH (RFC 4954), and what a listener asks of
//! both before it takes a mail.

use tracing::info;

use crate::mail::{Client, Tls};
use std::net::IpAddr;

use crate::smtp::auth;
use crate::smtp::auth::{Exchange, Mechanism, Turn};
use crate::smtp::command;
use crate::smtp::lenience::{self, Repairs};
use crate::smtp::listener_config::TlsMode;
use crate::smtp::logins::LoginVerdict;
use crate::smtp::reply;
use crate::smtp::reply::Reply;
use crate::smtp::xclient;
use crate::smtp::xclient::Said;

use super::{Session, Step};
use crate::smtp::xclient::Naming;

/// How much of a name that a client gave itself is logged, in characters.
const MAX_SHOWN: usize = 64;

impl Session {
    /// The stream is encrypted. Nothing that was said before is true any more (RFC 3207 section 4.2): somebody in
    /// between may have said it. What a proxy put in front came another way, and after XCLIENT there is no handshake.
    pub fn encrypted(&mut self, tls: Tls) {
        self.client =
            Client { address: self.speaker, relay: self.proxy, tls: Some(tls), ..Client::default() };
        self.named = Said::default();
        self.greeting = Repairs::default();
        self.partial = Vec::new();
        self.transaction = None;
        self.exchange = None;
        self.logged_in = false;
        self.data_refused = false;
    }

    /// The client's address, none if it did not come over a network.
    pub fn address(&self) -> Option<IpAddr> {
        self.client.address
    }

    /// True if the client connected to a Unix socket and no proxy or relay named another client.
    pub fn is_local(&self) -> bool {
        self.client.address.is_none() && self.client.relay.is_none()
    }

    /// Whether the client is known: by a user of ours, or by a certificate.
    pub fn is_authenticated(&self) -> bool {
        self.client.user.is_some() || self.client.tls.as_ref().is_some_and(|tls| tls.subject.is_some())
    }

    /// The answer to [`Step::Authenticate`] with the login of `name`.
    pub fn login_is(&mut self, name: String, verdict: LoginVerdict) {
        // A name that is longer than any user's is not worth more of the log.
        let shown: String = name.chars().take(MAX_SHOWN).collect();
        match verdict {
            LoginVerdict::Right => {
                info!(client = %self.peer(), helo = ?self.client.helo, user = ?shown, "login");
                self.client.user = Some(name);
                self.logged_in = true;
                self.answer(&reply::LOGGED_IN);
            }
            LoginVerdict::Wrong(_) => {
                info!(client = %self.peer(), helo = ?self.client.helo, user = ?shown, "login refused");
                self.refuse(&reply::LOGIN_REFUSED);
            }
            LoginVerdict::Later => {
                info!(client = %self.peer(), helo = ?self.client.helo, user = ?shown, "login not checked");
                self.refuse(&reply::LOGIN_LATER);
            }
            LoginVerdict::TooMany => self.close(&reply::TOO_MANY_LOGINS),
        }
    }

    /// What EHLO offers to this client beside what everybody is offered.
    pub(super) fn extensions(&self) -> Vec<&'static str> {
        let mut offered = Vec::new();
        if self.may_name_client() && self.naming != Naming::Over {
            offered.push(xclient::OFFER);
        }
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
        if self.listener.require_tls && self.client.tls.is_none() {
            Some(&reply::NEED_TLS)
        } else if self.listener.require_auth && !self.is_authenticated() && !self.logged_in {
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
    ///
    /// Refused after XCLIENT: it would reset the client that the relay named, and the command may come from that client,
    /// whose bytes the relay passes on.
    pub(super) fn starttls(&mut self, followed: bool) -> Option<Step> {
        if self.client.tls.is_some() {
            self.refuse(&reply::TLS_ALREADY);
        } else if self.naming != Naming::Open {
            self.refuse(&reply::NAMED_ALREADY);
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
                Some(mechanism) => return self.go_on(mechanism.begin(initial)),
                None => &reply::UNKNOWN_MECHANISM,
            }
        } else if self.listener.auth {
            &reply::LOGIN_NEEDS_TLS
        } else {
            &reply::NOT_IMPLEMENTED
        };
        self.refuse(refusal);
        None
    }

    /// Goes on with a login by a line of the client.
    pub(super) fn converse(&mut self, exchange: Exchange, line: &[u8]) -> Option<Step> {
        if self.listener.public && !line.ends_with(b"\r\n") {
            self.close(&reply::BARE_LF);
            return None;
        }
        self.go_on(exchange.answer(line))
    }

    /// How long the line may be that `head` goes on: those of a login may be longer than commands.
    pub(super) fn max_line(&self, head: &[u8]) -> usize {
        const AUTH: &[u8] = b"AUTH ";
        let start = self.partial.iter().chain(head).take(AUTH.len()).map(u8::to_ascii_uppercase);
        if self.exchange.is_some() || start.eq(AUTH.iter().copied()) {
            auth::MAX_LINE
        } else if self.listener.lenient {
            lenience::MAX_LINE
        } else {
            command::MAX_LINE
        }
    }

    fn go_on(&mut self, turn: Turn) -> Option<Step> {
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
                info!(client = %self.peer(), helo = ?self.client.helo, "login accepted unseen, as nobody");
                self.logged_in = true;
                self.answer(&reply::LOGGED_IN);
                None
            }
            Turn::Done(login) => Some(Step::Authenticate(login)),
        }
    }

    fn offers_tls(&self) -> bool {
        let may = self.client.tls.is_none() && self.naming == Naming::Open;
        may && self.listener.tls == TlsMode::Starttls
    }

    fn offers_auth(&self) -> bool {
        let safe = self.client.tls.is_some() || self.listener.auth_without_tls;
        (self.listener.auth && safe) || self.takes_any_login()
    }

    /// Whether the client is in a network whose senders must log in somewhere but have nothing to log in with.
    fn takes_any_login(&self) -> bool {
        let own = &self.listener.accept_any_login;
        self.client.address.is_some_and(|address| own.iter().any(|network| network.contains(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::ListenerConfig;
    use crate::smtp::session::tests::Talk;

    const GREETED: &str = "220, 250";
    /// `hive` with the password `right`, for PLAIN.
    const RIGHT: &str = "AGhpdmUAcmlnaHQ=";
    const WRONG: &str = "AGhpdmUAd3Jvbmc=";
    const MAIL: &str = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\n";

    fn talk(change: impl FnOnce(&mut ListenerConfig)) -> Talk {
        Talk::at(change)
    }

    /// A session with STARTTLS and users.
    fn safe() -> Talk {
        talk(|listener| {
            listener.tls = TlsMode::Starttls;
            listener.auth = true;
        })
    }

    /// The same once it is encrypted and greeted.
    fn encrypted() -> Talk {
        let mut talk = safe();
        talk.says("STARTTLS\r\n");
        talk.says("EHLO hive\r\n");
        talk
    }

    /// What EHLO offers beside what everybody is offered.
    fn offered(talk: &mut Talk) -> Vec<String> {
        let said = talk.says("EHLO x\r\n");
        let words = said.lines().map(|line| line[4..].to_owned());
        words.skip_while(|word| word != "BINARYMIME").skip(1).collect()
    }

    #[test]
    fn nothing_said_before_the_handshake_is_true_after_it() {
        let mut talk = talk(|listener| {
            listener.tls = TlsMode::Starttls;
            listener.auth = true;
            listener.auth_without_tls = true;
        });
        talk.says(format!("EHLO evil\r\nAUTH PLAIN {RIGHT}\r\n"));
        assert_eq!(
            talk.codes("MAIL FROM:<evil>\r\nRCPT TO:<evil>\r\nSTARTTLS\r\n"),
            "250 2.1.0, 250 2.1.5, 220 2.0.0"
        );
        assert_eq!(talk.codes("DATA\r\n"), "503 5.5.1");
        talk.says(MAIL);
        let client = &talk.mails[0].envelope.client;
        assert_eq!((&*client.helo, &client.user), ("", &None));
        assert_eq!(client.tls.as_ref(), Some(&talk.tls));
        assert_eq!(client.address, Some("192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn a_relay_names_its_client_after_the_handshake_and_no_handshake_follows() {
        let mut talk = talk(|listener| {
            listener.tls = TlsMode::Starttls;
            listener.xclient = vec!["192.0.2.7".parse().unwrap()];
        });
        assert_eq!(talk.codes("STARTTLS\r\n"), "220, 220 2.0.0");
        talk.codes("XCLIENT ADDR=10.0.0.2\r\n");
        talk.says(MAIL);
        let Client { address, relay, user, .. } = &talk.mails[0].envelope.client;
        assert_eq!(
            (address.unwrap().to_string().as_str(), relay.is_some(), user.is_some()),
            ("10.0.0.2", true, false)
        );
    }

    #[test]
    fn a_login_of_the_relay_is_not_that_of_its_client() {
        let mut talk = talk(|listener| {
            listener.auth = true;
            listener.auth_without_tls = true;
            listener.require_auth = true;
            listener.xclient = vec!["192.0.2.7".parse().unwrap()];
        });
        let auth = format!("AUTH PLAIN {RIGHT}\r\n");
        assert_eq!(
            talk.codes(format!("{auth}XCLIENT ADDR=10.0.0.1\r\nMAIL FROM:<a>\r\n")),
            "220, 235 2.7.0, 220, 530 5.7.0"
        );
        assert_eq!(talk.codes(format!("{auth}MAIL FROM:<a>\r\n")), "235 2.7.0, 250 2.1.0");
    }

    #[test]
    fn a_bare_lf_ends_no_line_of_a_login_where_anybody_may_come() {
        let mut talk = talk(|listener| {
            listener.auth = true;
            listener.auth_without_tls = true;
            listener.public = true;
        });
        assert_eq!(talk.codes("AUTH LOGIN\r\naGl2ZQ==\n"), "220, 334, 500 5.5.2");
        assert_eq!(talk.closed, Some(false));
    }

    #[test]
    fn half_a_line_from_before_the_handshake_is_forgotten() {
        let mut talk = safe();
        // The connection forgets what is in hand; the session what it had taken already.
        talk.says("STARTTLS\r\n");
        talk.says("RS");
        talk.session_encrypted();
        assert_eq!(talk.codes("NOOP\r\n"), "250 2.0.0");
    }

    #[test]
    fn a_command_pipelined_behind_starttls_ends_the_session() {
        for behind in ["NOOP\r\n", "X", "EHLO a\r\nMAIL FROM:<a>\r\n"] {
            let mut talk = safe();
            assert_eq!(
                talk.codes(format!("EHLO a\r\nSTARTTLS\r\n{behind}")),
                "220, 250, 554 5.5.0",
                "{behind}"
            );
            assert_eq!(talk.closed, Some(false));
        }
    }

    #[test]
    fn starttls_is_offered_where_it_can_be_used_and_once() {
        let mut plain = talk(|_| ());
        plain.says("");
        assert_eq!(offered(&mut plain), [""; 0]);
        assert_eq!(plain.codes("STARTTLS\r\n"), "502 5.5.1");

        let mut talk = safe();
        talk.says("");
        assert_eq!(offered(&mut talk), ["STARTTLS"]);
        assert_eq!(talk.codes("STARTTLS now\r\n"), "501 5.5.4");
        assert_eq!(talk.codes("STARTTLS\r\n"), "220 2.0.0");
        assert_eq!(offered(&mut talk), ["AUTH PLAIN LOGIN"]);
        assert_eq!(talk.codes("STARTTLS\r\n"), "503 5.5.1");
    }

    #[test]
    fn no_mail_comes_before_what_the_entrance_requires() {
        let mut talk = talk(|listener| {
            listener.tls = TlsMode::Starttls;
            listener.auth = true;
            listener.require_tls = true;
            listener.require_auth = true;
        });
        assert_eq!(
            talk.says("MAIL FROM:<a>\r\n").lines().last(),
            Some("530 5.7.0 Must issue a STARTTLS command first")
        );
        assert_eq!(talk.codes("RCPT TO:<b>\r\nSTARTTLS\r\n"), "503 5.5.1, 220 2.0.0");
        assert_eq!(talk.says("MAIL FROM:<a>\r\n"), "530 5.7.0 authentication required\r\n");
        assert_eq!(talk.codes(format!("AUTH PLAIN {RIGHT}\r\n")), "235 2.7.0");
        talk.says(MAIL);
        assert_eq!(talk.mails[0].envelope.client.user.as_deref(), Some("hive"));
    }

    #[test]
    fn a_client_certificate_is_as_good_as_a_login() {
        let mut talk = talk(|listener| {
            listener.tls = TlsMode::Starttls;
            listener.require_auth = true;
        });
        talk.tls.subject = Some("CN=hive.example".into());
        assert_eq!(talk.codes("MAIL FROM:<a>\r\nSTARTTLS\r\n"), "220, 530 5.7.0, 220 2.0.0");
        talk.says(MAIL);
        let tls = talk.mails[0].envelope.client.tls.clone().unwrap();
        assert_eq!(tls.subject.as_deref(), Some("CN=hive.example"));
    }

    #[test]
    fn a_password_is_not_asked_for_where_others_can_read_it() {
        let mut talk = safe();
        assert_eq!(
            talk.codes("EHLO a\r\nAUTH LOGIN\r\nNOOP\r\n"),
            format!("{GREETED}, 538 5.7.11, 250 2.0.0")
        );
        let mut without = super::tests::talk(|listener| {
            listener.auth = true;
            listener.auth_without_tls = true;
        });
        without.says("");
        assert_eq!(offered(&mut without), ["AUTH PLAIN LOGIN"]);
        assert_eq!(without.codes(format!("AUTH PLAIN {RIGHT}\r\n")), "235 2.7.0");
    }

    #[test]
    fn a_login_goes_as_clients_have_it() {
        for (said, answered) in [
            (format!("AUTH PLAIN {RIGHT}\r\n"), "235 2.7.0"),
            (format!("auth plain\r\n{RIGHT}\r\n"), "334, 235 2.7.0"),
            ("AUTH LOGIN\r\naGl2ZQ==\r\ncmlnaHQ=\r\n".into(), "334, 334, 235 2.7.0"),
            ("AUTH LOGIN aGl2ZQ==\r\ncmlnaHQ=\r\n".into(), "334, 235 2.7.0"),
            (format!("AUTH PLAIN {WRONG}\r\n"), "535 5.7.8"),
            ("AUTH LOGIN =\r\n\r\n".into(), "334, 535 5.7.8"),
            ("AUTH LOGIN\r\n*\r\nNOOP\r\n".into(), "334, 501 5.7.0, 250 2.0.0"),
            ("AUTH PLAIN\r\nMAIL FROM:<a>\r\n".into(), "334, 501 5.5.2"),
            ("AUTH PLAIN !\r\n".into(), "501 5.5.2"),
            ("AUTH PLAIN =\r\n".into(), "501 5.5.2"),
            ("AUTH CRAM-MD5\r\n".into(), "504 5.5.4"),
            ("AUTH\r\n".into(), "501 5.5.4"),
            ("MAIL FROM:<a>\r\nAUTH LOGIN\r\n".into(), "250 2.1.0, 503 5.5.1"),
            (format!("AUTH PLAIN {RIGHT}\r\nAUTH PLAIN {RIGHT}\r\n"), "235 2.7.0, 503 5.5.1"),
        ] {
            assert_eq!(encrypted().codes(&said), answered, "{said}");
            // However it is cut.
            let mut cut = encrypted();
            let bytes: Vec<String> =
                said.bytes().map(|byte| cut.codes([byte])).filter(|said| !said.is_empty()).collect();
            assert_eq!(bytes.join(", "), answered, "{said}");
        }
    }

    #[test]
    fn a_line_of_a_login_has_the_length_that_the_law_gives_it_and_no_more() {
        let long = |length: usize| "A".repeat(length);
        // Too long for base64 to be a message of ours, and still read as one line.
        assert_eq!(
            encrypted().codes(format!("AUTH PLAIN {}\r\nNOOP\r\n", long(12_272))),
            "501 5.5.2, 250 2.0.0"
        );
        assert_eq!(
            encrypted().codes(format!("AUTH PLAIN {}\r\nNOOP\r\n", long(12_276))),
            "500 5.5.6, 250 2.0.0"
        );
        assert_eq!(
            encrypted().codes(format!("AUTH PLAIN\r\n{}\r\nNOOP\r\n", long(12_284))),
            "334, 501 5.5.2, 250 2.0.0"
        );
        assert_eq!(
            encrypted().codes(format!("AUTH PLAIN\r\n{}\r\nNOOP\r\n", long(12_288))),
            "334, 500 5.5.6, 250 2.0.0"
        );
    }

    #[test]
    fn a_network_that_may_say_anything_is_let_in_as_nobody() {
        let mut talk = talk(|listener| {
            listener.accept_any_login = vec!["192.0.2.0/24".parse().unwrap()];
            listener.require_auth = true;
        });
        talk.says("");
        assert_eq!(offered(&mut talk), ["AUTH PLAIN LOGIN"]);
        assert_eq!(talk.codes("MAIL FROM:<a>\r\n"), "530 5.7.0");
        assert_eq!(talk.codes(format!("AUTH PLAIN {WRONG}\r\nAUTH LOGIN\r\n")), "235 2.7.0, 503 5.5.1");
        // The reply was true: the client may hand in mail, but counts as no user.
        talk.says(MAIL);
        assert_eq!(talk.mails[0].envelope.client.user, None);

        let mut stranger = super::tests::talk(|listener| {
            listener.accept_any_login = vec!["198.51.100.0/24".parse().unwrap()];
        });
        stranger.says("");
        assert_eq!(offered(&mut stranger), [""; 0]);
        assert_eq!(stranger.codes("AUTH LOGIN\r\n"), "502 5.5.1");
    }

    #[test]
    fn a_client_whose_logins_are_not_looked_at_is_told_to_come_again_or_goes() {
        let mut talk = encrypted();
        talk.session_login_is(LoginVerdict::Later);
        talk.session_login_is(LoginVerdict::TooMany);
        assert_eq!(talk.codes("NOOP\r\n"), "454 4.7.0, 421 4.7.0");
    }
}
