//! The laws of the content of a mail: DATA (RFC 5321 section 4.5.2) and BDAT (RFC 3030).

use smtp2signl4::mail::trace;
use smtp2signl4::smtp;
use smtp2signl4::smtp::data::{Data, Lost};

use super::talk::{by_chance, bytewise, config, talk, whole};

/// Any bytes come after DATA: the message ends where RFC 5321 says and nowhere else, however the stream is
/// cut, and what a client stuffed as it says is one mail with the content that it had.
pub fn end_of_data(stream: &[u8]) {
    let wanted = plain_reading(stream);
    let limit = stream.len();
    for cuts in [whole(stream), bytewise(stream), by_chance(stream)] {
        assert_eq!(reading(&cuts, limit), wanted.clone().map(|(content, used)| (Ok(content), used)));
        if let Some((content, used)) = &wanted {
            assert!(content.len() < *used, "the content is longer than what came");
            assert_eq!(reading(&cuts, content.len()), Some((Ok(content.clone()), *used)));
            if let Some(less) = content.len().checked_sub(1) {
                assert_eq!(reading(&cuts, less), Some((Err(Lost::TooLarge), *used)));
            }
        }
    }

    let (stuffed, content) = stuff(stream);
    let dialogue = [b"MAIL FROM:<a@a>\r\nRCPT TO:<b@b>\r\nDATA\r\n", &stuffed[..], b"QUIT\r\n"].concat();
    let config = smtp::Config { max_message_size: content.len(), max_hops: usize::MAX, ..config() };
    let wanted = if is_notice(&content) { vec![] } else { vec![content] };
    for cuts in [whole(&dialogue), by_chance(&dialogue)] {
        let talk = talk(&config, &cuts);
        let contents: Vec<Vec<u8>> = talk.mails.into_iter().map(|(_, content)| content).collect();
        assert_eq!(contents, wanted, "one mail becomes another, or more or less than one");
        assert_eq!(talk.closed, Some(true), "the end of the message was not seen");
    }
}

/// Any bytes come in chunks: they are one mail with just these bytes, however they are cut into chunks and
/// these into pieces. Where no mail is taken they are none, and never commands. Each command has one reply.
pub fn bdat(content: &[u8]) {
    let (chunks, commands) = in_chunks(content);
    let taken = if is_notice(content) { vec![] } else { vec![content.to_vec()] };
    let sender = "MAIL FROM:<a@a> BODY=BINARYMIME\r\n";
    let known = format!("{sender}RCPT TO:<b@b>\r\n");
    let unknown = format!("{sender}RCPT TO:<nobody@b>\r\n");
    let length = content.len();
    let mut cases = vec![
        (known.as_str(), length, taken),
        (&unknown, length, vec![]),
        (sender, length, vec![]),
        ("", length, vec![]),
    ];
    // So that a chunk of it is not more than is read for nothing.
    if length >= 2 {
        cases.push((&known, length - 1, vec![]));
    }
    for (before, limit, wanted) in cases {
        let config = smtp::Config {
            max_message_size: limit,
            max_errors: usize::MAX,
            max_hops: usize::MAX,
            ..config()
        };
        let dialogue = [before.as_bytes(), &chunks, b"QUIT\r\n"].concat();
        let replies = 1 + before.lines().count() + commands + 1;
        for cuts in [whole(&dialogue), by_chance(&dialogue)] {
            let found = talk(&config, &cuts);
            let contents: Vec<&Vec<u8>> = found.mails.iter().map(|(_, content)| content).collect();
            assert_eq!(
                contents,
                wanted.iter().collect::<Vec<_>>(),
                "one mail becomes another, or more or less than one"
            );
            assert_eq!(found.closed, Some(true), "the end of a chunk was not seen");
            assert_eq!(found.replies, replies, "not a reply to each command");
        }
    }
}

/// The mail in chunks by chance, the same for the same content, and how many chunks these are.
fn in_chunks(content: &[u8]) -> (Vec<u8>, usize) {
    let mut sizes: Vec<usize> = by_chance(content).iter().map(|piece| piece.len()).collect();
    // Some are empty, the last one too.
    for at in (0..sizes.len()).filter(|at| content[*at].is_multiple_of(8)).rev() {
        sizes.insert(at, 0);
    }
    if content.len().is_multiple_of(2) {
        sizes.push(0);
    }
    let mut said = Vec::new();
    let mut rest = content;
    for (at, size) in sizes.iter().enumerate() {
        let last = if at + 1 == sizes.len() { " LAST" } else { "" };
        let (chunk, behind) = rest.split_at(*size);
        said.extend_from_slice(format!("BDAT {size}{last}\r\n").as_bytes());
        said.extend_from_slice(chunk);
        rest = behind;
    }
    (said, sizes.len())
}

/// Whether it is a mail that the gateway sent itself, which is not taken.
fn is_notice(content: &[u8]) -> bool {
    trace::is_notice(trace::header(content))
}

/// What one who reads RFC 5321 section 4.5.2 makes of the stream: the content, and where its end is behind.
fn plain_reading(stream: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut content = Vec::new();
    let mut start = 0;
    loop {
        let length = stream[start..].windows(2).position(|pair| pair == b"\r\n")?;
        let line = &stream[start..start + length];
        start += length + 2;
        if line == b"." {
            return Some((content, start));
        }
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        content.extend_from_slice(b"\r\n");
    }
}

/// What the reader makes of the pieces: the content, and where its end is behind.
fn reading(pieces: &[&[u8]], limit: usize) -> Option<(Result<Vec<u8>, Lost>, usize)> {
    let mut data = Data::new(limit);
    let mut used = 0;
    for piece in pieces {
        let mut input = *piece;
        let ended = data.read(&mut input);
        used += piece.len() - input.len();
        assert!(data.held() <= limit, "it holds more than a message may have");
        if ended {
            return Some((data.finish(), used));
        }
        assert!(input.is_empty(), "it leaves what is the message's");
    }
    None
}

/// What a client sends for `message` (RFC 5321 section 4.5.2), and the content that this means: a message
/// ends with a line end.
fn stuff(message: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut content = message.to_vec();
    if !content.is_empty() && !content.ends_with(b"\r\n") {
        content.extend_from_slice(b"\r\n");
    }
    let mut sent = Vec::new();
    for &byte in &content {
        if byte == b'.' && (sent.is_empty() || sent.ends_with(b"\r\n")) {
            sent.push(b'.');
        }
        sent.push(byte);
    }
    sent.extend_from_slice(b".\r\n");
    (sent, content)
}
