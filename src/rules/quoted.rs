//! One law for what is quoted, attached or forwarded: it may page and be shown, and never closes or acknowledges. A mail
//! that closes must do so without it, by what its sender wrote himself.

use crate::event::{Event, Status};
use crate::mail;

use super::draft::Draft;
use super::field::Key;
use super::judge::Run;
use super::mail_fields::{MailFields, Subject};
use super::part::Part;
use super::rule_set::RuleSet;
use super::stranger::consequence;

/// What stands in front of the subject of an answer or a forwarded mail, in lower case, before a colon.
const MARKS: [&str; 16] =
    ["re", "aw", "antw", "sv", "vs", "rif", "odp", "fw", "fwd", "wg", "tr", "rv", "enc", "doorst", "vb", "i"];

/// Whether what would close or acknowledge is not what the sender of the mail wrote himself.
pub(super) fn is_borrowed(
    rules: &RuleSet,
    subject: &Subject<'_>,
    mail: &MailFields<'_>,
    part: Part,
    draft: &Draft,
) -> bool {
    let page = Status::New.to_string();
    let Some(status) = draft.given(Key::Status).filter(|status| status.text != page) else { return false };
    let message = mail.message;
    let quoted = mail::quoted(&message.text);
    let attached = !message.enclosed.is_empty()
        || message.attachments.iter().any(|file| file.content_type == "message/rfc822");
    if quoted.is_empty() && !attached {
        return false;
    }
    // Beside an older mail, the subject of an answer or a forwarded mail is that of the older one.
    if !rules.is_of_the_site(status.by) && message.header("Subject").any(is_marked) {
        return true;
    }
    let text = mail.text;
    let mut own = String::with_capacity(text.len());
    let mut at = part.start;
    let end = part.start + text.len();
    for range in quoted.iter().filter(|range| range.end > part.start && range.start < end) {
        own.push_str(&message.text[at..range.start.max(at)]);
        at = range.end.min(end);
    }
    own.push_str(&message.text[at..end]);
    if own.len() == text.len() {
        return false;
    }
    let own = rules.fields(subject, &own, mail.standing);
    let (alone, _) = Run::new(rules, &own, false).judge(part.split);
    let key = draft.given(Key::ExternalId);
    // A rule of the site's own may find in what is quoted which alert the sender means.
    let named = key.is_some_and(|key| rules.is_of_the_site(key.by));
    alone.dropped.is_some()
        || alone.text(Key::Status) != Some(status.text.as_str())
        || !(named || alone.text(Key::ExternalId) == draft.text(Key::ExternalId))
}

/// Makes a page of such an event. Returns what to tell the reader.
pub(super) fn page(event: &mut Event, notes: &mut Vec<String>) -> Option<String> {
    if event.status == Status::New {
        return None;
    }
    notes.push(format!(
        "status: new instead of {}, as only what is quoted, attached or forwarded in this mail says so",
        event.status
    ));
    let (verb, result) = consequence(event.status);
    event.status = Status::New;
    Some(format!(
        "This mail would {verb} the alert, but only what is quoted, attached or forwarded in it says so: the alert {result}."
    ))
}

fn is_marked(subject: &str) -> bool {
    let Some((mark, _)) = subject.split_once(':') else { return false };
    let mark = mark.trim().to_lowercase();
    // Outlook and others count: `Re[2]:`.
    let mark = mark.split(['[', '(']).next().unwrap_or_default().trim_end();
    MARKS.contains(&mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_or_a_forwarded_mail_is_known_by_its_mark() {
        for subject in ["Re: a", "AW[2]: a", "Fwd : a", " WG: Re: a", "TR: a"] {
            assert!(is_marked(subject), "{subject}");
        }
        for subject in ["RECOVERY: a", "[Case #7] a", "Resolved: a", "a", "re a"] {
            assert!(!is_marked(subject), "{subject}");
        }
    }
}
