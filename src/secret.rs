//! A value that must never be shown: the team secret is the whole credential of a SIGNL4 webhook.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// Text that prints as `[redacted]` and is wiped from memory when it goes. The only way to the content is
/// [`Secret::expose`].
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The content. Call it only where the request is made.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// `text` without any occurrence of this secret: SIGNL4's 404 echoes it in its body.
    pub fn redact(&self, text: &str) -> String {
        match self.expose() {
            "" => text.to_owned(),
            secret => text.replace(secret, "[redacted]"),
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

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
