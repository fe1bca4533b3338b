//! The dialogue of AUTH (RFC 4954) for the mechanisms PLAIN (RFC 4616) and LOGIN, without I/O: lines of the
//! client go in, challenges and at the end a [`Login`] come out. Whether the login is right is asked elsewhere.

use base64ct::{Base64, Encoding};

use crate::secret::Secret;

use super::reply::{self, Reply};

/// The longest line of the dialogue, with its line end (RFC 4954 section 4).
pub const MAX_LINE: usize = 12_288;

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// Name and password in one message.
    Plain,
    /// Name and password, each asked for. It was never a standard, and the clients of Java and others like it best.
    Login,
}

/// What a client says who it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// A dialogue that waits for a line of the client.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    /// The name, once LOGIN has it.
    name: Option<String>,
}

/// How a dialogue goes on.
#[derive(Debug)]
pub enum Turn {
    /// Say this, and wait for the answer.
    Ask(Exchange, &'static Reply),
    /// The client has said all.
    Done(Login),
    /// The client broke it off or makes no sense.
    Over(&'static Reply),
}

impl Mechanism {
    /// The mechanism by its name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        [("PLAIN", Self::Plain), ("LOGIN", Self::Login)]
            .into_iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, mechanism)| mechanism)
    }

    /// Begins, with the initial response of the AUTH command if it has one; `=` is an empty one.
    pub fn begin(self, initial: Option<&str>) -> Turn {
        let exchange = Exchange { mechanism: self, name: None };
        match initial {
            None => exchange.ask(),
            Some("=") => exchange.hear(&[]),
            Some(text) => exchange.answer(text.as_bytes()),
        }
    }
}

impl Exchange {
    /// Goes on with a line, with or without its line end.
    pub fn answer(self, line: &[u8]) -> Turn {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line == b"*" {
            return Turn::Over(&reply::LOGIN_CANCELLED);
        }
        let decoded = str::from_utf8(line).ok().and_then(|text| Base64::decode_vec(text).ok());
        match decoded {
            Some(message) => self.hear(&message),
            None => Turn::Over(&reply::NOT_BASE64),
        }
    }

    fn ask(self) -> Turn {
        let challenge = match (self.mechanism, &self.name) {
            (Mechanism::Plain, _) => &reply::GO_ON,
            (Mechanism::Login, None) => &reply::ASK_NAME,
            (Mechanism::Login, Some(_)) => &reply::ASK_PASSWORD,
        };
        Turn::Ask(self, challenge)
    }

    fn hear(self, message: &[u8]) -> Turn {
        let Ok(text) = str::from_utf8(message) else { return Turn::Over(&reply::BAD_LOGIN_MESSAGE) };
        match (self.mechanism, self.name) {
            (Mechanism::Plain, _) => plain(text),
            (Mechanism::Login, None) => {
                Self { mechanism: Mechanism::Login, name: Some(text.to_owned()) }.ask()
            }
            (Mechanism::Login, Some(name)) => Turn::Done(Login { name, password: Secret::new(text) }),
        }
    }
}

/// Reads `authorization NUL name NUL password`. A user may act only for himself: the first part is empty or the name.
fn plain(message: &str) -> Turn {
    let mut parts = message.split('\0');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(whom), Some(name), Some(password), None) if whom.is_empty() || whom == name => {
            Turn::Done(Login { name: name.to_owned(), password: Secret::new(password) })
        }
        (Some(_), Some(_), Some(_), None) => Turn::Over(&reply::LOGIN_REFUSED),
        _ => Turn::Over(&reply::BAD_LOGIN_MESSAGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(name: &str, password: &str) -> Login {
        Login { name: name.into(), password: Secret::new(password) }
    }

    #[track_caller]
    fn done(turn: Turn) -> Login {
        match turn {
            Turn::Done(login) => login,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn asked(turn: Turn, wanted: &Reply) -> Exchange {
        match turn {
            Turn::Ask(exchange, reply) if reply == wanted => exchange,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn over(turn: Turn, wanted: &Reply) {
        match turn {
            Turn::Over(reply) => assert_eq!(reply, wanted),
            other => panic!("{other:?}"),
        }
    }

    fn base64(text: &str) -> String {
        Base64::encode_string(text.as_bytes())
    }

    #[test]
    fn plain_takes_its_message_at_once_or_when_asked() {
        let message = base64("\0hive\0s3cret ö");
        assert_eq!(done(Mechanism::Plain.begin(Some(&message))), login("hive", "s3cret ö"));
        let exchange = asked(Mechanism::Plain.begin(None), &reply::GO_ON);
        assert_eq!(done(exchange.answer(format!("{message}\r\n").as_bytes())), login("hive", "s3cret ö"));
        assert_eq!(done(Mechanism::Plain.begin(Some(&base64("a\0a\0p")))), login("a", "p"));
    }

    #[test]
    fn login_asks_for_the_name_and_the_password_in_the_words_that_clients_wait_for() {
        let exchange = asked(Mechanism::Login.begin(None), &reply::ASK_NAME);
        let exchange = asked(exchange.answer(b"aGl2ZQ==\r\n"), &reply::ASK_PASSWORD);
        assert_eq!(done(exchange.answer(b"czNjcmV0\n")), login("hive", "s3cret"));
        let exchange = asked(Mechanism::Login.begin(Some("aGl2ZQ==")), &reply::ASK_PASSWORD);
        assert_eq!(done(exchange.answer(b"\r\n")), login("hive", ""));
        asked(Mechanism::Login.begin(Some("=")), &reply::ASK_PASSWORD);
        let spelt = |reply: &Reply| Base64::decode_vec(&reply.text).unwrap();
        assert_eq!(spelt(&reply::ASK_NAME), b"Username:");
        assert_eq!(spelt(&reply::ASK_PASSWORD), b"Password:");
    }

    #[test]
    fn a_star_breaks_it_off_at_any_step() {
        over(asked(Mechanism::Plain.begin(None), &reply::GO_ON).answer(b"*\r\n"), &reply::LOGIN_CANCELLED);
        let exchange = asked(Mechanism::Login.begin(Some("aA==")), &reply::ASK_PASSWORD);
        over(exchange.answer(b"*\n"), &reply::LOGIN_CANCELLED);
    }

    #[test]
    fn what_is_no_message_of_the_mechanism_is_refused() {
        for wrong in ["a", "aGl2ZQ", "aGl2ZQ==x", "aGl2 ZQ==", "aGl2ZQ=\r", "====", "\u{e9}", "-_-_"] {
            over(Mechanism::Plain.begin(Some(wrong)), &reply::NOT_BASE64);
        }
        for wrong in ["", "a", "a\0b", "a\0b\0c\0d"] {
            let turn = Mechanism::Plain.begin(None);
            over(asked(turn, &reply::GO_ON).answer(base64(wrong).as_bytes()), &reply::BAD_LOGIN_MESSAGE);
        }
        over(Mechanism::Plain.begin(Some("=")), &reply::BAD_LOGIN_MESSAGE);
        over(Mechanism::Login.begin(Some("//8=")), &reply::BAD_LOGIN_MESSAGE);
        over(Mechanism::Plain.begin(Some(&base64("root\0hive\0p"))), &reply::LOGIN_REFUSED);
    }

    #[test]
    fn mechanisms_are_named_in_any_case() {
        assert_eq!(Mechanism::named("plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanism::named("Login"), Some(Mechanism::Login));
        assert_eq!(Mechanism::named("CRAM-MD5"), None);
    }
}
