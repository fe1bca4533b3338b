//! The transcript of a message: which of its parts are its text, that text in plain, and what is left as
//! attachments.

use super::attachment::Attachment;
use super::banners::Banners;
use super::envelopes;
use super::file_type;
use super::leaf::{self, Leaf, TEXT_LIMIT, TextSource};
use super::mime::{self, Kind, Part};
use super::notice;
use super::roles::{
    attached, children, is_encrypted, is_inside_message, is_letter, is_readable, is_smime, is_text,
    is_unknown, protected_subject,
};

/// Longest file name in characters.
const NAME_LIMIT: usize = 255;

/// Deepest nesting of signatures that is entered: one is usual, two happen.
const DEPTH_LIMIT: usize = 3;

/// What a text begins with that PGP encrypted (RFC 9580 section 6.2).
const PGP_MESSAGE: &str = "-----BEGIN PGP MESSAGE-----";

/// Most files that are shown in the place of a text.
const FILES_LIMIT: usize = 5;

/// What a message says.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    pub(super) text: String,
    pub(super) source: TextSource,
    /// Whether the text is that of a mail inside, as the mail has none of its own.
    pub(super) borrowed: bool,
    pub(super) attachments: Vec<Attachment>,
    pub(super) encrypted: bool,
    /// The Subject inside a part with protected headers.
    pub(super) protected_subject: Option<String>,
    pub(super) defects: Vec<String>,
    /// What was undone to come to the text.
    pub(super) undone: Vec<String>,
}

/// Makes the transcript of the parts of a message; `banners` are no text.
pub(super) fn of(parts: &[Part<'_>], banners: &Banners) -> Transcript {
    within(parts, banners, 0)
}

/// The same of a mail inside of so many envelopes.
pub(super) fn within(parts: &[Part<'_>], banners: &Banners, depth: usize) -> Transcript {
    let mut reader =
        Reader { parts, banners, depth, budget: TEXT_LIMIT, defects: Vec::new(), undone: Vec::new() };
    let mut said = reader.read(0);
    let mut borrowed = false;
    // What stands around a mail is no text of it: where there is nothing else, its text is elsewhere.
    let nothing_else = parts.len() > 1 && banners.are_all_of(&said.text);
    let around = if nothing_else { std::mem::take(&mut said) } else { Said::default() };
    if said.text.is_empty()
        && let Some(forwarded) =
            children(parts, 0).find(|&at| parts[at].kind == Kind::Message).or_else(|| {
                // The mail is nothing but a forwarded one.
                (parts[0].kind == Kind::Message).then_some(0)
            })
        && let Some(message) = children(parts, forwarded).next()
    {
        said = reader.read(message);
        borrowed = true;
    }
    let outer = || (0..parts.len()).filter(|&at| !is_inside_message(parts, at)).map(|at| &parts[at]);
    let is_pgp = |said: &Said| {
        said.text.contains(PGP_MESSAGE) && banners.stripped(&said.text).text.starts_with(PGP_MESSAGE)
    };
    let mut encrypted =
        !borrowed && is_pgp(&said) || outer().any(|part| is_encrypted(part) && !envelopes::is_signed(part));
    if said.text.is_empty() && !encrypted {
        said = reader.read_envelope();
    }
    // An encrypted mail has files that say so.
    if said.text.is_empty() && !encrypted {
        said = reader.read_files();
    }
    if said.text.is_empty() && !encrypted {
        said = reader.read_letters();
        borrowed = !said.text.is_empty();
    }
    encrypted |= !borrowed && is_pgp(&said);
    // Rendering and charsets can make more of it.
    said.text.truncate(said.text.floor_char_boundary(TEXT_LIMIT));
    let mut defects = reader.defects;
    if said.text.is_empty() && !encrypted {
        if outer().any(|part| part.media_type == "application/ms-tnef") {
            defects.push("the text is inside winmail.dat in a form that is not read".to_owned());
        } else if outer().any(is_smime) {
            defects.push("the text is inside an S/MIME signature in a form that is not read".to_owned());
        }
        said = around;
    }
    let attachments = attached(parts).enumerate().map(|(place, at)| attachment(parts, at, place)).collect();
    Transcript {
        text: said.text,
        source: said.source,
        borrowed,
        attachments,
        encrypted,
        protected_subject: outer().find_map(protected_subject),
        defects,
        undone: reader.undone,
    }
}

/// Text, and where it came from.
#[derive(Default)]
struct Said {
    text: String,
    source: TextSource,
}

struct Reader<'a> {
    parts: &'a [Part<'a>],
    banners: &'a Banners,
    /// Envelopes around these parts.
    depth: usize,
    /// Bytes that may still be decoded.
    budget: usize,
    defects: Vec<String>,
    undone: Vec<String>,
}

impl Reader<'_> {
    /// Reads a part and those inside; the nesting is bounded where they are found.
    fn read(&mut self, at: usize) -> Said {
        let part = &self.parts[at];
        match part.kind {
            Kind::Multipart if part.media_type == "multipart/alternative" => self.read_alternative(at),
            Kind::Multipart => self.read_all(children(self.parts, at)),
            Kind::Leaf if is_text(self.parts, at) => self.read_leaf(at),
            Kind::Message | Kind::Leaf => Said::default(),
        }
    }

    /// Reads these parts, a blank line between them.
    fn read_all(&mut self, parts: impl Iterator<Item = usize>) -> Said {
        let mut all = Said::default();
        for at in parts {
            let said = self.read(at);
            all.append(said);
        }
        all
    }

    /// Reads the plain version, or the HTML one if that is empty or does not say what the mail says.
    fn read_alternative(&mut self, at: usize) -> Said {
        let (plain, others): (Vec<usize>, Vec<usize>) =
            children(self.parts, at).partition(|&child| self.parts[child].media_type == "text/plain");
        let mut short = Said::default();
        for child in plain.into_iter().chain(others) {
            let said = self.read(child);
            if said.text.is_empty() {
                continue;
            }
            let bare = |said: &Said| self.banners.stripped(&said.text).text.len();
            if said.source == TextSource::Html {
                if short.text.is_empty() || notice::stands_for(&short.text, &said.text, self.banners) {
                    if !short.text.is_empty() {
                        self.undone.push("a plain version that says nothing".to_owned());
                    }
                    return said;
                }
                return short;
            }
            if bare(&said) > notice::LIMIT {
                return said;
            }
            if short.text.is_empty() {
                short = said;
            }
        }
        short
    }

    fn read_leaf(&mut self, at: usize) -> Said {
        let leaf = leaf::read(&self.parts[at], &mut self.budget);
        self.take(leaf)
    }

    fn take(&mut self, leaf: Leaf) -> Said {
        self.defects.extend(leaf.defects);
        self.undone.extend(leaf.undone);
        let source = match (leaf.text.is_empty(), leaf.html) {
            (true, _) => TextSource::None,
            (false, true) => TextSource::Html,
            (false, false) => TextSource::Plain,
        };
        Said { text: leaf.text, source }
    }

    /// Reads the envelope that a mail program put around the whole mail.
    fn read_envelope(&mut self) -> Said {
        for at in (0..self.parts.len()).filter(|&at| !is_inside_message(self.parts, at)) {
            if let Some((leaf, what)) = opened(&self.parts[at], self.banners, self.depth)
                && !leaf.text.is_empty()
            {
                self.undone.push(what.to_owned());
                return self.take(leaf);
            }
        }
        Said::default()
    }

    /// Reads the files of a mail that has no text but in them: those that are called text before those of other
    /// readable types, and these before those whose bytes turn out to be text.
    fn read_files(&mut self) -> Said {
        let files: Vec<usize> = (0..self.parts.len())
            .filter(|&at| self.parts[at].kind == Kind::Leaf && !is_inside_message(self.parts, at))
            // What is text was read as such, and is nothing but a banner.
            .filter(|&at| !is_letter(&self.parts[at]) && !is_text(self.parts, at))
            .collect();
        let kinds: [fn(&Part<'_>) -> bool; 3] = [
            |part| matches!(part.media_type.as_str(), "text/plain" | "text/html"),
            is_readable,
            |part| is_unknown(part) && leaf::is_text(&part.transfer.decode(part.body, 8 * 1024).0),
        ];
        for kind in kinds {
            let mut all = Said::default();
            for at in files.iter().copied().filter(|&at| kind(&self.parts[at])).take(FILES_LIMIT) {
                let said = self.read_leaf(at);
                all.append(said);
            }
            if !all.text.is_empty() {
                self.undone.push("a text that was sent as a file".to_owned());
                return all;
            }
        }
        Said::default()
    }

    /// Reads the mails that are files as they stand, header and all: better than nothing where none of them is
    /// unwrapped.
    fn read_letters(&mut self) -> Said {
        let letters = (0..self.parts.len())
            .filter(|&at| is_letter(&self.parts[at]) && !is_inside_message(self.parts, at))
            .take(FILES_LIMIT);
        let mut all = Said::default();
        for at in letters {
            let said = self.read_leaf(at);
            all.append(said);
        }
        if !all.text.is_empty() {
            self.undone.push("a mail that was sent as a file".to_owned());
        }
        all
    }
}

impl Said {
    fn append(&mut self, said: Self) {
        if said.text.is_empty() {
            return;
        }
        if self.text.is_empty() {
            *self = said;
        } else {
            self.text.push_str("\n\n");
            self.text.push_str(&said.text);
        }
    }
}

/// The text in `part`, if it is an envelope, and how it is told that it was opened. It lies in `depth` others.
fn opened(part: &Part<'_>, banners: &Banners, depth: usize) -> Option<(Leaf, &'static str)> {
    if depth >= DEPTH_LIMIT {
        return None;
    }
    let Some(content) = envelopes::signed(part) else {
        return Some((envelopes::outlook(part)?, "Outlook's winmail.dat around the text"));
    };
    let said = within(&mime::parts(&content).list, banners, depth + 1);
    let html = said.source == TextSource::Html;
    let leaf = Leaf { html, text: said.text, defects: said.defects, undone: said.undone };
    Some((leaf, "an S/MIME signature around the mail, which was not checked"))
}

fn attachment(parts: &[Part<'_>], at: usize, place: usize) -> Attachment {
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
        file_type: if part.kind == Kind::Leaf { file_type::type_of(part) } else { None },
        place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str) -> Transcript {
        of(&mime::parts(content.as_bytes()).list, &Banners::default())
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
        let transcript = of(&mime::parts(page).list, &Banners::default());
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
