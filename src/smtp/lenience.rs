//! What senders get wrong, and what becomes of it. Every repair is noted, so that a mail tells of its
//! sender's habits.
//!
//! A blank at the colon, long text lines and raw 8-bit header fields and addresses leave no doubt where a mail ends, and
//! are taken at every listener. Commands that end in a bare LF are taken at every listener but the public ones. The rest
//! is repaired where the listener is `lenient`; a public one cannot be.

use super::command;
use super::command::Command;
use super::reply;
use super::reply::Reply;

/// The longest command line at a lenient listener.
pub const MAX_LINE: usize = 12 << 10;

/// The longest line of a text, with its line end (RFC 5321 section 4.5.3.1.6).
const MAX_TEXT_LINE: usize = 1000;

/// Something that was not as it should be, and was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// `MAIL FROM:a@b`.
    SenderWithoutBrackets,
    /// `RCPT TO:a@b`.
    RecipientWithoutBrackets,
    /// `MAIL FROM: <a@b>`.
    BlanksAtColon,
    /// EHLO, HELO or LHLO without a name.
    NoName,
    /// A command longer than [`command::MAX_LINE`].
    LongCommand,
    /// A command that ended in LF and not in CRLF.
    BareLf,
    /// A line of the text that is longer than a line may be.
    LongText,
    /// A header field with 8-bit characters in it, of a mail that was not declared SMTPUTF8.
    RawHeader,
    /// The same in an address of the envelope.
    RawAddress,
}

impl Repair {
    const ALL: [Self; 9] = [
        Self::SenderWithoutBrackets,
        Self::RecipientWithoutBrackets,
        Self::BlanksAtColon,
        Self::NoName,
        Self::LongCommand,
        Self::BareLf,
        Self::LongText,
        Self::RawHeader,
        Self::RawAddress,
    ];

    /// What an operator reads.
    pub fn words(self) -> &'static str {
        match self {
            Self::SenderWithoutBrackets => "MAIL FROM without brackets",
            Self::RecipientWithoutBrackets => "RCPT TO without brackets",
            Self::BlanksAtColon => "blanks at the colon of MAIL FROM or RCPT TO",
            Self::NoName => "a greeting without a name",
            Self::LongCommand => "a command line that is too long",
            Self::BareLf => "a command that ends in a bare LF",
            Self::LongText => "a text line that is too long",
            Self::RawHeader => "8-bit characters in the header without SMTPUTF8",
            Self::RawAddress => "8-bit characters in an address without SMTPUTF8",
        }
    }
}

/// A set of repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repairs(u16);

impl Repairs {
    /// Puts one into the set.
    pub fn note(&mut self, repair: Repair) {
        self.0 |= 1 << repair as u16;
    }

    /// Puts all of `others` into the set.
    pub fn join(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether `repair` is in the set.
    pub fn has(self, repair: Repair) -> bool {
        self.0 & 1 << repair as u16 != 0
    }

    /// Them in words.
    pub fn words(self) -> Vec<String> {
        Repair::ALL
            .into_iter()
            .filter(|repair| self.has(*repair))
            .map(|repair| repair.words().to_owned())
            .collect()
    }
}

/// Reads a command line as [`command::parse`] does, and if the listener is `lenient`, one that legacy
/// senders get wrong as it was meant. `straightened` is room for such a line.
///
/// # Errors
/// The reply that says what is wrong with it.
pub fn read<'l>(
    line: &'l [u8],
    lenient: bool,
    straightened: &'l mut Vec<u8>,
) -> Result<(Command<'l>, Repairs), &'static Reply> {
    let mut repairs = noticed(line);
    match command::parse(line) {
        Ok(command) => Ok((command, repairs)),
        Err(reply) if !lenient => Err(reply),
        Err(reply) => {
            let (verb, argument) = parts(line);
            if argument.is_empty() && [&reply::EHLO_SYNTAX, &reply::HELO_SYNTAX].contains(&reply) {
                repairs.note(Repair::NoName);
                let command = match verb.first() {
                    Some(b'H' | b'h') => Command::Helo("".into()),
                    Some(b'L' | b'l') => Command::Lhlo("".into()),
                    _ => Command::Ehlo("".into()),
                };
                return Ok((command, repairs));
            }
            let repair = if verb.eq_ignore_ascii_case(b"MAIL") {
                Repair::SenderWithoutBrackets
            } else {
                Repair::RecipientWithoutBrackets
            };
            *straightened = bracketed(verb, argument).ok_or(reply)?;
            repairs.note(repair);
            command::parse(straightened).map(|command| (command, repairs))
        }
    }
}

/// What is not as it should be with a line that can be read as it is.
fn noticed(line: &[u8]) -> Repairs {
    let mut repairs = Repairs::default();
    if !line.ends_with(b"\r\n") {
        repairs.note(Repair::BareLf);
    }
    if line.len() > command::MAX_LINE {
        repairs.note(Repair::LongCommand);
    }
    let (verb, argument) = parts(line);
    if (verb.eq_ignore_ascii_case(b"MAIL") || verb.eq_ignore_ascii_case(b"RCPT"))
        && let Some(colon) = memchr::memchr(b':', argument)
    {
        let at = [argument[..colon].last(), argument.get(colon + 1)];
        if at.into_iter().flatten().any(u8::is_ascii_whitespace) {
            repairs.note(Repair::BlanksAtColon);
        }
    }
    repairs
}

/// The verb and the argument of a line.
fn parts(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii();
    let (verb, argument) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()));
    (verb, argument.trim_ascii_start())
}

/// `MAIL FROM:a@b …` or `RCPT TO:a@b …` with the brackets that it lacks; none if that is not what is wrong.
fn bracketed(verb: &[u8], argument: &[u8]) -> Option<Vec<u8>> {
    let keyword: &[u8] = match verb.to_ascii_uppercase().as_slice() {
        b"MAIL" => b"FROM",
        b"RCPT" => b"TO",
        _ => return None,
    };
    let (head, rest) = argument.split_at_checked(keyword.len())?;
    let rest = rest.trim_ascii_start().strip_prefix(b":").filter(|_| head.eq_ignore_ascii_case(keyword))?;
    let rest = rest.trim_ascii_start();
    let (path, parameters) =
        rest.split_at(rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len()));
    // With quotes or a bracket in it, where the path ends is a guess.
    if path.iter().any(|byte| b"<>\"".contains(byte)) {
        return None;
    }
    Some([verb, b" ", keyword, b":<", path, b">", parameters, b"\r\n"].concat())
}

/// What is not as it should be with the content of a mail. One that is `binary` (RFC 3030) has no lines.
pub fn of_content(content: &[u8], header: &[u8], utf8: bool, binary: bool) -> Repairs {
    let mut repairs = Repairs::default();
    if !utf8 && !header.is_ascii() {
        repairs.note(Repair::RawHeader);
    }
    if !binary && has_long_line(content) {
        repairs.note(Repair::LongText);
    }
    repairs
}

fn has_long_line(content: &[u8]) -> bool {
    let mut rest = content;
    while rest.len() > MAX_TEXT_LINE {
        // The last end within reach: the lines before it are short, as all of them are.
        match memchr::memrchr(b'\n', &rest[..MAX_TEXT_LINE]) {
            Some(end) => rest = &rest[end + 1..],
            None => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line is taken for, as text so that it outlives the line, and what was noted.
    fn taken(line: &str, lenient: bool) -> Result<(String, Vec<String>), &'static Reply> {
        let mut room = Vec::new();
        read(line.as_bytes(), lenient, &mut room)
            .map(|(command, repairs)| (format!("{command:?}"), repairs.words()))
    }

    fn meant(line: &str) -> String {
        format!("{:?}", command::parse(line.as_bytes()).unwrap())
    }

    #[test]
    fn a_lenient_entrance_takes_what_was_meant_and_others_refuse_it() {
        for (line, as_if, words) in [
            ("MAIL FROM:a@b\r\n", "MAIL FROM:<a@b>\r\n", "MAIL FROM without brackets"),
            ("mail from:a@b size=9\r\n", "MAIL FROM:<a@b> SIZE=9\r\n", "MAIL FROM without brackets"),
            ("MAIL FROM:\r\n", "MAIL FROM:<>\r\n", "MAIL FROM without brackets"),
            ("RCPT TO:soc\r\n", "RCPT TO:<soc>\r\n", "RCPT TO without brackets"),
        ] {
            assert_eq!(taken(line, true), Ok((meant(as_if), vec![words.to_owned()])), "{line}");
            assert!(taken(line, false).is_err(), "{line}");
        }
        for (line, command) in
            [("EHLO\r\n", "Ehlo(\"\")"), ("helo \r\n", "Helo(\"\")"), ("LHLO\r\n", "Lhlo(\"\")")]
        {
            assert_eq!(taken(line, true), Ok((command.to_owned(), vec![Repair::NoName.words().to_owned()])));
            assert!(taken(line, false).is_err(), "{line}");
        }
    }

    #[test]
    fn what_nobody_can_have_meant_is_refused_everywhere() {
        for line in [
            "MAIL FROM:<a@b\r\n",
            "MAIL FROM:a@b>\r\n",
            "MAIL FROM:\"a b\"@c\r\n",
            "MAIL FROM:a@b@c\r\n",
            "MAIL FROM:a@b FOO\r\n",
            "MAIL a@b\r\n",
            "RCPT TO:\r\n",
            "RCPT FROM:a\r\n",
            "MAIL FROM:a\0@b\r\n",
            "DATA x\r\n",
            "X\r\n",
        ] {
            assert!(taken(line, true).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_taken_everywhere_is_noted() {
        let noted = |line: &str| taken(line, false).unwrap().1;
        assert_eq!(noted("MAIL FROM:<a@b>\r\n"), Vec::<String>::new());
        assert_eq!(noted("NOOP x: y\r\n"), Vec::<String>::new());
        for line in ["MAIL FROM: <a@b>\r\n", "MAIL FROM :<a@b>\r\n", "Rcpt To:\t<a@b>\r\n"] {
            assert_eq!(noted(line), [Repair::BlanksAtColon.words()], "{line}");
        }
        assert_eq!(noted("DATA\n"), [Repair::BareLf.words()]);
        assert_eq!(
            noted(&format!("NOOP {}\r\n", "x".repeat(command::MAX_LINE))),
            [Repair::LongCommand.words()]
        );
    }

    #[test]
    fn a_long_line_is_seen_wherever_it_is() {
        let line = |length: usize| "x".repeat(length - 2) + "\r\n";
        for (text, long) in [
            (line(1000).repeat(3), false),
            (line(1001), true),
            (line(7).repeat(500) + &line(1001) + "x", true),
            ("x".repeat(1000), false),
            ("x".repeat(1001), true),
            (String::new(), false),
        ] {
            assert_eq!(has_long_line(text.as_bytes()), long, "{} bytes", text.len());
        }
    }

    #[test]
    fn eight_bits_in_a_header_are_noted_unless_they_were_declared() {
        let words = |utf8, binary| of_content(&[b'x'; 2000], b"Subject: \xfc", utf8, binary).words();
        assert_eq!(words(false, false), [Repair::LongText.words(), Repair::RawHeader.words()]);
        assert_eq!(words(true, true), Vec::<String>::new());
    }

    #[test]
    fn every_repair_has_its_own_words() {
        let mut all = Repairs::default();
        Repair::ALL.into_iter().for_each(|repair| all.note(repair));
        assert_eq!((all.words().len(), all.count()), (9, 9));
        all.join(Repairs::default());
        let words: std::collections::HashSet<_> = all.words().into_iter().collect();
        assert_eq!(words.len(), 9);
    }
}
