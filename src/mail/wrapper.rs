//! Mails in mails: what was forwarded, reported or journaled is read as the mail that its sender wrote, and what stands
//! around it is kept beside it.

use std::borrow::Cow;

use super::attachment::Attachment;
use super::config::Config;
use super::forward;
use super::leaf::{TEXT_LIMIT, TextSource};
use super::mailbox::Address;
use super::message::Message;
use super::mime::{Kind, Part};
use super::roles::{is_inside_message, is_letter_name};
use super::tags;
use super::text;
use super::wrapping::{Wrapper, Wrapping};

/// Deepest nesting of mails in mails that is unwrapped.
pub(super) const DEPTH_LIMIT: usize = 4;

/// Most mails of a digest that are shown.
const LETTERS_LIMIT: usize = 20;

/// Longest subject of a mail of a digest that is listed, in bytes.
const SUBJECT_LIMIT: usize = 250;

/// Bytes of all mails in a mail that are read.
const SIZE_LIMIT: usize = 25 * 1024 * 1024;

/// Longest note of a forwarder above the forwarded mail, in bytes.
const NOTE_LIMIT: usize = 600;

/// Longest text around a mail that is kept for readers, in bytes.
const COVER_LIMIT: usize = 1_000;

/// A mail that is a file of another.
pub(super) struct Letter<'a> {
    pub(super) content: Cow<'a, [u8]>,
    digest: bool,
}

/// Whether a file of this type and name is a mail.
fn is_mail(media_type: &str, name: &str) -> bool {
    matches!(media_type, "message/rfc822" | "message/global") || is_letter_name(name)
}

/// The mails in a mail. A report on a mail (RFC 6522), such as a bounce, is about the mail and does not pass it on.
pub(super) fn letters<'a>(parts: &'a [Part<'a>]) -> Vec<Letter<'a>> {
    let mut letters = Vec::new();
    let mut budget = SIZE_LIMIT;
    for (at, part) in parts.iter().enumerate() {
        if letters.len() >= LETTERS_LIMIT || budget == 0 {
            break;
        }
        if is_inside_message(parts, at) || parts[part.parent].media_type == "multipart/report" {
            continue;
        }
        if !is_mail(&part.media_type, &part.file_name()) || part.kind == Kind::Multipart {
            continue;
        }
        let (content, _) = part.transfer.decode(part.body, budget);
        budget = budget.saturating_sub(content.len());
        let digest = parts[part.parent].media_type == "multipart/digest";
        letters.push(Letter { content, digest });
    }
    letters
}

impl Message {
    /// Becomes the mail that it passes on, if it does; `forwarded` is that its subject says so, and `borrowed` that its
    /// text is that of the mail inside.
    pub(super) fn unwrap(
        &mut self,
        parts: &[Part<'_>],
        config: &Config,
        depth: usize,
        forwarded: bool,
        borrowed: bool,
    ) {
        let report = parts[0].media_type == "multipart/report";
        if depth >= DEPTH_LIMIT || self.reply || report || self.encrypted {
            return;
        }
        let named = config.names(&self.from);
        let letters = letters(parts);
        if let [letter] = letters.as_slice() {
            let inner = Self::parse_within(&letter.content, config, depth + 1);
            let no_note = borrowed || config.banners.are_all_of(&self.text);
            let own = if no_note { String::new() } else { self.text.clone() };
            let wrapping = match () {
                () if own.starts_with("Spam detection software, running on the system") => {
                    Wrapping::SpamReport
                }
                () if is_journal(self, &own) => Wrapping::Journal,
                () if letter.digest => Wrapping::Digest,
                () => Wrapping::Attached,
            };
            let passes_on = wrapping != Wrapping::Attached
                || forwarded
                || named
                || is_note(&own)
                || !inner.subject.is_empty() && inner.subject == self.subject;
            if passes_on && !inner.is_nothing() {
                let note = if wrapping == Wrapping::Attached { own } else { String::new() };
                self.become_inner(inner, wrapping, note, named);
            } else {
                self.enclosed = inner.told();
            }
            return;
        }
        if letters.len() > 1 {
            // What each is about comes first, as a page may not have room for all of them.
            let mut subjects = format!("{} mails:\n", letters.len());
            let mut all = String::new();
            for letter in &letters {
                let inner = Self::parse_within(&letter.content, config, depth + 1);
                let subject = if inner.subject.is_empty() { "(no subject)" } else { &inner.subject };
                subjects.push_str(&format!("- {}\n", &subject[..subject.floor_char_boundary(SUBJECT_LIMIT)]));
                if all.len() <= TEXT_LIMIT {
                    all.push_str(&format!("{}\n\n", inner.told()));
                }
            }
            if borrowed {
                // The text of one of them would stand for all.
                self.text = subjects.trim_end().to_owned();
                self.text_source = TextSource::Plain;
            } else {
                all.insert_str(0, &format!("{subjects}\n"));
            }
            all.truncate(all.floor_char_boundary(TEXT_LIMIT));
            self.enclosed = all.trim_end().to_owned();
            return;
        }
        self.unwrap_inline(config, depth, forwarded);
    }

    /// Becomes the mail that stands in its text, if it was forwarded so.
    fn unwrap_inline(&mut self, config: &Config, depth: usize, forwarded: bool) {
        let named = config.names(&self.from);
        let Some(found) = forward::inline(&self.text) else { return };
        let ticket = forwarded && found.cover.len() <= NOTE_LIMIT * 4;
        let passes_on = match found.marked {
            true => forwarded || named || is_note(found.cover),
            // What stands below a reply looks the same.
            false => forwarded || named || found.cover.is_empty(),
        };
        if !passes_on || !(ticket || named || is_note(found.cover)) {
            return;
        }
        let untagged = tags::strip(&found.subject, &config.subject_tags, &[]);
        let stripped = config.banners.stripped(&found.text);
        let mut inner = Self {
            subject: untagged.subject.to_owned(),
            reply: untagged.reply,
            from: vec![found.from],
            text: stripped.text.to_owned(),
            text_source: self.text_source,
            date: self.date,
            message_id: self.message_id.clone(),
            ..Self::default()
        };
        if !untagged.tags.is_empty() {
            inner.undone.push(tags::undone(&untagged.tags));
        }
        inner.undone.extend(stripped.undone);
        if inner.is_nothing() {
            return;
        }
        let note = found.cover.to_owned();
        if depth + 1 < DEPTH_LIMIT && !inner.reply {
            inner.unwrap_inline(config, depth + 1, untagged.forwarded);
        }
        self.become_inner(inner, Wrapping::Inline, note, named);
    }

    /// Takes over what `inner` says and keeps what proves the forwarder.
    fn become_inner(&mut self, inner: Self, wrapping: Wrapping, note: String, named: bool) {
        const TRACE: [&str; 9] = [
            "received",
            "return-path",
            "delivered-to",
            "authentication-results",
            "dkim-signature",
            "received-spf",
            "arc-seal",
            "arc-message-signature",
            "arc-authentication-results",
        ];
        let is_trace = |name: &str| TRACE.iter().any(|trace| trace.eq_ignore_ascii_case(name));
        let parameter = |name: &str| name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("x-s4-"));
        let (inside, nested) = match inner.wrapper {
            Some(nested) => (nested.named, nested.note),
            None => (true, String::new()),
        };
        let mut note = text::own(&note).into_owned();
        if !nested.is_empty() {
            note = format!("{note}\n\n{nested}").trim().to_owned();
        }
        note.truncate(note.floor_char_boundary(COVER_LIMIT));
        self.wrapper = Some(Box::new(Wrapper {
            wrapping,
            from: std::mem::replace(&mut self.from, inner.from),
            subject: std::mem::replace(&mut self.subject, inner.subject),
            note,
            named: named && inside,
        }));
        self.reply = inner.reply;
        self.text = inner.text;
        self.text_source = inner.text_source;
        self.enclosed = inner.enclosed;
        let behind = self.attachments.len();
        if wrapping != Wrapping::Inline {
            // The file that this mail was is none of its files.
            self.attachments.retain(|file| !is_mail(&file.content_type, &file.name));
        }
        let inside = inner.attachments.into_iter();
        self.attachments.extend(inside.map(|file| Attachment { place: file.place + behind, ..file }));
        self.date = inner.date.or(self.date);
        self.message_id = inner.message_id.or(self.message_id.take());
        self.reply_to = inner.reply_to;
        self.in_reply_to = inner.in_reply_to;
        self.references = inner.references;
        self.encrypted |= inner.encrypted;
        self.headers.retain(|(name, _)| is_trace(name));
        let fields = inner.headers.into_iter().filter(|(name, _)| !is_trace(name) && !parameter(name));
        self.headers.extend(fields);
        self.undone.push(wrapping.words().to_owned());
        self.undone.extend(inner.undone);
        self.defects.extend(inner.defects);
    }

    /// The sender of the mail as it came, the only one that can be proven: the forwarder of a forwarded mail.
    pub fn sent_by(&self) -> &[Address] {
        self.wrapper.as_ref().map_or(&self.from, |wrapper| &wrapper.from)
    }

    /// Whether there is nothing in it to judge.
    fn is_nothing(&self) -> bool {
        self.text.is_empty() && self.subject.is_empty()
    }

    /// The mail in short, for the reader of another.
    fn told(&self) -> String {
        let mut told = String::new();
        if !self.subject.is_empty() {
            told.push_str(&format!("Subject: {}\n", self.subject));
        }
        if let Some(from) = self.from.first() {
            told.push_str(&format!("From: {}\n", from.address));
        }
        format!("{told}\n{}", self.text).trim().to_owned()
    }
}

/// Whether a person wrote the text, and not a product: it is short and not a list of fields.
fn is_note(text: &str) -> bool {
    text.len() <= NOTE_LIMIT
        && text.lines().filter(|line| line.split_once(": ").is_some_and(|(name, _)| name.len() <= 30)).count()
            < 2
}

/// Whether the text is that of the report of a journal (MS-OXJRNL): the envelope of the mail that is attached.
fn is_journal(message: &Message, text: &str) -> bool {
    let has = |name: &str| {
        text.lines()
            .take(20)
            .any(|line| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)))
    };
    message.header("X-MS-Journal-Report").next().is_some()
        || text.len() <= 64 * 1024 && has("Sender:") && has("Message-Id:") && (has("To:") || has("Recipient"))
}
