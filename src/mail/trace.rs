//! The trace of a mail: the fields that each relay puts on top (RFC 5321 section 4.4), by which one that goes
//! round in circles is known, and the field by which a mail of ours is.
//!
//! It looks at lines and not at a parsed message, so that it can be asked before a mail is taken.

/// The field that a mail has which the gateway itself sends when SIGNL4 cannot be reached; its value is the name
/// of the machine. One that comes back is never taken for an alert: it would go around for ever.
pub const NOTICE: &str = "X-Smtp2signl4-Notice";

/// Bytes of a header that are looked at: as many as are read of one.
const LIMIT: usize = 256 << 10;

/// The header of a mail as far as it is looked at: up to the first blank line.
pub fn header(content: &[u8]) -> &[u8] {
    let content = &content[..content.len().min(LIMIT)];
    let mut at = 0;
    while let Some(end) = memchr::memchr(b'\n', &content[at..]) {
        if matches!(&content[at..at + end], b"" | b"\r") {
            return &content[..at];
        }
        at += end + 1;
    }
    content
}

/// How many Received fields `header` has.
pub fn hops(header: &[u8]) -> usize {
    fields(header, "Received")
}

/// Whether the header is that of a mail that this gateway sent.
pub fn is_notice(header: &[u8]) -> bool {
    fields(header, NOTICE) > 0
}

fn fields(header: &[u8], name: &str) -> usize {
    header.split(|&byte| byte == b'\n').filter(|line| is_field(line, name)).count()
}

/// Whether a field of this name begins with the line; white space before the colon is that of RFC 5322
/// section 4.5.
fn is_field(line: &[u8], name: &str) -> bool {
    line.split_at_checked(name.len()).is_some_and(|(head, rest)| {
        head.eq_ignore_ascii_case(name.as_bytes()) && rest.trim_ascii_start().starts_with(b":")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_the_received_fields_of_the_header() {
        let mail = b"Received: from a\r\n\tby b; Received: x\r\nreceived : from c\nSubject: Received: no\r\nReceived-SPF: pass\r\n\r\nReceived: in the text\r\n";
        assert_eq!(hops(header(mail)), 2);
        assert_eq!(hops(header(b"")), 0);
        assert_eq!(hops(header(b"Received:")), 1);
        assert_eq!(hops(header(b"Received: a\n\nReceived: b\n")), 1);
    }

    #[test]
    fn a_notice_is_known_by_its_field_and_not_by_a_quotation_of_it() {
        assert!(is_notice(header(b"From: a\r\nx-smtp2signl4-notice: 7\r\n\r\n")));
        assert!(!is_notice(header(b"From: a\r\n\r\nX-Smtp2signl4-Notice: 7\r\n")));
        assert!(!is_notice(header(b"Subject: X-Smtp2signl4-Notice: 7\r\n X-Smtp2signl4-Notice: 7\r\n\r\n")));
    }

    #[test]
    fn a_header_without_end_is_looked_at_up_to_a_limit() {
        let bomb = b"Received: x\r\n".repeat(100_000);
        assert_eq!(header(&bomb).len(), LIMIT);
    }
}
