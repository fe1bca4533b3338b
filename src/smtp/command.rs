//! A command line and what it asks for (RFC 5321 section 4.1).
//!
//! smtp-proto reads the verbs and their arguments. Around it:
//! - A line with a control character is refused before it gets there: smtp-proto skips a CR wherever it
//!   stands, so that `DA<CR>TA` would be DATA here and nothing of the kind at the relay in front.
//! - MAIL and RCPT are read here. smtp-proto refuses address literals (`<root@[192.0.2.1]>`) and names
//!   without a domain (`<root>`, which appliances send), returns the empty text for `<postmaster>` as for
//!   `<>`, takes the quotes off a quoted name so that `"a@b"@c` reads `a@b@c`, accepts parameters
//!   that were never offered, and lets a SIZE of more than twenty digits wrap around.
//! - DATA with an argument is refused: smtp-proto ignores the argument.
//! - BDAT is read by [`chunk`], so that a size which does not fit is still a size.
//!
//! What a path means is not looked at: a reverse-path is only shown, and whether a forward-path is known
//! is asked of [`Accept`](super::Accept). Names and domains may be UTF-8 with and without SMTPUTF8, as
//! the mail goes no further.

use std::borrow::Cow;

use smtp_proto::{Error, Request};

use super::chunk;
use super::chunk::Announced;
use super::reply;
use super::reply::Reply;
use super::xclient;
use super::xclient::Said;

/// The longest line that can be a command, with its line end. RFC 5321 section 4.5.3.1.4 asks for 512
/// octets and each extension for some more; this leaves room for every one, and for long addresses.
pub const MAX_LINE: usize = 2048;

/// The longest path: 64 octets of name, 255 of domain (RFC 5321 section 4.5.3.1) and the `@`.
const MAX_PATH: usize = 320;

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// EHLO, with the name that the client has for itself.
    Ehlo(Cow<'a, str>),
    /// HELO, likewise.
    Helo(Cow<'a, str>),
    /// MAIL FROM.
    Mail {
        /// The reverse-path without its brackets; empty for `<>`.
        path: &'a str,
        /// The SIZE that was declared (RFC 1870).
        size: Option<u64>,
        /// Whether the mail may be binary (BODY=BINARYMIME, RFC 3030 section 3).
        binary: bool,
        /// Whether its header may be in UTF-8 (SMTPUTF8, RFC 6531).
        utf8: bool,
    },
    /// RCPT TO, with the forward-path without its brackets.
    Rcpt(&'a str),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP, with or without argument.
    Noop,
    /// VRFY.
    Vrfy,
    /// HELP.
    Help,
    /// QUIT.
    Quit,
    /// STARTTLS (RFC 3207).
    Starttls,
    /// AUTH (RFC 4954).
    Auth {
        /// The mechanism, as it was written.
        mechanism: &'a str,
        /// The initial response, if there is one.
        initial: Option<&'a str>,
    },
    /// The first line of an HTTP request: a web page had a browser send it here, with commands in its
    /// body.
    Http,
    /// LHLO, the greeting of LMTP (RFC 2033 section 4.1).
    Lhlo(Cow<'a, str>),
    /// BDAT (RFC 3030 section 2).
    Bdat(Announced),
    /// XCLIENT, with what the relay says of its client; none if it cannot be read.
    Xclient(Option<Said>),
}

/// Reads a line, which ends in LF or CRLF. A bare LF ends a command, but never data: scripts that write
/// to the port by hand send it, and it harms no other client.
///
/// # Errors
/// The reply that says what is wrong with it.
pub fn parse(line: &[u8]) -> Result<Command<'_>, &'static Reply> {
    let body = line.strip_suffix(b"\n").unwrap_or(line);
    let body = body.strip_suffix(b"\r").unwrap_or(body);
    if body.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(&reply::CONTROL_CHARACTER);
    }
    let body = body.trim_ascii();
    let (verb, argument) = body.split_at(body.iter().position(u8::is_ascii_whitespace).unwrap_or(body.len()));
    let argument = argument.trim_ascii_start();
    let verb_is = |name: &str| verb.eq_ignore_ascii_case(name.as_bytes());

    if verb_is("MAIL") {
        return mail(argument);
    }
    if verb_is("RCPT") {
        return rcpt(argument);
    }
    if verb_is("DATA") && !argument.is_empty() {
        return Err(&reply::NO_ARGUMENT);
    }
    if verb_is("STARTTLS") {
        return if argument.is_empty() { Ok(Command::Starttls) } else { Err(&reply::NO_ARGUMENT) };
    }
    if verb_is("AUTH") {
        return auth(argument);
    }
    if verb_is("BDAT") {
        return chunk::announced(argument).map(Command::Bdat).ok_or(&reply::BDAT_SYNTAX);
    }
    if verb_is("XCLIENT") {
        return Ok(Command::Xclient(xclient::said(argument)));
    }
    if ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT"].into_iter().any(verb_is) {
        return Ok(Command::Http);
    }
    match Request::parse(&mut line.iter()) {
        Ok(Request::Ehlo { host }) => Ok(Command::Ehlo(host)),
        Ok(Request::Helo { host }) => Ok(Command::Helo(host)),
        Ok(Request::Lhlo { host }) => Ok(Command::Lhlo(host)),
        Ok(Request::Data) => Ok(Command::Data),
        Ok(Request::Rset) => Ok(Command::Rset),
        Ok(Request::Noop { .. }) => Ok(Command::Noop),
        Ok(Request::Vrfy { .. }) => Ok(Command::Vrfy),
        Ok(Request::Help { .. }) => Ok(Command::Help),
        Ok(Request::Quit) => Ok(Command::Quit),
        Ok(_) => Err(&reply::NOT_IMPLEMENTED),
        Err(Error::SyntaxError { .. }) if verb_is("EHLO") || verb_is("LHLO") => Err(&reply::EHLO_SYNTAX),
        Err(Error::SyntaxError { .. }) if verb_is("HELO") => Err(&reply::HELO_SYNTAX),
        Err(Error::SyntaxError { .. }) if verb_is("VRFY") => Err(&reply::MISSING_ARGUMENT),
        Err(Error::SyntaxError { .. }) => Err(&reply::NOT_IMPLEMENTED),
        Err(_) => Err(&reply::UNKNOWN_COMMAND),
    }
}

/// Reads `mechanism [initial-response]`. smtp-proto takes more than that, and base64 apart that is none.
fn auth(argument: &[u8]) -> Result<Command<'_>, &'static Reply> {
    let mut words = str::from_utf8(argument).map_err(|_| &reply::AUTH_SYNTAX)?.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => Ok(Command::Auth { mechanism, initial }),
        _ => Err(&reply::AUTH_SYNTAX),
    }
}

fn mail(argument: &[u8]) -> Result<Command<'_>, &'static Reply> {
    let (path, parameters) = path(argument, "FROM").map_err(|wrong| match wrong {
        Wrong::Syntax => &reply::MAIL_SYNTAX,
        Wrong::Address => &reply::BAD_SENDER,
    })?;
    let (mut size, mut binary, mut utf8) = (None, false, false);
    for parameter in parameters.split_ascii_whitespace() {
        let (key, value) = match parameter.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (parameter, None),
        };
        let key_is = |name: &str| key.eq_ignore_ascii_case(name);
        if key_is("SIZE") {
            size = Some(value.and_then(declared).ok_or(&reply::BAD_PARAMETER)?);
        } else if key_is("BODY") {
            // Data is kept as it comes, so that the first two mean the same here.
            match value {
                Some(v) if v.eq_ignore_ascii_case("7BIT") || v.eq_ignore_ascii_case("8BITMIME") => (),
                Some(v) if v.eq_ignore_ascii_case("BINARYMIME") => binary = true,
                _ => return Err(&reply::BAD_PARAMETER),
            }
        } else if key_is("SMTPUTF8") {
            if value.is_some() {
                return Err(&reply::BAD_PARAMETER);
            }
            utf8 = true;
        } else if key_is("AUTH") {
            // The author as the client names it (RFC 4954 section 5). Nothing here depends on it.
            if value.is_none_or(str::is_empty) {
                return Err(&reply::BAD_PARAMETER);
            }
        } else {
            return Err(&reply::UNKNOWN_PARAMETER);
        }
    }
    Ok(Command::Mail { path, size, binary, utf8 })
}

/// The value of SIZE. More than fits is as good as the most that fits: both are too large.
fn declared(value: &str) -> Option<u64> {
    (!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| value.parse().unwrap_or(u64::MAX))
}

fn rcpt(argument: &[u8]) -> Result<Command<'_>, &'static Reply> {
    let (path, parameters) = path(argument, "TO").map_err(|wrong| match wrong {
        Wrong::Syntax => &reply::RCPT_SYNTAX,
        Wrong::Address => &reply::BAD_RECIPIENT,
    })?;
    if path.is_empty() {
        return Err(&reply::BAD_RECIPIENT);
    }
    if !parameters.trim_ascii().is_empty() {
        return Err(&reply::UNKNOWN_PARAMETER);
    }
    Ok(Command::Rcpt(path))
}

/// What is wrong with the argument of MAIL or RCPT.
enum Wrong {
    /// Not `FROM:<…>`, or something stands at the closing bracket.
    Syntax,
    /// There is no address in the brackets.
    Address,
}

/// Reads `FROM:<path>` with or without spaces around the colon, as Wazuh and others have them, and
/// returns the path, without brackets and source route, and the parameters.
fn path<'a>(argument: &'a [u8], keyword: &str) -> Result<(&'a str, &'a str), Wrong> {
    let argument = str::from_utf8(argument).map_err(|_| Wrong::Address)?;
    let (head, rest) = argument.split_at_checked(keyword.len()).ok_or(Wrong::Syntax)?;
    if !head.eq_ignore_ascii_case(keyword) {
        return Err(Wrong::Syntax);
    }
    let rest = rest.trim_ascii_start().strip_prefix(':').ok_or(Wrong::Syntax)?;
    let rest = rest.trim_ascii_start().strip_prefix('<').ok_or(Wrong::Syntax)?;
    let end = closing_bracket(rest).ok_or(Wrong::Syntax)?;
    let (path, parameters) = (&rest[..end], &rest[end + 1..]);
    if !parameters.is_empty() && !parameters.starts_with([' ', '\t']) {
        return Err(Wrong::Syntax);
    }
    let path = without_route(path).ok_or(Wrong::Address)?;
    if path.is_empty() || is_mailbox(path) { Ok((path, parameters)) } else { Err(Wrong::Address) }
}

/// The place of the first `>` that is not in a quoted name.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => (),
        }
    }
    None
}

/// The path without `@relay,@relay:` in front, which has long had no meaning (RFC 5321 appendix C).
fn without_route(path: &str) -> Option<&str> {
    if path.starts_with('@') { path.split_once(':').map(|(_, mailbox)| mailbox) } else { Some(path) }
}

/// Whether `text` is a name, or a name and a domain. The name may be quoted and is kept with its quotes;
/// a domain may be an address literal. Dots may stand anywhere: there are such addresses.
fn is_mailbox(text: &str) -> bool {
    const APART: [char; 10] = ['@', '<', '>', '(', ')', ',', ';', '"', ' ', '\t'];
    let is_word = |part: &str| !part.is_empty() && !part.contains(APART);
    let (is_name, behind) = match text.strip_prefix('"') {
        Some(quoted) => match closing_quote(quoted) {
            Some(end) => (true, &quoted[end + 1..]),
            None => return false,
        },
        None => {
            let (name, behind) = text.split_at(text.find('@').unwrap_or(text.len()));
            (is_word(name), behind)
        }
    };
    let is_domain = behind.is_empty() || behind.strip_prefix('@').is_some_and(is_word);
    is_name && is_domain && text.len() <= MAX_PATH && !text.contains(char::is_control)
}

/// The place of the quote that ends a quoted name.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(path: &str, size: Option<u64>) -> Result<Command<'_>, &'static Reply> {
        Ok(Command::Mail { path, size, binary: false, utf8: false })
    }

    #[test]
    fn commands_are_read_in_any_case_and_with_either_line_end() {
        assert_eq!(parse(b"ehlo [127.0.0.1]\r\n"), Ok(Command::Ehlo("[127.0.0.1]".into())));
        assert_eq!(parse(b"Helo notify.ossec.net\n"), Ok(Command::Helo("notify.ossec.net".into())));
        assert_eq!(parse(b"dAtA \r\n"), Ok(Command::Data));
        assert_eq!(parse(b"NOOP all is well\r\n"), Ok(Command::Noop));
        assert_eq!(parse(b"noop\r\n"), Ok(Command::Noop));
        assert_eq!(parse(b"vrfy root\r\n"), Ok(Command::Vrfy));
        assert_eq!(parse(b"HELP DATA\r\n"), Ok(Command::Help));
        assert_eq!(parse(b"quit\r\n"), Ok(Command::Quit));
        assert_eq!(parse(b"rset\r\n"), Ok(Command::Rset));
        assert_eq!(parse(b"starttls\r\n"), Ok(Command::Starttls));
        let auth = |initial| Ok(Command::Auth { mechanism: "login", initial });
        assert_eq!(parse(b"Auth login \r\n"), auth(None));
        assert_eq!(parse(b"AUTH login =\r\n"), auth(Some("=")));
        assert_eq!(parse(b"lhlo relay\r\n"), Ok(Command::Lhlo("relay".into())));
        assert_eq!(parse(b"bdat 86 last\r\n"), Ok(Command::Bdat(Announced { size: 86, last: true })));
        assert_eq!(parse(b"XCLIENT ADDR=1\r\n"), Ok(Command::Xclient(None)));
    }

    #[test]
    fn spaces_around_the_colon_do_not_matter() {
        assert_eq!(parse(b"Mail From: <a@b>\r\n"), mail("a@b", None));
        assert_eq!(parse(b"MAIL FROM : <a@b> \r\n"), mail("a@b", None));
        assert_eq!(parse(b"Rcpt To: <a@b>\r\n"), Ok(Command::Rcpt("a@b")));
    }

    #[test]
    fn paths_are_kept_as_they_are_but_for_brackets_and_route() {
        for path in [
            "",
            "root",
            "root@[192.0.2.1]",
            "root@[IPv6:2001:db8::1]",
            "a+b=c@d.e",
            "\"a@b\"@c",
            "\"a\\\">\"@c",
            "jörg@müller.example",
            "a..b@c",
            "SRS0=x=y@z",
        ] {
            assert_eq!(parse(format!("MAIL FROM:<{path}>\r\n").as_bytes()), mail(path, None));
        }
        assert_eq!(parse(b"RCPT TO:<postmaster>\r\n"), Ok(Command::Rcpt("postmaster")));
        assert_eq!(parse(b"RCPT TO:<@a,@b:c@d>\r\n"), Ok(Command::Rcpt("c@d")));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in [
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "<a@b",
            "\"a\"b@c",
            " a@b",
            "a,b@c",
            "\u{e9}\0",
            "\u{85}@b",
            "\"\u{9b}\"",
        ] {
            let line = format!("MAIL FROM:<{path}>\r\n");
            let found = parse(line.as_bytes());
            assert!(found.is_err(), "{path:?} became {found:?}");
        }
        assert_eq!(parse(b"RCPT TO:<>\r\n"), Err(&reply::BAD_RECIPIENT));
        assert_eq!(parse(b"MAIL FROM:<\xe9@b>\r\n"), Err(&reply::BAD_SENDER));
        assert_eq!(parse(b"MAIL FROM:a@b\r\n"), Err(&reply::MAIL_SYNTAX));
        assert_eq!(parse(b"MAIL FROM:<a@b>SIZE=1\r\n"), Err(&reply::MAIL_SYNTAX));
        assert_eq!(parse(b"MAIL FROM:<\"a@b>\r\n"), Err(&reply::MAIL_SYNTAX));
        assert_eq!(parse(b"MAIL\r\n"), Err(&reply::MAIL_SYNTAX));
        assert_eq!(parse(b"RCPT FROM:<a@b>\r\n"), Err(&reply::RCPT_SYNTAX));
        let long = format!("RCPT TO:<{}@b>\r\n", "a".repeat(MAX_PATH));
        assert_eq!(parse(long.as_bytes()), Err(&reply::BAD_RECIPIENT));
    }

    #[test]
    fn parameters_that_were_offered_are_taken_and_all_others_refused() {
        assert_eq!(parse(b"mail FROM:<a> size=473\r\n"), mail("a", Some(473)));
        assert_eq!(parse(b"MAIL FROM:<a> BODY=8BITMIME  AUTH=<> SIZE=0\r\n"), mail("a", Some(0)));
        assert_eq!(
            parse(b"MAIL FROM:<a> BODY=binarymime SMTPUTF8\r\n"),
            Ok(Command::Mail { path: "a", size: None, binary: true, utf8: true })
        );
        assert_eq!(parse(b"MAIL FROM:<a> SIZE=99999999999999999999999\r\n"), mail("a", Some(u64::MAX)));
        for bad in ["SIZE", "SIZE=", "SIZE=-1", "SIZE=1k", "BODY", "BODY=9BIT", "SMTPUTF8=yes", "AUTH="] {
            let line = format!("MAIL FROM:<a> {bad}\r\n");
            assert_eq!(parse(line.as_bytes()), Err(&reply::BAD_PARAMETER), "{bad}");
        }
        for unknown in ["RET=HDRS", "X", "HOLDFOR=1", "=", "SIZ=1"] {
            let line = format!("MAIL FROM:<a> {unknown}\r\n");
            assert_eq!(parse(line.as_bytes()), Err(&reply::UNKNOWN_PARAMETER), "{unknown}");
        }
        assert_eq!(parse(b"RCPT TO:<a> NOTIFY=NEVER\r\n"), Err(&reply::UNKNOWN_PARAMETER));
    }

    #[test]
    fn a_control_character_is_never_skipped() {
        for line in [&b"DA\rTA\r\n"[..], b"\0DATA\r\n", b"DATA\r\r\n", b"EHLO a\x1b[2J\r\n", b"QUIT\x0c\r\n"]
        {
            assert_eq!(parse(line), Err(&reply::CONTROL_CHARACTER), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_command_of_ours_says_so() {
        assert_eq!(parse(b"\r\n"), Err(&reply::UNKNOWN_COMMAND));
        assert_eq!(parse(b"Subject: x\r\n"), Err(&reply::UNKNOWN_COMMAND));
        assert_eq!(parse(b"DATA now\r\n"), Err(&reply::NO_ARGUMENT));
        assert_eq!(parse(b"EHLO\r\n"), Err(&reply::EHLO_SYNTAX));
        assert_eq!(parse(b"HELO \r\n"), Err(&reply::HELO_SYNTAX));
        assert_eq!(parse(b"VRFY\r\n"), Err(&reply::MISSING_ARGUMENT));
        assert_eq!(parse(b"STARTTLS now\r\n"), Err(&reply::NO_ARGUMENT));
        assert_eq!(parse(b"AUTH\r\n"), Err(&reply::AUTH_SYNTAX));
        assert_eq!(parse(b"AUTH PLAIN a b\r\n"), Err(&reply::AUTH_SYNTAX));
        assert_eq!(parse(b"BDAT\r\n"), Err(&reply::BDAT_SYNTAX));
        for line in ["EXPN staff", "EXPN", "ETRN x"] {
            assert_eq!(parse(format!("{line}\r\n").as_bytes()), Err(&reply::NOT_IMPLEMENTED), "{line}");
        }
        assert_eq!(parse(b"POST / HTTP/1.1\r\n"), Ok(Command::Http));
    }
}
