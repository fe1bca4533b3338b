//! The laws for a forwarded mail: it opens like the mail inside, and closes nothing unless the site names the
//! forwarder. Otherwise anyone who can quote a mail could close an alert.

use crate::event::{Event, Status};

use super::draft::Draft;
use super::field::Key;
use super::ground::Ground;
use super::stranger;

/// True if the mail was not forwarded, or by a forwarder that the site names.
pub(super) fn speaks(ground: &Ground<'_>) -> bool {
    ground.message.wrapper.as_ref().is_none_or(|wrapper| wrapper.named)
}

/// Makes a page of what would close or acknowledge. Returns what to tell the reader.
pub(super) fn page(ground: &Ground<'_>, event: &mut Event, notes: &mut Vec<String>) -> Option<String> {
    if event.status == Status::New || speaks(ground) {
        return None;
    }
    let from = ground.message.sent_by().first().map_or("somebody", |from| from.address.as_str());
    notes.push(format!(
        "status: new instead of {}, as {} only passed the mail on and no `[[mail.forwarder]]` names it",
        event.status,
        from.escape_debug()
    ));
    let (verb, result) = stranger::consequence(event.status);
    event.status = Status::New;
    Some(format!("This mail would {verb} the alert, but it was only forwarded: the alert {result}."))
}

/// `message` with what its reader must see beside it: the note of who passed the mail on, and, where no rule made the
/// message, the mails that are attached.
pub(super) fn beside(ground: &Ground<'_>, draft: &Draft, whole: bool, message: String) -> String {
    let mut message = message;
    if let Some(note) =
        ground.message.wrapper.as_ref().map(|wrapper| &wrapper.note).filter(|note| !note.is_empty())
    {
        message = format!("{note}\n\n{message}");
    }
    if whole && draft.text(Key::Message).is_none() && !ground.message.enclosed.is_empty() {
        message = format!("{message}\n\n{}", ground.message.enclosed);
    }
    message
}
