//! The laws for a forwarded mail: it opens like the mail inside, and closes nothing unless the site names the
//! forwarder. Otherwise anyone who can quote a mail could close an alert.

use crate::event::{Event, Status};

use super::draft::Draft;
use super::field::Key;
use super::mail_fields::MailFields;
use super::stranger;

/// True if the mail was not forwarded, or by a forwarder that the site names.
pub(super) fn speaks(mail: &MailFields<'_>) -> bool {
    mail.message.wrapper.as_ref().is_none_or(|wrapper| wrapper.named)
}

/// Makes a page of what would close or acknowledge. Returns what to tell the reader.
pub(super) fn page(mail: &MailFields<'_>, event: &mut Event, notes: &mut Vec<String>) -> Option<String> {
    if event.status == Status::New || speaks(mail) {
        return None;
    }
    let from = mail.message.sent_by().first().map_or("somebody", |from| from.address.as_str());
    notes.push(format!(
        "status: new instead of {}, as {} only passed the mail on and no `[[mail.forwarder]]` names it",
        event.status,
        from.escape_debug()
    ));
    let (verb, result) = stranger::consequence(event.status);
    event.status = Status::New;
    Some(format!("This mail would {verb} the alert, but it was only forwarded: the alert {result}."))
}

/// `message` with what its reader must see beside it: the note of the forwarder, and, where no rule made the
/// message, the mails that are attached.
pub(super) fn beside(mail: &MailFields<'_>, draft: &Draft, whole: bool, message: String) -> String {
    let mut message = message;
    if let Some(note) =
        mail.message.wrapper.as_ref().map(|wrapper| &wrapper.note).filter(|note| !note.is_empty())
    {
        message = format!("{note}\n\n{message}");
    }
    if whole && draft.text(Key::Message).is_none() && !mail.message.enclosed.is_empty() {
        message = format!("{message}\n\n{}", mail.message.enclosed);
    }
    message
}
