//! The replies, all of them: a code (RFC 5321 section 4.2), an enhanced status code (RFC 3463, 2034) and
//! a short text. What a peer reads is fixed text and says nothing about the inside; of its own words
//! nothing comes back.

use std::borrow::Cow;
use std::fmt;

use crate::mail::MailId;

use super::Protocol;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The reply code.
    pub code: u16,
    /// The enhanced status code; empty in the greeting and in replies to EHLO and HELO (RFC 2034
    /// section 4).
    pub enhanced: &'static str,
    /// The text, its lines apart by LF.
    pub text: Cow<'static, str>,
}

const fn fixed(code: u16, enhanced: &'static str, text: &'static str) -> Reply {
    Reply { code, enhanced, text: Cow::Borrowed(text) }
}

/// To RSET and NOOP.
pub static OK: Reply = fixed(250, "2.0.0", "OK");
/// To MAIL.
pub static SENDER_OK: Reply = fixed(250, "2.1.0", "sender OK");
/// To RCPT.
pub static RECIPIENT_OK: Reply = fixed(250, "2.1.5", "recipient OK");
/// To DATA: go on. A 3xx reply has no enhanced code to have (RFC 3463 section 2).
pub static START_MAIL: Reply = fixed(354, "", "end data with <CR><LF>.<CR><LF>");
/// To VRFY: who is behind an address is not told (RFC 5321 section 7.3).
pub static CANNOT_VERIFY: Reply = fixed(252, "2.0.0", "cannot verify, send mail and see");
/// To HELP.
pub static HELP: Reply =
    fixed(214, "2.0.0", "EHLO HELO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT");
/// To BDAT that is not the last of its mail.
pub static CHUNK_OK: Reply = fixed(250, "2.0.0", "chunk OK");
/// To QUIT.
pub static GOODBYE: Reply = fixed(221, "2.0.0", "goodbye");

/// The service ends.
pub static SHUTTING_DOWN: Reply = fixed(421, "4.3.2", "shutting down, try again later");
/// All sessions that there may be are there.
pub static TOO_MANY_SESSIONS: Reply = fixed(421, "4.3.2", "too many sessions, try again later");
/// All that one client may have.
pub static TOO_MANY_FROM_CLIENT: Reply = fixed(421, "4.7.0", "too many sessions from your address");
/// More connections than a client may make in a time.
pub static TOO_MANY_CONNECTIONS: Reply =
    fixed(421, "4.7.0", "too many connections from your address, try again later");
/// Nothing came for too long.
pub static TIMEOUT: Reply = fixed(421, "4.4.2", "timeout, closing connection");
/// The client makes no sense.
pub static TOO_MANY_ERRORS: Reply = fixed(421, "4.7.0", "too many errors, closing connection");
/// What came behind a refused DATA was not pipelined by the rules, so it may be a message.
pub static NO_COMMANDS_AFTER_DATA: Reply =
    fixed(421, "4.7.0", "no message was asked for, closing connection");
/// A browser was made to speak to this port.
pub static NOT_HTTP: Reply = fixed(421, "4.7.0", "this is not HTTP, closing connection");
/// The session broke.
pub static INTERNAL_ERROR: Reply = fixed(421, "4.3.0", "internal error, try again later");

/// More mails than a client may hand in in a time.
pub static TOO_MANY_OF_CLIENT: Reply =
    fixed(450, "4.7.1", "too many mails from your address, try again later");
/// More from one address outside than a stranger may page.
pub static TOO_MANY_OF_STRANGER: Reply =
    fixed(450, "4.7.1", "too many mails from your address that prove no sender, try again later");
/// More than one sender may.
pub static TOO_MANY_OF_SENDER: Reply =
    fixed(450, "4.7.1", "too many mails from this sender, try again later");
/// More than may come for one recipient.
pub static TOO_MANY_FOR_RECIPIENT: Reply =
    fixed(450, "4.7.1", "too many mails for a recipient, try again later");
/// The mail could not be stored: I/O, or the service ends.
pub static CANNOT_STORE: Reply = fixed(451, "4.3.0", "cannot store the mail now, try again later");
/// The mail could not be stored: no room.
pub static NO_ROOM: Reply = fixed(452, "4.3.1", "no room for the mail now, try again later");
/// More recipients than a mail may have.
pub static TOO_MANY_RECIPIENTS: Reply = fixed(452, "4.5.3", "too many recipients");

/// Not a command.
pub static UNKNOWN_COMMAND: Reply = fixed(500, "5.5.1", "command not recognised");
/// A line longer than a command may be.
pub static LINE_TOO_LONG: Reply = fixed(500, "5.5.2", "line too long");
/// A line of a login that is longer than any (RFC 4954 sections 4 and 6).
pub static LOGIN_TOO_LONG: Reply = fixed(500, "5.5.6", "authentication exchange line is too long");
/// A CR, a NUL or the like inside a command.
pub static CONTROL_CHARACTER: Reply = fixed(500, "5.5.2", "control character in a command");
/// A command that ends in LF alone, where anybody may come in.
pub static BARE_LF: Reply = fixed(500, "5.5.2", "bare LF behind a command, closing connection");
/// EHLO or HELO where LMTP is spoken (RFC 2033 section 4.1).
pub static NEED_LHLO: Reply = fixed(500, "5.5.1", "this is LMTP, use LHLO");
/// To EHLO without a name.
pub static EHLO_SYNTAX: Reply = fixed(501, "", "syntax: EHLO hostname");
/// To HELO without a name.
pub static HELO_SYNTAX: Reply = fixed(501, "", "syntax: HELO hostname");
/// To MAIL without brackets and the like.
pub static MAIL_SYNTAX: Reply = fixed(501, "5.5.4", "syntax: MAIL FROM:<address> [parameters]");
/// To RCPT without brackets and the like.
pub static RCPT_SYNTAX: Reply = fixed(501, "5.5.4", "syntax: RCPT TO:<address>");
/// To VRFY and the like without what they are about.
pub static MISSING_ARGUMENT: Reply = fixed(501, "5.5.4", "argument missing");
/// To BDAT that does not say how many octets follow.
pub static BDAT_SYNTAX: Reply = fixed(501, "5.5.4", "syntax: BDAT size [LAST], closing connection");
/// To XCLIENT that cannot be read.
pub static XCLIENT_SYNTAX: Reply = fixed(501, "5.5.4", "bad XCLIENT attribute");
/// To DATA with something behind it.
pub static NO_ARGUMENT: Reply = fixed(501, "5.5.4", "no argument allowed");
/// A parameter that is known, with a value that is wrong.
pub static BAD_PARAMETER: Reply = fixed(501, "5.5.4", "bad value of a parameter");
/// A command that is known and not there.
pub static NOT_IMPLEMENTED: Reply = fixed(502, "5.5.1", "command not implemented");
/// MAIL in the middle of a mail.
pub static NESTED_MAIL: Reply = fixed(503, "5.5.1", "sender already given");
/// RCPT or DATA before MAIL.
pub static NEED_MAIL: Reply = fixed(503, "5.5.1", "need MAIL first");
/// DATA before RCPT.
pub static NEED_RCPT: Reply = fixed(503, "5.5.1", "need RCPT first");
/// RCPT, MAIL or DATA once BDAT has begun the content (RFC 3030 section 2).
pub static CHUNKS_BEGUN: Reply = fixed(503, "5.5.1", "content already begun by BDAT");
/// DATA for a mail that may be binary (RFC 3030 section 3).
pub static NEED_BDAT: Reply = fixed(503, "5.5.1", "BINARYMIME needs BDAT");
/// XCLIENT in the middle of a mail.
pub static IN_TRANSACTION: Reply = fixed(503, "5.5.1", "mail transaction in progress");
/// XCLIENT after the client was named: from then on the client itself may be speaking.
pub static NAMED_ALREADY: Reply = fixed(503, "5.5.1", "client named already");
/// LMTP: the content after every recipient was refused (RFC 2033 section 4.2).
pub static NO_RECIPIENTS: Reply = fixed(503, "5.5.1", "no valid recipients");
/// XCLIENT from one who may not name its client.
pub static MAY_NOT_NAME_CLIENT: Reply = fixed(550, "5.7.0", "not authorised for XCLIENT");
/// A recipient that no team takes.
pub static UNKNOWN_RECIPIENT: Reply = fixed(550, "5.1.1", "no team takes mail for this recipient");
/// A sender who may not come in here.
pub static SENDER_REFUSED: Reply = fixed(550, "5.7.1", "sender not allowed here");
/// A mail that fails DMARC, of a domain that wants such mails refused (RFC 7372 section 3.2).
pub static UNAUTHENTIC: Reply =
    fixed(550, "5.7.26", "the domain in From does not authorise this mail, and wants it refused");
/// More than a message may have.
pub static TOO_LARGE: Reply = fixed(552, "5.3.4", "message too large");
/// A reverse-path that is none.
pub static BAD_SENDER: Reply = fixed(553, "5.1.7", "bad sender address");
/// A forward-path that is none.
pub static BAD_RECIPIENT: Reply = fixed(553, "5.1.3", "bad recipient address");
/// A client that may not come in here, instead of the greeting.
pub static NO_ACCESS: Reply = fixed(554, "5.7.1", "no access from your address");
/// DATA after every recipient was refused.
pub static NO_VALID_RECIPIENTS: Reply = fixed(554, "5.5.1", "no valid recipients");
/// A mail that has been round too often.
pub static TOO_MANY_HOPS: Reply = fixed(554, "5.4.6", "too many Received fields, mail is in a loop");
/// A mail of this gateway that comes back to it.
pub static OWN_NOTICE: Reply = fixed(554, "5.4.6", "a notice of this gateway came back, mail is in a loop");
/// A parameter that was not offered.
pub static UNKNOWN_PARAMETER: Reply = fixed(555, "5.5.4", "parameter not recognised");

/// To STARTTLS: go on with the handshake.
pub static START_TLS: Reply = fixed(220, "2.0.0", "ready for TLS");
/// Something was pipelined behind STARTTLS, and could have been put there by somebody in between.
pub static NOTHING_BEHIND_STARTTLS: Reply =
    fixed(554, "5.5.0", "nothing may follow STARTTLS before the handshake, closing connection");
/// STARTTLS under TLS.
pub static TLS_ALREADY: Reply = fixed(503, "5.5.1", "TLS is active already");
/// What clients look for to know that they must encrypt, in the words of Postfix.
pub static NEED_TLS: Reply = fixed(530, "5.7.0", "Must issue a STARTTLS command first");

/// A challenge of AUTH PLAIN. Clients wait for the bare code.
pub static GO_ON: Reply = fixed(334, "", "");
/// The challenge `Username:` of AUTH LOGIN.
pub static ASK_NAME: Reply = fixed(334, "", "VXNlcm5hbWU6");
/// The challenge `Password:` of AUTH LOGIN.
pub static ASK_PASSWORD: Reply = fixed(334, "", "UGFzc3dvcmQ6");
/// A login that is right.
pub static LOGGED_IN: Reply = fixed(235, "2.7.0", "authentication succeeded");
/// A login that cannot be looked at now.
pub static LOGIN_LATER: Reply = fixed(454, "4.7.0", "cannot check the login now, try again later");
/// Too many logins of a client were wrong.
pub static TOO_MANY_LOGINS: Reply =
    fixed(421, "4.7.0", "too many failed logins, try again later, closing connection");
/// The client broke the login off.
pub static LOGIN_CANCELLED: Reply = fixed(501, "5.7.0", "authentication cancelled");
/// A line of a login that is not base64.
pub static NOT_BASE64: Reply = fixed(501, "5.5.2", "this is not base64");
/// A message that the mechanism does not have.
pub static BAD_LOGIN_MESSAGE: Reply = fixed(501, "5.5.2", "this is no message of the mechanism");
/// AUTH without a mechanism or with too much.
pub static AUTH_SYNTAX: Reply = fixed(501, "5.5.4", "syntax: AUTH mechanism [initial-response]");
/// AUTH within a mail.
pub static NO_AUTH_IN_MAIL: Reply = fixed(503, "5.5.1", "no AUTH within a mail");
/// AUTH after it succeeded.
pub static LOGGED_IN_ALREADY: Reply = fixed(503, "5.5.1", "already authenticated");
/// A mechanism that was not offered.
pub static UNKNOWN_MECHANISM: Reply = fixed(504, "5.5.4", "mechanism not offered");
/// A mail before the login that it needs.
pub static NEED_LOGIN: Reply = fixed(530, "5.7.0", "authentication required");
/// A login that is wrong.
pub static LOGIN_REFUSED: Reply = fixed(535, "5.7.8", "authentication failed");
/// A login that everybody could read.
pub static LOGIN_NEEDS_TLS: Reply = fixed(538, "5.7.11", "authentication needs TLS");

/// The greeting.
pub fn greeting(hostname: &str, protocol: Protocol) -> Reply {
    let protocol = match protocol {
        Protocol::Smtp => "ESMTP",
        Protocol::Lmtp => "LMTP",
    };
    Reply { code: 220, enhanced: "", text: format!("{hostname} {protocol} smtp2signl4").into() }
}

/// To HELO. One line, because some clients read no more.
pub fn hello(hostname: &str) -> Reply {
    Reply { code: 250, enhanced: "", text: hostname.to_owned().into() }
}

/// To EHLO: the name and what is offered, `more` beside what everybody is.
pub fn offers(hostname: &str, max_message_size: usize, more: &[&str]) -> Reply {
    let mut text = format!(
        "{hostname}\nPIPELINING\nSIZE {max_message_size}\n8BITMIME\nSMTPUTF8\nENHANCEDSTATUSCODES\nCHUNKING\nBINARYMIME"
    );
    for offer in more {
        text.push('\n');
        text.push_str(offer);
    }
    Reply { code: 250, enhanced: "", text: text.into() }
}

/// To the end of data: the mail is on disk, and this is the id to ask for it.
pub fn queued(id: MailId) -> Reply {
    Reply { code: 250, enhanced: "2.0.0", text: format!("queued as {id}").into() }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.text.lines().next().unwrap_or_default();
        let gap = if self.enhanced.is_empty() { "" } else { " " };
        write!(f, "{}{gap}{} {first}", self.code, self.enhanced)
    }
}

impl Reply {
    /// Writes the reply as the client reads it.
    pub fn write(&self, output: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { b'-' } else { b' ' };
            output.extend_from_slice(&self.digits());
            output.push(mark);
            if !self.enhanced.is_empty() {
                output.extend_from_slice(self.enhanced.as_bytes());
                output.push(b' ');
            }
            output.extend_from_slice(line.as_bytes());
            output.extend_from_slice(b"\r\n");
        }
    }

    fn digits(&self) -> [u8; 3] {
        [100, 10, 1].map(|place| b'0' + (self.code / place % 10) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(reply: &Reply) -> String {
        let mut output = Vec::new();
        reply.write(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn every_line_of_a_reply_has_its_code_and_only_the_last_a_space() {
        assert_eq!(written(&RECIPIENT_OK), "250 2.1.5 recipient OK\r\n");
        assert_eq!(
            written(&offers("mx.example", 100, &["X Y"])),
            "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 100\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 X Y\r\n"
        );
    }
}
