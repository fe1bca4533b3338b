//! A value that must never be shown: the team secret is the whole credential of a SIGNL4 webhook.

use std::fmt;

/// Text that prints as `[redacted]`. The only way to the content is [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The content. Call it only where the request is made.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without any occurrence of this secret: SIGNL4's 404 echoes it in its body.
    pub fn redact(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(&self.0, "[redacted]") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
