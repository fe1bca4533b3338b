//! A part of a message that is not its text.

use serde::Serialize;

use super::file_type::FileType;

/// A part of the message that is not its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attachment {
    /// The file name; empty if the part has none.
    pub name: String,
    /// The media type in lower case, such as `image/png`.
    pub content_type: String,
    /// The decoded size in bytes.
    pub size: usize,
    /// Its type, if it is one that SIGNL4 takes.
    #[serde(skip)]
    pub file_type: Option<&'static FileType>,
    /// Where it stands among the files of the mail, behind which those of a mail inside stand.
    #[serde(skip)]
    pub place: usize,
}
