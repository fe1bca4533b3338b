//! By what a mail is known that is handed in twice: all of it but what its way adds.

use std::fmt::Write;

use ring::digest::{Context, SHA256};

/// How much of a content is looked at, in bytes; of a longer one the length counts beside it.
const LOOKED_AT: usize = 1 << 20;

/// Headers that relays and checkers add on the way, in lower case; those that begin with `arc-` are others.
const TRACE: [&str; 13] = [
    "received",
    "return-path",
    "delivered-to",
    "x-original-to",
    "envelope-to",
    "authentication-results",
    "received-spf",
    "dkim-signature",
    "x-received",
    "x-spam-status",
    "x-spam-score",
    "x-spam-level",
    "x-virus-scanned",
];

/// What `content` to `recipients` has again when the same mail is handed in a second time. None if it lacks Message-ID or
/// Date: two such mails may be two alerts that say the same.
pub fn fingerprint(content: &[u8], recipients: &[String]) -> Option<String> {
    let (whole, mut rest) = (content.len(), &content[..content.len().min(LOOKED_AT)]);
    let mut hash = Context::new(&SHA256);
    let (mut has_id, mut has_date) = (false, false);
    let mut trace_bytes = 0;
    while !rest.is_empty() && !rest.starts_with(b"\r\n") && !rest.starts_with(b"\n") {
        let field = &rest[..end_of_field(rest)];
        rest = &rest[field.len()..];
        let colon = field.iter().position(|&byte| byte == b':').unwrap_or(field.len());
        let name = String::from_utf8_lossy(&field[..colon]).trim().to_ascii_lowercase();
        let is_empty = field[colon..].trim_ascii().len() <= 1;
        has_id |= name == "message-id" && !is_empty;
        has_date |= name == "date" && !is_empty;
        if TRACE.contains(&name.as_str()) || name.starts_with("arc-") {
            trace_bytes += field.len();
        } else {
            hash.update(field);
        }
    }
    if !has_id || !has_date {
        return None;
    }
    hash.update(rest);
    hash.update(&(whole - trace_bytes).to_be_bytes());
    let mut recipients: Vec<String> = recipients.iter().map(|address| address.to_lowercase()).collect();
    recipients.sort_unstable();
    // Another address may be another urgency.
    for recipient in recipients {
        hash.update(b"\0");
        hash.update(recipient.as_bytes());
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finish().as_ref() {
        write!(text, "{byte:02x}").ok()?;
    }
    Some(text)
}

/// The length of the header field that `text` begins with, its folded lines included.
fn end_of_field(text: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let line = text[end..].iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| end + at + 1);
        end = line;
        if !matches!(text.get(end), Some(b' ' | b'\t')) {
            return end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "Message-ID: <1@a>\r\nDate: Fri, 20 Nov 2026 17:00:00 +0000\r\nSubject: disk\r\n full\r\n\r\nText.\r\n";

    fn of(content: &str) -> Option<String> {
        fingerprint(content.as_bytes(), &["soc@example.org".to_owned()])
    }

    #[test]
    fn what_the_way_adds_does_not_count() {
        let way = "Received: from a\r\n by b\r\nARC-Seal: i=1\r\nAuthentication-Results: x; spf=pass\r\n";
        assert_eq!(of(&format!("{way}{MAIL}")), of(MAIL));
        assert!(of(MAIL).is_some());
    }

    #[test]
    fn what_the_sender_wrote_counts_all_of_it() {
        for (from, to) in [("disk", "Disk"), ("Text", "Text 2"), ("<1@a>", "<2@a>"), ("17:00", "17:01")] {
            assert_ne!(of(&MAIL.replace(from, to)), of(MAIL), "{from}");
        }
        let other = fingerprint(MAIL.as_bytes(), &["ops@example.org".to_owned()]);
        assert_ne!(other, of(MAIL), "another address may be another urgency");
    }

    #[test]
    fn a_mail_without_message_id_or_date_cannot_be_told_from_another_that_says_the_same() {
        assert_eq!(of("Date: Fri, 20 Nov 2026 17:00:00 +0000\r\n\r\nText.\r\n"), None);
        assert_eq!(of("Message-ID: <1@a>\r\n\r\nText.\r\n"), None);
        assert_eq!(of("Message-ID:\r\nDate: x\r\n\r\nText.\r\n"), None);
        assert_eq!(of("Subject: a\r\n\r\nMessage-ID: <1@a>\r\nDate: x\r\n"), None, "they stand in the body");
        assert_eq!(of(""), None);
    }
}
