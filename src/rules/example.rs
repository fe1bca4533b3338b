//! Examples: a mail and what must come of it, written beside the rules that do it. They are tests.

use crate::document::Table;

use super::file::Reader;

/// An example of a rule file.
#[derive(Debug, Clone)]
pub struct Example {
    /// The mail.
    pub mail: ExampleMail,
}

/// The mail of an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExampleMail {
    /// A path relative to the rule file.
    File(String),
    /// The content itself.
    Inline(String),
}

impl Reader<'_> {
    pub(super) fn example(&mut self, mut table: Table<'_>) -> Option<Example> {
        for key in ["expect", "client"] {
            let _ = table.value(key);
        }
        let mail = table.string("mail")?.value;
        table.finish();
        Some(Example {
            mail: if mail.contains('\n') { ExampleMail::Inline(mail) } else { ExampleMail::File(mail) },
        })
    }
}
