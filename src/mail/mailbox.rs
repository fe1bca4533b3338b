//! A mailbox, as address headers have it.

use serde::Serialize;

/// A mailbox out of an address header.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Address {
    /// The display name; empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The addr-spec, `local@domain`, as written.
    pub address: String,
}
