//! The transcript of a message: which of its parts are its text, that text in plain, and what is left as
//! attachments.

use std::borrow::Cow;

use super::charset::{self, Misfit, Transfer};
use super::file;
use super::html;
use super::message::{Attachment, TextSource};
use super::mime::{Kind, Part};
use super::text;

/// Bytes of text that are decoded and rendered, over all parts. Rules and readers need the start; the mail
/// is kept whole.
const TEXT_LIMIT: usize = 1024 * 1024;

/// Longest file name in characters.
const NAME_LIMIT: usize = 255;

/// A plain text this short that speaks of HTML is only a notice that stands for the HTML beside it.
const NOTICE_LIMIT: usize = 300;

/// What a message says.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    pub(super) text: String,
    pub(super) source: TextSource,
    pub(super) attachments: Vec<Attachment>,
    pub(super) encrypted: bool,
    /// The Subject inside a part with protected headers.
    pub(super) protected_subject: Option<String>,
    pub(super) defects: Vec<String>,
}

/// Makes the transcript of the parts of a message.
pub(super) fn of(parts: &[Part<'_>]) -> Transcript {
    let mut reader = Reader { parts, budget: TEXT_LIMIT, defects: Vec::new() };
    let mut said = reader.read(0);
    if said.text.is_empty()
        && let Some(forwarded) =
            children(parts, 0).find(|&at| parts[at].kind == Kind::Message).or_else(|| {
                // The mail is nothing but a forwarded one.
                (parts[0].kind == Kind::Message).then_some(0)
            })
        && let Some(message) = children(parts, forwarded).next()
    {
        said = reader.read(message);
    }
    let outer = || (0..parts.len()).filter(|&at| !is_inside_message(parts, at)).map(|at| &parts[at]);
    let encrypted = outer().any(is_encrypted) || said.text.starts_with("-----BEGIN PGP MESSAGE-----");
    // Rendering and charsets can make more of it.
    said.text.truncate(said.text.floor_char_boundary(TEXT_LIMIT));
    let mut defects = reader.defects;
    if said.text.is_empty() && !encrypted {
        if outer().any(|part| part.media_type == "application/ms-tnef") {
            defects.push("the text is inside winmail.dat, which is not unpacked".to_owned());
        } else if outer().any(is_smime) {
            defects.push("the text is inside an S/MIME signature, which is not unpacked".to_owned());
        }
    }
    let attachments = attached(parts).map(|at| attachment(parts, at)).collect();
    Transcript {
        text: said.text,
        source: said.source,
        attachments,
        encrypted,
        protected_subject: outer().find_map(protected_subject),
        defects,
    }
}

/// The parts that are attachments of the message.
pub(super) fn attached(parts: &[Part<'_>]) -> impl Iterator<Item = usize> {
    (0..parts.len()).filter(|&at| {
        !is_inside_message(parts, at) && parts[at].kind != Kind::Multipart && !is_text(parts, at)
    })
}

/// Text, and where it came from.
#[derive(Default)]
struct Said {
    text: String,
    source: TextSource,
}

struct Reader<'a> {
    parts: &'a [Part<'a>],
    /// Bytes that may still be decoded.
    budget: usize,
    defects: Vec<String>,
}

/// The parts directly inside of this one.
fn children(parts: &[Part<'_>], at: usize) -> impl Iterator<Item = usize> {
    (at + 1..parts.len()).filter(move |&child| parts[child].parent == at)
}

impl Reader<'_> {
    /// Reads a part and those inside; the nesting is bounded where they are found.
    fn read(&mut self, at: usize) -> Said {
        let part = &self.parts[at];
        match part.kind {
            Kind::Multipart if part.media_type == "multipart/alternative" => self.read_alternative(at),
            Kind::Multipart => self.read_all(at),
            Kind::Leaf if is_text(self.parts, at) => self.read_leaf(at),
            Kind::Message | Kind::Leaf => Said::default(),
        }
    }

    /// Reads all parts of a multipart, a blank line between them.
    fn read_all(&mut self, at: usize) -> Said {
        let mut all = Said::default();
        for child in children(self.parts, at) {
            let said = self.read(child);
            if said.text.is_empty() {
                continue;
            }
            if all.text.is_empty() {
                all = said;
            } else {
                all.text.push_str("\n\n");
                all.text.push_str(&said.text);
            }
        }
        all
    }

    /// Reads the plain version, or the HTML one if that is empty or only says that there is another.
    fn read_alternative(&mut self, at: usize) -> Said {
        let (plain, others): (Vec<usize>, Vec<usize>) =
            children(self.parts, at).partition(|&child| self.parts[child].media_type == "text/plain");
        let mut notice = Said::default();
        for child in plain.into_iter().chain(others) {
            let said = self.read(child);
            if said.text.is_empty() {
                continue;
            }
            if said.source == TextSource::Html || !is_notice(&said.text) {
                return said;
            }
            notice = said;
        }
        notice
    }

    fn read_leaf(&mut self, at: usize) -> Said {
        let part = &self.parts[at];
        let (bytes, broken) = part.transfer.decode(part.body, self.budget);
        if broken {
            let name = if part.transfer == Transfer::Base64 { "base64" } else { "quoted-printable" };
            self.defects.push(format!("broken {name}: what could not be decoded was left as it is"));
        }
        if part.body.len() > bytes.len() && bytes.len() >= self.budget {
            self.defects.push(format!("the text is longer than {TEXT_LIMIT} bytes: the rest was not read"));
        }
        self.budget = self.budget.saturating_sub(bytes.len());
        let html = part.media_type == "text/html";
        let named = part.parameter("charset").map(Cow::Borrowed);
        let charset = named.or_else(|| if html { meta_charset(&bytes).map(Cow::Owned) } else { None });
        let (decoded, misfit) = charset::decode(&bytes, charset.as_deref());
        if let Some(misfit) = misfit {
            self.defects.push(match (misfit, charset) {
                (Misfit::Unknown, Some(name)) => format!("unknown charset {name:.40?}: guessed"),
                (Misfit::Invalid, Some(name)) => format!("the text is not in {name:.40?} throughout"),
                _ => "8-bit text without a charset: guessed".to_owned(),
            });
        }
        let text = if html {
            text::tidy(&html::render(&decoded))
        } else {
            text::tidy(&text::decode_entities(&decoded))
        };
        let source = match (text.is_empty(), html) {
            (true, _) => TextSource::None,
            (false, true) => TextSource::Html,
            (false, false) => TextSource::Plain,
        };
        Said { text, source }
    }
}

/// Whether a part is text of the message and not a file: text/plain or text/html without the marks of an
/// attachment. The message itself and the versions of an alternative are text whatever they are called.
fn is_text(parts: &[Part<'_>], at: usize) -> bool {
    let part = &parts[at];
    let whole = at == part.parent || parts[part.parent].kind == Kind::Message;
    // A multipart that never begins, and text of a type that nobody knows, such as text/markdown.
    if part.kind == Kind::Leaf && (part.media_type.starts_with("multipart/") || whole) {
        return part.media_type.starts_with("multipart/") || part.media_type.starts_with("text/");
    }
    matches!(part.media_type.as_str(), "text/plain" | "text/html")
        && !part.is_attachment()
        && (part.file_name().is_empty() || parts[part.parent].media_type == "multipart/alternative")
}

/// Whether a part belongs to a message that is an attachment of this one.
fn is_inside_message(parts: &[Part<'_>], mut at: usize) -> bool {
    while parts[at].parent != at {
        at = parts[at].parent;
        if parts[at].kind == Kind::Message {
            return true;
        }
    }
    false
}

fn is_smime(part: &Part<'_>) -> bool {
    matches!(part.media_type.as_str(), "application/pkcs7-mime" | "application/x-pkcs7-mime")
}

/// Whether a part is encrypted content: RFC 1847 section 2.2, RFC 3156, RFC 8551 section 3.2.2.
fn is_encrypted(part: &Part<'_>) -> bool {
    let signed = || {
        let kind = part.parameter("smime-type").unwrap_or_default();
        kind.eq_ignore_ascii_case("signed-data") || kind.eq_ignore_ascii_case("certs-only")
    };
    matches!(part.media_type.as_str(), "multipart/encrypted" | "application/pgp-encrypted")
        || is_smime(part) && !signed()
}

/// The Subject that a part protects (RFC 9788, and `protected-headers` before it).
fn protected_subject(part: &Part<'_>) -> Option<String> {
    part.parameter("hp").or(part.parameter("protected-headers"))?;
    part.field("subject").map(|field| field.text())
}

fn attachment(parts: &[Part<'_>], at: usize) -> Attachment {
    let part = &parts[at];
    let mut name = part.file_name();
    if name.is_empty()
        && part.kind == Kind::Message
        && let Some(message) = parts.get(at + 1)
    {
        // Mail programs show a forwarded mail by its subject.
        name = message.field("subject").map(|field| field.text()).unwrap_or_default();
    }
    let size = part.transfer.decoded_size(part.body);
    Attachment {
        name: name.chars().take(NAME_LIMIT).collect(),
        content_type: part.media_type.chars().take(NAME_LIMIT).collect(),
        size,
        file_type: if part.kind == Kind::Leaf { file::type_of(part) } else { None },
    }
}

/// Whether a plain text only stands for the HTML beside it.
fn is_notice(text: &str) -> bool {
    if text.len() > NOTICE_LIMIT {
        return false;
    }
    let text = text.to_lowercase();
    text.contains("html")
        && ["view", "support", "client", "reader", "display", "anzeigen", "unterstützt", "darstellen"]
            .iter()
            .any(|word| text.contains(word))
}

/// The charset that an HTML page names for itself in its first KiB.
fn meta_charset(bytes: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    let (_, rest) = head.split_once("charset=")?;
    let rest = rest.trim_start_matches(['"', '\'']);
    let name: String =
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_:.".contains(*c)).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::mime;

    fn read(content: &str) -> Transcript {
        of(&mime::parts(content.as_bytes()).list)
    }

    /// A mail of these parts, each a header and a body.
    fn multipart(kind: &str, parts: &[&str]) -> String {
        let parts: String = parts.iter().map(|part| format!("--x\n{part}\n")).collect();
        format!("Subject: s\nContent-Type: multipart/{kind}; boundary=x\n\n{parts}--x--\n")
    }

    const PLAIN: &str = "Content-Type: text/plain\n\nplain";
    const HTML: &str = "Content-Type: text/html\n\n<b>html</b>";

    #[test]
    fn the_plain_version_is_preferred_wherever_it_stands() {
        assert_eq!(read(&multipart("alternative", &[PLAIN, HTML])).text, "plain");
        assert_eq!(read(&multipart("alternative", &[HTML, PLAIN])).text, "plain");
    }

    #[test]
    fn an_empty_plain_version_or_one_that_only_points_to_html_is_passed_over() {
        for plain in [
            "\n \n",
            "\nPlease use a mail client that can display HTML.",
            "\nDiese Nachricht ist in HTML, das Ihr Programm nicht anzeigen kann.",
        ] {
            let transcript = read(&multipart("alternative", &[plain, HTML]));
            assert_eq!((transcript.text.as_str(), transcript.source), ("html", TextSource::Html), "{plain}");
        }
        let notice = "\nThis is HTML, please view it elsewhere.";
        assert_eq!(read(&multipart("alternative", &[notice])).text, notice.trim());
    }

    #[test]
    fn texts_of_a_mixed_mail_stand_below_each_other() {
        let transcript = read(&multipart("mixed", &[PLAIN, HTML, "Content-Type: text/csv\n\na,b", "\n\n"]));
        assert_eq!((transcript.text.as_str(), transcript.source), ("plain\n\nhtml", TextSource::Plain));
        assert_eq!(transcript.attachments.len(), 1);
    }

    #[test]
    fn text_that_was_attached_is_a_file() {
        let attached = "Content-Type: text/plain; name=a.txt\n\nfile";
        let transcript = read(&multipart("mixed", &[attached, PLAIN]));
        assert_eq!(transcript.text, "plain");
        assert_eq!(transcript.attachments[0].name, "a.txt");
        let whole =
            "Subject: s\nContent-Type: text/plain; name=a.txt\nContent-Disposition: attachment\n\nwhole";
        assert_eq!(read(whole).text, "whole", "a mail that is one file says what the file says");
    }

    #[test]
    fn a_forwarded_mail_speaks_only_when_nobody_else_does() {
        let forwarded = "Content-Type: message/rfc822\n\nSubject: old\n\ninner";
        assert_eq!(read(&multipart("mixed", &[forwarded])).text, "inner");
        assert_eq!(read(&multipart("mixed", &[PLAIN, forwarded])).text, "plain");
        assert_eq!(read("Content-Type: message/rfc822\n\nSubject: old\n\ninner").text, "inner");
        assert_eq!(read(&multipart("mixed", &[forwarded])).attachments[0].name, "old");
    }

    #[test]
    fn an_html_page_may_name_its_charset_itself() {
        let page = b"Subject: s\nContent-Type: text/html\n\n<meta charset='ISO-8859-2'><p>\xb9</p>";
        let transcript = of(&mime::parts(page).list);
        assert_eq!(transcript.text, "\u{161}");
        assert!(transcript.defects.is_empty());
    }

    #[test]
    fn text_over_the_limit_is_cut_and_said_so() {
        let half = format!("Content-Type: text/plain\n\n{}", "word\n".repeat(TEXT_LIMIT / 8));
        let transcript = read(&multipart("mixed", &[&half, &half, &half]));
        assert!(transcript.text.len() <= TEXT_LIMIT);
        assert!(transcript.defects[0].contains("the rest was not read"));
    }
}
