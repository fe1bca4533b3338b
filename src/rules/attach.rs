//! Which files of a mail go along with its event, and what the event says of those that do not.
//!
//! A file goes along if a rule asked for its kind, if it is of a type and size that SIGNL4 takes, and if the
//! mail's TLP lets more leave than a bare notice. A text goes redacted as all text does; an image, a PDF,
//! a sound or a film cannot be redacted, so such a file goes only if a rule named its kind.
//! A tile names each file that does not go along.

use crate::event::{self, ATTACHMENTS_TILE, Event};
use crate::mail::{self, FILE_LIMIT, FileContent, FileKind, Message, file_contents};
use crate::words::Words;
use strum::VariantArray;

use super::redact::Redaction;

/// What can be written for `attach`.
pub(super) const HELP: &str =
    "the kinds of files: [\"image\", \"pdf\", \"text\", \"audio\", \"video\"], \"all\" of them, or \"none\"";

/// Longest name of a file in characters.
pub(super) const NAME_LIMIT: usize = 120;

/// Most files of one event: SIGNL4 documents no bound, and more is not looked at on a phone.
const MOST_FILES: usize = 5;

/// Files that the tile names; the others are counted.
const MOST_NAMED: usize = 10;

/// Most places in a text that are made unreadable. One with more of them stays behind.
const MOST_REDACTIONS: usize = 2_000;

/// `text` as a list of kinds, each once, in its own order; `none` for none. Nothing if it is no such list.
pub(super) fn kinds(text: &str) -> Option<String> {
    let words = text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty());
    let mut wanted = Vec::new();
    let mut none = false;
    for word in words {
        if word.eq_ignore_ascii_case("all") {
            wanted.extend(FileKind::VARIANTS);
        } else if word.eq_ignore_ascii_case("none") || word.eq_ignore_ascii_case("false") {
            none = true;
        } else {
            wanted.push(FileKind::from_word(word)?);
        }
    }
    match (named(&wanted), none) {
        (named, false) if !named.is_empty() => Some(named),
        (named, true) if named.is_empty() => Some("none".to_owned()),
        _ => None,
    }
}

/// The kinds of the files that go along with `event`, written as [`kinds`] does; nothing if none goes.
pub(super) fn kinds_of(event: &Event) -> Option<String> {
    let types = event.attachments.iter().filter_map(|file| mail::file_type(&file.media_type));
    let kinds: Vec<FileKind> = types.map(|found| found.kind).collect();
    Some(named(&kinds)).filter(|named| !named.is_empty())
}

/// `kinds` by their words, each once, in order.
fn named(kinds: &[FileKind]) -> String {
    let named = FileKind::VARIANTS.iter().filter(|kind| kinds.contains(kind)).map(|kind| kind.word());
    named.collect::<Vec<_>>().join(",")
}

/// Chooses the files that go along with `event`, which is one of `pieces` of the mail, and names the others.
pub(super) fn choose(
    redaction: &Redaction,
    message: &Message,
    wanted: Option<&str>,
    pieces: usize,
    limited: bool,
    event: &mut Event,
) {
    // Encrypted content and signatures are not files for readers.
    let files: Vec<_> = message
        .attachments
        .iter()
        .filter(|file| !message.encrypted && !is_signature(&file.content_type))
        .collect();
    if limited {
        if !files.is_empty() {
            let count = files.len();
            let what = if count == 1 { "1 file stays".to_owned() } else { format!("{count} files stay") };
            set_tile(event, format!("{what} here, as the text does"));
        }
        return;
    }
    let wanted: Vec<FileKind> =
        wanted.unwrap_or_default().split(',').filter_map(FileKind::from_word).collect();
    let mut behind = Vec::new();
    for file in files {
        let why = match file.file_type {
            None if file.size > FILE_LIMIT => "larger than SIGNL4 takes",
            None => "not a type that SIGNL4 takes",
            Some(_) if file.size > FILE_LIMIT => "larger than SIGNL4 takes",
            Some(of) if !wanted.contains(&of.kind) => "",
            Some(_) if pieces > 1 => "of a mail with several alerts",
            Some(_) if event.attachments.len() == MOST_FILES => "more files than one alert takes",
            Some(of) => {
                let untouched = redaction.is_empty() || of.kind != FileKind::Text;
                event.attachments.push(event::Attachment {
                    place: file.place,
                    name: file.name.clone(),
                    media_type: of.media_type.to_owned(),
                    size: file.size,
                    redactions: untouched.then(Vec::new),
                });
                continue;
            }
        };
        behind.push(line(&shown_name(file), file.size, why));
    }
    if !behind.is_empty() {
        let more = behind.len().saturating_sub(MOST_NAMED);
        behind.truncate(MOST_NAMED);
        if more > 0 {
            behind.push(format!("and {more} more"));
        }
        set_tile(event, behind.join("\n"));
    }
}

/// Finds what must not leave of the texts that go along with `events`, which were made of the mail in
/// `content`. Without this they do not go.
pub(super) fn clean(redaction: &Redaction, events: &mut [Event], content: &[u8]) {
    for event in events {
        let unseen: Vec<usize> =
            event.attachments.iter().filter(|a| a.redactions.is_none()).map(|a| a.place).collect();
        if unseen.is_empty() {
            continue;
        }
        let mut texts = file_contents(content, &unseen).into_iter();
        let mut behind = Vec::new();
        event.attachments.retain_mut(|file| {
            if file.redactions.is_some() {
                return true;
            }
            let text = texts.next().flatten();
            file.redactions = match text {
                Some(FileContent::Text(text)) => redaction.ranges(&text, MOST_REDACTIONS),
                _ => None,
            };
            if file.redactions.is_none() {
                behind.push(line(&file.name, file.size, "too much of it would be redacted"));
            }
            file.redactions.is_some()
        });
        for line in behind {
            match event.fields.iter_mut().find(|(name, _)| name == ATTACHMENTS_TILE) {
                Some((_, tile)) => tile.push_str(&format!("\n{line}")),
                None => set_tile(event, line),
            }
        }
    }
}

/// Gives `file` a name of its type: on one line, without a path, with an extension that SIGNL4 knows.
pub(super) fn finish_name(file: &mut event::Attachment) {
    let last = file.name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name = mail::joined(last);
    let of = mail::file_type(&file.media_type);
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    if let Some(of) = of
        && !extension.is_some_and(|extension| of.extensions.contains(&extension.as_str()))
    {
        let stem = if name.is_empty() { "attachment" } else { name.as_str() };
        name = format!("{stem}.{}", of.extensions[0]);
    }
    file.name = name;
}

fn is_signature(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/pkcs7-signature"
            | "application/x-pkcs7-signature"
            | "application/pgp-signature"
            | "application/pgp-keys"
    )
}

fn shown_name(file: &mail::Attachment) -> String {
    let name = if file.name.is_empty() { &file.content_type } else { &file.name };
    event::bounded(name, NAME_LIMIT).into_owned()
}

/// A line of the tile.
fn line(name: &str, size: usize, why: &str) -> String {
    let parts = if why.is_empty() { "" } else { ", " };
    format!("{name} ({}{parts}{why})", event::shown_size(size))
}

/// Sets the tile, unless a rule has one of that name.
fn set_tile(event: &mut Event, text: String) {
    if !event.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(ATTACHMENTS_TILE)) {
        event.fields.push((ATTACHMENTS_TILE.to_owned(), text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_read_in_any_order_and_nothing_else_is() {
        for (text, expected) in [
            ("image", Some("image")),
            ("Text, image", Some("image,text")),
            ("all", Some("image,pdf,text,audio,video")),
            ("none", Some("none")),
            ("false", Some("none")),
            ("true", None),
            ("image none", None),
            ("zip", None),
            ("", None),
        ] {
            assert_eq!(kinds(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_name_ends_as_its_type_does_and_has_no_path() {
        for (name, media_type, expected) in [
            ("shot.PNG", "image/png", "shot.PNG"),
            ("invoice.exe", "application/pdf", "invoice.exe.pdf"),
            ("", "image/jpeg", "attachment.jpg"),
            ("..\\..\\a/b\nc.log", "text/plain", "b c.log.txt"),
        ] {
            let mut file = event::Attachment {
                name: name.into(),
                media_type: media_type.into(),
                ..event::Attachment::default()
            };
            finish_name(&mut file);
            assert_eq!(file.name, expected);
        }
    }
}
