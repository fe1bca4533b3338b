//! What the events of a stranger may not do: close, acknowledge, and page above a severity. A stranger is an unproven
//! sender from outside the trusted networks; see [`crate::mail::Trust`].

use crate::event::{Event, Severity, Status};

use super::draft::Draft;
use super::field::Key;
use super::mail_fields::MailFields;
use super::rule_set::RuleSet;

/// Caps the severity of a stranger's event, unless a rule of the site's own set it.
pub(super) fn cap(
    rules: &RuleSet,
    mail: &MailFields<'_>,
    draft: &Draft,
    event: &mut Event,
    notes: &mut Vec<String>,
) {
    let Some(highest) = rules.site.stranger_severity.filter(|_| mail.standing().trust.is_stranger()) else {
        return;
    };
    if draft.given(Key::Severity).is_some_and(|given| rules.is_of_the_site(given.by)) {
        return;
    }
    // An event without a severity ranks as medium.
    if event.severity.unwrap_or(Severity::Medium) > highest {
        let would = event.severity.map_or_else(|| "none".to_owned(), |severity| severity.to_string());
        notes.push(format!(
            "severity: {highest} instead of {would}, the highest for a stranger (`stranger-severity`)"
        ));
        event.severity = Some(highest);
    }
}

/// Makes a page of what would close or acknowledge if a stranger sent it: the key of an alert can be known or guessed
/// by anybody. Returns what to tell the reader.
pub(super) fn page(mail: &MailFields<'_>, event: &mut Event, notes: &mut Vec<String>) -> Option<String> {
    let standing = mail.standing();
    if event.status == Status::New || !standing.trust.is_stranger() {
        return None;
    }
    notes.push(format!(
        "status: new instead of {}, as the sender is a stranger: {}",
        event.status, standing.why
    ));
    let (verb, result) = consequence(event.status);
    let proven = mail.domain_is_proven();
    let reason = if proven { "the domain of its sender may not" } else { "nothing proves who sent it" };
    event.status = Status::New;
    Some(format!("This mail would {verb} the alert, but {reason}: the alert {result}."))
}

/// What an event with this status would do to the alert, and how the alert is if it does not.
pub(super) fn consequence(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Resolved => ("close", "stays open"),
        Status::Acknowledged | Status::New => ("acknowledge", "stays as it is"),
    }
}
