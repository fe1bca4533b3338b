//! The reader of DATA: takes the transparency dots out and finds the end (RFC 5321 sections 4.1.1.4 and
//! 4.5.2), however the stream is cut.
//!
//! Only CRLF.CRLF ends a message, and `.CRLF` where the message would begin. A bare CR or LF never ends
//! anything: it is data and is kept, and a dot after it is text. A reader that took more for the end
//! would let the writer of a message append other mails to it (SMTP smuggling).
//!
//! A message that cannot be kept is read to its end all the same, without being kept.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::content::Content;
pub use super::content::Lost;

/// Where the reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a line: at the very beginning, or behind CRLF.
    LineStart,
    /// Behind a dot at the start of a line. It goes, whatever follows.
    Dot,
    /// Behind a dot at the start of a line and a CR, which is text unless LF follows.
    DotCr,
    /// Inside a line.
    Text,
    /// Inside a line, behind a CR.
    Cr,
    /// Behind the end of the message.
    End,
}

/// A message on its way in.
#[derive(Debug)]
pub struct Data {
    state: State,
    content: Content,
    /// Whether LF ends a line as CRLF does.
    of_lines: bool,
}

impl Data {
    /// A message of which nothing is read yet and which may have `limit` bytes, without its
    /// transparency dots.
    pub fn new(limit: usize) -> Self {
        Self { state: State::LineStart, content: Content::new(limit), of_lines: false }
    }

    /// The same for a client that ends its lines by a bare LF and whose mails, as the site says, contain no text of
    /// others: LF.LF ends the data too.
    pub fn of_lines(limit: usize) -> Self {
        Self { of_lines: true, ..Self::new(limit) }
    }

    /// Reads from the front of `input` up to its end or to that of the message, and says whether the
    /// message is whole. What is behind its end stays in `input`.
    pub fn read(&mut self, input: &mut &[u8]) -> bool {
        if self.of_lines {
            return self.read_lines(input);
        }
        while self.state != State::End {
            let Some((&byte, behind)) = input.split_first() else { return false };
            self.state = match (self.state, byte) {
                (State::LineStart, b'.') => {
                    *input = behind;
                    State::Dot
                }
                (State::Dot, b'\r') => {
                    *input = behind;
                    State::DotCr
                }
                (State::DotCr, b'\n') => {
                    *input = behind;
                    State::End
                }
                // The CR was text after all, and may yet begin a line end.
                (State::DotCr, _) => {
                    self.content.keep(b"\r");
                    State::Cr
                }
                (State::Cr, b'\n') => {
                    *input = behind;
                    self.content.keep(b"\n");
                    State::LineStart
                }
                (State::LineStart | State::Dot | State::Text | State::Cr, _) => self.run(input),
                (State::End, _) => unreachable!("the loop ends there"),
            };
        }
        true
    }

    /// The same where LF ends a line.
    fn read_lines(&mut self, input: &mut &[u8]) -> bool {
        while self.state != State::End {
            let Some((&byte, behind)) = input.split_first() else { return false };
            self.state = match (self.state, byte) {
                (State::LineStart, b'.') => {
                    *input = behind;
                    State::Dot
                }
                (State::Dot, b'\r') => {
                    *input = behind;
                    State::DotCr
                }
                (State::Dot | State::DotCr, b'\n') => {
                    *input = behind;
                    State::End
                }
                (State::DotCr, _) => {
                    self.content.keep(b"\r");
                    State::Text
                }
                _ => {
                    let end = memchr::memchr(b'\n', input).map(|at| at + 1);
                    let (text, behind) = input.split_at(end.unwrap_or(input.len()));
                    self.content.keep(text);
                    *input = behind;
                    if end.is_some() { State::LineStart } else { State::Text }
                }
            };
        }
        true
    }

    /// Whether all that came so far ends in a dot between two bare LFs, behind which nothing more comes from a client
    /// that takes it for the end.
    pub fn waits_behind_a_bare_dot(&self) -> bool {
        self.state == State::Text && self.content.ends_with(b"\n.\n")
    }

    /// Keeps all up to the next dot that starts a line, and stands behind that dot; or all there is.
    fn run(&mut self, input: &mut &[u8]) -> State {
        static DOT_LINE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n."));
        if let Some(at) = DOT_LINE.find(input) {
            let (text, behind) = input.split_at(at + 2);
            self.content.keep(text);
            *input = &behind[1..];
            return State::Dot;
        }
        self.content.keep(input);
        let state = match input {
            [.., b'\r', b'\n'] => State::LineStart,
            [.., b'\r'] => State::Cr,
            _ => State::Text,
        };
        *input = &[];
        state
    }

    /// Gives up what was kept; the rest is read and not kept.
    pub fn lose(&mut self, why: Lost) {
        self.content.lose(why);
    }

    /// The bytes of memory it holds.
    pub fn held(&self) -> usize {
        self.content.held()
    }

    /// The content of the message, once [`Data::read`] found its end.
    ///
    /// # Errors
    /// Why there is none.
    pub fn finish(self) -> Result<Vec<u8>, Lost> {
        self.content.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the reader makes of `stream` that comes in these pieces: the messages, and what is behind
    /// the last of them or the part of a message that did not end.
    fn messages<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut data = Data::new(1 << 20);
        for mut piece in pieces {
            while data.read(&mut piece) {
                found.push(std::mem::replace(&mut data, Data::new(1 << 20)).finish().unwrap());
            }
        }
        found.push(data.finish().unwrap());
        found
    }

    /// The single message that `stream` is, the same however it is cut in two or into bytes.
    fn message(stream: &[u8]) -> Vec<u8> {
        let whole = messages([stream]);
        for at in 0..=stream.len() {
            let (head, tail) = stream.split_at(at);
            assert_eq!(messages([head, tail]), whole, "cut at {at}: {stream:?}");
        }
        assert_eq!(messages(stream.chunks(1)), whole, "cut into bytes: {stream:?}");
        assert_eq!((whole.len(), whole[1].as_slice()), (2, &b""[..]), "not one message: {stream:?}");
        whole.into_iter().next().unwrap()
    }

    #[test]
    fn an_empty_message_ends() {
        assert_eq!(message(b".\r\n"), b"");
        assert_eq!(message(b"\r\n.\r\n"), b"\r\n");
    }

    #[test]
    fn the_first_of_the_dots_that_start_a_line_goes() {
        assert_eq!(message(b"..\r\n...\r\n.a\r\n.\r\n"), b".\r\n..\r\na\r\n");
        assert_eq!(message(b"a.\r\na..b\r\n.\r\n"), b"a.\r\na..b\r\n");
    }

    #[test]
    fn a_message_without_a_line_end_before_the_dot_does_not_end_there() {
        assert_eq!(message(b"a.\r\n.\r\n"), b"a.\r\n");
    }

    #[test]
    fn a_bare_lf_dot_never_ends_the_message() {
        assert_eq!(message(b"a\n.\nb\r\n.\r\n"), b"a\n.\nb\r\n");
        assert_eq!(message(b"a\n.\r\nb\r\n.\r\n"), b"a\n.\r\nb\r\n");
        assert_eq!(message(b"a\r\n.\nb\r\n.\r\n"), b"a\r\n\nb\r\n");
    }

    #[test]
    fn a_bare_cr_never_ends_the_message() {
        assert_eq!(message(b"a\r.\rb\r\n.\r\n"), b"a\r.\rb\r\n");
        assert_eq!(message(b"a\r\n.\rb\r\n.\r\n"), b"a\r\n\rb\r\n");
        assert_eq!(message(b"a\r\n.\r\r\nb\r\n.\r\n"), b"a\r\n\r\r\nb\r\n");
        assert_eq!(message(b"a\r.\r\nb\r\n.\r\n"), b"a\r.\r\nb\r\n");
        assert_eq!(message(b"a\r\r\n.\r\n"), b"a\r\r\n");
    }

    /// The message at the front of `stream` and what is behind it, found the slow and plain way.
    fn by_the_book(stream: &[u8]) -> (Vec<u8>, &[u8]) {
        // As if a line had ended before the first.
        let lines = [b"\r\n", stream].concat();
        let end = memchr::memmem::find(&lines, b"\r\n.\r\n").unwrap();
        let mut content = Vec::new();
        for (at, &byte) in lines[..end + 2].iter().enumerate().skip(2) {
            if !(byte == b'.' && lines[..at].ends_with(b"\r\n")) {
                content.push(byte);
            }
        }
        (content, &stream[end + 3..])
    }

    /// Five pieces out of bare CR, bare LF, CRLF, NUL and dots, with the commands and the end of a mail
    /// behind them, as one who smuggles would write it.
    #[test]
    fn nothing_but_crlf_dot_crlf_ends_a_message_however_the_stream_is_cut() {
        const PIECES: [&[u8]; 6] = [b"\r", b"\n", b"\r\n", b"\0", b".", b".."];
        let (mut one, mut two) = (0, 0);
        for number in 0..PIECES.len().pow(5) {
            let end = (0..5).flat_map(|place| PIECES[number / 6_usize.pow(place) % 6]);
            let stream: Vec<u8> = end.copied().chain(*b"MAIL FROM:<b>\r\n.\r\n").collect();
            let (content, behind) = by_the_book(&stream);
            if behind.is_empty() {
                assert_eq!(message(&stream), content);
                one += 1;
            } else {
                let mut input = &stream[..];
                let mut data = Data::new(1 << 20);
                assert!(data.read(&mut input));
                assert_eq!((data.finish().unwrap(), input), (content, behind));
                two += 1;
            }
        }
        assert!(one > 7000 && two > 100, "{one} and {two}");
    }

    #[test]
    fn where_lf_ends_a_line_lf_dot_lf_ends_a_message_however_the_stream_is_cut() {
        for (stream, content) in [
            (&b"a\n.\n"[..], &b"a\n"[..]),
            (b".\n", b""),
            (b"..\n.b\n.\n", b".\nb\n"),
            (b"a\r\n.\r\n", b"a\r\n"),
            (b"a\r.\n.\rb\n.\n", b"a\r.\n\rb\n"),
            (b"a\n.\r\n", b"a\n"),
        ] {
            for cut in 0..=stream.len() {
                let mut data = Data::of_lines(1 << 20);
                let (mut head, mut tail) = stream.split_at(cut);
                let early = data.read(&mut head);
                assert_eq!(early, cut == stream.len(), "cut at {cut}: {stream:?}");
                assert!(data.read(&mut tail) && tail.is_empty(), "cut at {cut}: {stream:?}");
                assert_eq!(data.finish().unwrap(), content);
            }
        }
    }

    #[test]
    fn a_client_that_waits_behind_a_bare_dot_is_known() {
        let waits = |stream: &[u8]| {
            let mut data = Data::new(1 << 20);
            assert!(!data.read(&mut &*stream));
            data.waits_behind_a_bare_dot()
        };
        assert!(waits(b"Subject: x\n\nx\n.\n"));
        for other in [&b"x\n.\nmore"[..], b"x\n.", b"x\n", b"", b"x\r\n"] {
            assert!(!waits(other), "{other:?}");
        }
    }

    #[test]
    fn a_message_over_the_limit_is_read_to_its_end_and_not_kept() {
        let mut data = Data::new(4);
        let mut input = &b"ab\r\n.\r\nQUIT"[..];
        assert!(data.read(&mut input));
        assert_eq!((data.finish(), input), (Ok(b"ab\r\n".to_vec()), &b"QUIT"[..]));

        let mut data = Data::new(4);
        let mut input = &b"abc\r\n.\r\nQUIT"[..];
        assert!(data.read(&mut input));
        assert_eq!((data.held(), input), (0, &b"QUIT"[..]));
        assert_eq!(data.finish(), Err(Lost::TooLarge));
    }
}
