//! The key that no rule gave: a guess. Its base is what mails of one kind share, and behind it stands a hash of what
//! the mail says, up to what changes from mail to mail of one alert ([`mail::masked`]): a different alert is never a
//! repeat. A mark at the front of the subject, which a rule read, says whether something is wrong or is over.

use std::sync::LazyLock;

use regex::Regex;
use ring::digest::{Context, SHA256};

use crate::event::{Event, Guess, KeySource, Mark, Repeat, Severity, Status};
use crate::mail;
use crate::words::Words;

use super::draft::{Draft, Given};
use super::field::Key;
use super::ids::{bounded_id, fnv};
use super::mail_fields::MailFields;
use super::part::Part;
use super::wrapped;

/// Longest base in characters: with the hash behind it the key is within the bound.
const BASE_LIMIT: usize = 233;

/// How much of a text is masked, in bytes; what stands below must be the same to the letter.
const MASKED_LIMIT: usize = 64 << 10;

/// Gives the event its base, its key and, if it ends something, its status.
pub(super) fn key(
    mail: &MailFields<'_>,
    draft: &Draft,
    part: Part,
    event: &mut Event,
    notes: &mut Vec<String>,
) {
    let (mut base, of) = base(mail, draft);
    if part.of > 1 {
        base.push_str(&format!("/{}", part.at + 1));
    }
    let base = bounded_id(&base, BASE_LIMIT);
    let mark = mark(draft);
    if mark == Some(Mark::End) {
        event.status = Status::Resolved;
    }
    let text = text(mail, draft, of);
    notes.push(match of {
        Of::Reply => {
            format!(
                "external-id: guessed of {}; a reply, whatever it says, is one text and pages once",
                of.words()
            )
        }
        _ => {
            format!("external-id: guessed of {}, and of the text: another text is another alert", of.words())
        }
    });
    if let Some(mark) = mark {
        notes.push(format!("mark: {}", mark.word()));
    }
    if of == Of::Reply {
        // A conversation pages once, however many replies it has.
        event.repeat.get_or_insert(Repeat::Count);
    }
    event.external_id = Some(format!("{base}#{text}"));
    event.identity.key_source = KeySource::Guess;
    event.identity.guess = Some(Guess { base, mark });
}

/// Gives an end that may close nothing a key of its own: it pages, and must not look like a repeat of what it ends.
pub(super) fn part_from_problems(event: &mut Event) {
    let Some(Guess { base, mark: Some(Mark::End) }) = &event.identity.guess else { return };
    if event.status == Status::New
        && let Some(id) = &event.external_id
    {
        event.external_id = Some(format!("{base}#{}", digest(&["end", id])));
    }
}

/// The severity that the rules set. One that comes with a mark goes with it where a rule gave the key: there the mark
/// says nothing.
pub(super) fn severity(draft: &Draft) -> Option<Severity> {
    let given = draft.given(Key::Severity)?;
    let of_mark = |mark: &Given| mark.by.file == given.by.file;
    if draft.given(Key::ExternalId).is_some() && draft.given(Key::Mark).is_some_and(of_mark) {
        return None;
    }
    Severity::from_word(&given.text)
}

/// Whether the subject is none, or what programs write in the place of one that they encrypt.
pub(super) fn says_nothing(subject: &str) -> bool {
    matches!(subject.trim(), "" | "..." | "[...]" | "Encrypted Message")
}

/// What a base is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Reply,
    Thread,
    Mail,
    Subject,
}

impl Of {
    fn words(self) -> &'static str {
        match self {
            Self::Reply | Self::Thread => "the conversation",
            Self::Mail => "the Message-ID, as the subject says nothing",
            Self::Subject => "the sender and the subject",
        }
    }
}

fn base(mail: &MailFields<'_>, draft: &Draft) -> (String, Of) {
    let subject = &mail.message.subject;
    match (mail.thread(), &mail.message.message_id) {
        (Some(thread), _) => {
            let of = if is_reply(subject) && wrapped::speaks(mail) { Of::Reply } else { Of::Thread };
            (format!("thread:{thread}"), of)
        }
        // Mails whose subject says nothing have nothing in common.
        (None, Some(id)) if says_nothing(subject) => (format!("mail:{id}"), Of::Mail),
        // A hash, as a subject is text, and text may not leave under a TLP.
        (None, _) => (format!("subject:{:016x}", fnv(&[mail.sender(), &about(mail, draft)])), Of::Subject),
    }
}

/// What the mail is about: what a rule said of it, or the subject.
fn about(mail: &MailFields<'_>, draft: &Draft) -> String {
    normalised(draft.text(Key::About).unwrap_or(&mail.message.subject))
}

/// What the mark says, unless a later rule said in so many words that the mail opens something.
fn mark(draft: &Draft) -> Option<Mark> {
    let given = draft.given(Key::Mark)?;
    let mark = Mark::from_word(&given.text)?;
    let opens = draft.given(Key::Status).is_some_and(|status| status.text == "new" && status.by > given.by);
    (mark == Mark::Problem || !opens).then_some(mark)
}

/// The hash of what the mail says, of 16 digits.
fn text(mail: &MailFields<'_>, draft: &Draft, of: Of) -> String {
    if of == Of::Reply {
        return digest(&["reply"]);
    }
    let message = mail.message;
    let (top, rest) = mail.text.split_at(mail.text.floor_char_boundary(MASKED_LIMIT));
    let mut texts = vec![mail::masked(top), rest.to_owned()];
    if of == Of::Thread {
        texts.push(about(mail, draft));
    }
    // What the reader sees beside the text. A forwarder that the site names adds nothing to the mail.
    let note = message.wrapper.as_ref().filter(|wrapper| !wrapper.named).map(|wrapper| &wrapper.note);
    let beside = note.into_iter().chain([&message.enclosed]);
    texts.extend(beside.filter(|text| !text.is_empty()).map(|text| {
        let (top, rest) = text.split_at(text.floor_char_boundary(MASKED_LIMIT));
        mail::masked(top) + rest
    }));
    for file in &message.attachments {
        texts.push(format!("{}\n{}\n{}", mail::masked(&file.name), file.content_type, file.size));
    }
    if message.encrypted {
        // An encrypted text cannot be compared with earlier ones.
        texts.push(message.message_id.clone().unwrap_or_else(|| message.size.to_string()));
    }
    digest(&texts)
}

/// The first 16 digits of the SHA-256 of `texts`, each kept apart from the next.
fn digest(texts: &[impl AsRef<str>]) -> String {
    let mut context = Context::new(&SHA256);
    for text in texts {
        context.update(&text.as_ref().len().to_be_bytes());
        context.update(text.as_ref().as_bytes());
    }
    context.finish().as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `Re:` and the like.
const REPLY: &str = "re|aw|antw|sv|vs|odp";
/// `Fwd:` and the like.
const FORWARD: &str = "fwd?|wg|tr|rv";

fn front(words: &str) -> Regex {
    Regex::new(&format!(r"^\s*(?i-u:{words})(?:\[[0-9]+\])?\s*:\s*")).expect("the pattern is fixed")
}

fn is_reply(subject: &str) -> bool {
    static MARK: LazyLock<Regex> = LazyLock::new(|| front(REPLY));
    MARK.is_match(subject)
}

/// The subject without what changes from mail to mail of one kind: reply marks, masked things, case.
fn normalised(subject: &str) -> String {
    static MARK: LazyLock<Regex> = LazyLock::new(|| front(&format!("{REPLY}|{FORWARD}")));
    let mut rest = subject;
    while let Some(mark) = MARK.find(rest) {
        rest = &rest[mark.end()..];
    }
    mail::masked(rest).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normalised_subject_is_that_of_every_mail_of_the_kind() {
        for subject in [
            "Disk full on db01",
            "RE: Aw[2]: Disk full on  db01",
            "Fwd: disk FULL on db01",
            "WG: Disk full on db01",
        ] {
            assert_eq!(normalised(subject), "disk full on db01", "{subject}");
        }
        assert_ne!(normalised("Disk full on db01"), normalised("Disk full on db02"));
        assert_eq!(normalised("Logs of 30.11.2026 10:00"), normalised("Logs of 1.12.2026 11:02"));
        assert_eq!(normalised("[SOC] Re: a"), "[soc] re: a");
        assert_eq!(normalised("Logs of 2026-11-30"), normalised(&normalised("Logs of 2026-11-30")));
    }

    #[test]
    fn a_forward_is_no_reply() {
        assert!(is_reply("AW: a") && is_reply(" re[2]: a"));
        assert!(!is_reply("Fwd: a") && !is_reply("WG: a") && !is_reply("Restore: a"));
    }

    #[test]
    fn texts_that_are_parted_elsewhere_have_another_digest() {
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_eq!(digest(&["a"]).len(), 16);
    }
}
