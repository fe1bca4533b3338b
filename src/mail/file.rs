//! What is in the files that are attached to a mail.

use super::file_type::{FileKind, bytes, text, type_of};
use super::mime;
use super::roles;
use super::wrapper;

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// A text, in whatever charset it came.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

/// The files with these places ([`Attachment::place`](super::Attachment::place)) in the message in `content`, each once:
/// none for one that is not there, is larger than [`FILE_LIMIT`](super::FILE_LIMIT), cannot be decoded, or is of no type that SIGNL4 takes.
pub fn file_contents(content: &[u8], places: &[usize]) -> Vec<Option<FileContent>> {
    contents(content, places, 0)
}

fn contents(content: &[u8], places: &[usize], depth: usize) -> Vec<Option<FileContent>> {
    let parts = mime::parts(content).list;
    let attached: Vec<usize> = roles::attached(&parts).collect();
    let behind: Vec<usize> = places.iter().filter_map(|place| place.checked_sub(attached.len())).collect();
    let letters = if behind.is_empty() || depth >= wrapper::DEPTH_LIMIT {
        Vec::new()
    } else {
        wrapper::letters(&parts)
    };
    let mut inside = match letters.as_slice() {
        [letter] => contents(&letter.content, &behind, depth + 1),
        _ => Vec::new(),
    }
    .into_iter();
    let read = |&place: &usize| {
        if place >= attached.len() {
            return inside.next().flatten();
        }
        let part = &parts[*attached.get(place)?];
        match type_of(part)?.kind {
            FileKind::Text => text(part).map(FileContent::Text),
            _ => bytes(part).map(|bytes| FileContent::Bytes(bytes.into_owned())),
        }
    };
    places.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{FILE_LIMIT, Message};

    /// A mail with a text and one attachment of this header.
    fn mail(header: &str, body: &str) -> String {
        format!(
            "Subject: s\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\nt\n--x\n{header}\n\n{body}\n--x--\n"
        )
    }

    fn kind(header: &str, body: &str) -> Option<&'static str> {
        let message = Message::parse(mail(header, body).as_bytes());
        message.attachments[0].file_type.map(|found| found.media_type)
    }

    #[test]
    fn what_a_part_says_and_what_is_in_it_must_agree() {
        const PNG64: &str = "iVBORw0KGgoAAAANSUhEUg==";
        let base64 = |media| format!("Content-Type: {media}; name=a.png\nContent-Transfer-Encoding: base64");
        assert_eq!(kind(&base64("image/png"), PNG64), Some("image/png"));
        assert_eq!(kind(&base64("image/jpeg"), PNG64), Some("image/png"), "the bytes say which image");
        assert_eq!(kind(&base64("application/octet-stream"), PNG64), Some("image/png"));
        assert_eq!(kind(&base64("application/pdf"), PNG64), None);
        assert_eq!(kind(&base64("application/zip"), PNG64), None);
        // A program that calls itself an image: MZ and what follows.
        assert_eq!(kind(&base64("image/png"), "TVqQAAMAAAAEAAAA"), None);
    }

    #[test]
    fn a_text_is_text_from_end_to_end() {
        let header = "Content-Type: text/plain; charset=iso-8859-1; name=a.log\nContent-Transfer-Encoding: quoted-printable";
        assert_eq!(kind(header, "St=F6rung"), Some("text/plain"));
        assert_eq!(kind(header, "St=F6rung=00"), None, "no text has a NUL");
        let content = mail(header, "St=F6rung");
        let read = file_contents(content.as_bytes(), &[0, 7]);
        assert_eq!(read, [Some(FileContent::Text("Störung".to_owned())), None]);
        let octets = "Content-Type: application/octet-stream; name=a.txt";
        assert_eq!(kind(octets, "plain"), Some("text/plain"));
        assert_eq!(
            kind("Content-Type: text/html; name=a.html", "<p>"),
            None,
            "SIGNL4 takes plain text alone"
        );
    }

    #[test]
    fn a_file_that_is_broken_or_too_large_has_no_content() {
        let header = "Content-Type: image/png; name=a.png\nContent-Transfer-Encoding: base64";
        let broken = mail(header, "iVBORw0KGgoAAAANSUhEUg==\n-- \nA disclaimer, added on the way!");
        assert_eq!(file_contents(broken.as_bytes(), &[0]), [None]);
        let large = mail("Content-Type: text/plain; name=a.txt", &"x".repeat(FILE_LIMIT + 1));
        assert_eq!(file_contents(large.as_bytes(), &[0]), [None]);
    }
}
