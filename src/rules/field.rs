//! What a rule can speak of: the fields of the mail and its envelope, of the event so far, and the names
//! that captures and `let` made. One name means one thing in conditions and in templates; where a
//! condition writes a hyphen, a template writes an underscore.

use std::sync::Arc;

/// A thing that a condition can test and a template can show.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Field {
    /// A field of the mail or its envelope.
    Mail(MailField),
    /// The values of a header field, by name, in lower case.
    Header(Arc<str>),
    /// What the rules set so far.
    Event(Key),
    /// A tile set so far.
    Tile(Arc<str>),
    /// A value of the site's config.
    Site(Arc<str>),
    /// The value of a labelled line above the free text, by its label in lower case with hyphens.
    Line(Arc<str>),
    /// A capture or a `let` of this file; `slot` is its place among them.
    Name { name: Arc<str>, slot: usize },
}

/// The closed list of the fields of a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MailField {
    Subject,
    From,
    FromName,
    To,
    Cc,
    ReplyTo,
    Text,
    OwnText,
    MessageId,
    Thread,
    Attachment,
    AttachmentType,
    Size,
    Encrypted,
    Sender,
    Recipient,
    Client,
    Helo,
    User,
    TlsSubject,
    Trusted,
    Authenticated,
    ParameterSender,
    Spf,
    Dkim,
    DkimDomain,
    Dmarc,
    Arc,
    Received,
    Team,
}

/// How the field of a mail may be tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Text,
    Flag,
    Time,
}

impl MailField {
    /// Every field by its name in conditions.
    pub(super) const ALL: &'static [(&'static str, Self)] = &[
        ("subject", Self::Subject),
        ("from", Self::From),
        ("from-name", Self::FromName),
        ("to", Self::To),
        ("cc", Self::Cc),
        ("reply-to", Self::ReplyTo),
        ("text", Self::Text),
        ("own-text", Self::OwnText),
        ("message-id", Self::MessageId),
        ("thread", Self::Thread),
        ("attachment", Self::Attachment),
        ("attachment-type", Self::AttachmentType),
        ("size", Self::Size),
        ("encrypted", Self::Encrypted),
        ("sender", Self::Sender),
        ("recipient", Self::Recipient),
        ("client", Self::Client),
        ("helo", Self::Helo),
        ("user", Self::User),
        ("tls-subject", Self::TlsSubject),
        ("trusted", Self::Trusted),
        ("authenticated", Self::Authenticated),
        ("parameter-sender", Self::ParameterSender),
        ("spf", Self::Spf),
        ("dkim", Self::Dkim),
        ("dkim-domain", Self::DkimDomain),
        ("dmarc", Self::Dmarc),
        ("arc", Self::Arc),
        ("received", Self::Received),
        ("team", Self::Team),
    ];

    pub(super) fn nature(self) -> Nature {
        match self {
            Self::Encrypted | Self::Trusted | Self::Authenticated | Self::ParameterSender => Nature::Flag,
            Self::Received => Nature::Time,
            _ => Nature::Text,
        }
    }

    pub(super) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, field)| *field == self);
        found.expect("every field is in the list").0
    }
}

/// What a rule sets of the event, one value each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Title,
    Message,
    Status,
    ExternalId,
    Severity,
    Mark,
    About,
    Service,
    Color,
    Scenario,
    Location,
    Filtering,
    SourceSystem,
    Instance,
    Tlp,
    Link,
    Reference,
    Attach,
    Repeat,
    Quiet,
}

impl Key {
    /// Every key by its name in `set`.
    pub(super) const ALL: &'static [(&'static str, Self)] = &[
        ("title", Self::Title),
        ("message", Self::Message),
        ("status", Self::Status),
        ("external-id", Self::ExternalId),
        ("severity", Self::Severity),
        ("mark", Self::Mark),
        ("about", Self::About),
        ("service", Self::Service),
        ("color", Self::Color),
        ("scenario", Self::Scenario),
        ("location", Self::Location),
        ("filtering", Self::Filtering),
        ("source-system", Self::SourceSystem),
        ("instance", Self::Instance),
        ("tlp", Self::Tlp),
        ("link", Self::Link),
        ("reference", Self::Reference),
        ("attach", Self::Attach),
        ("repeat", Self::Repeat),
        ("quiet", Self::Quiet),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, key)| *key == self).expect("every key is in the list").0
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|&(_, key)| key)
    }
}

/// What the name of a labelled line begins with in a template.
const LINE: &str = "line_";

impl Field {
    /// The field of the mail called `name`, or else the name of a capture or a `let`, not yet resolved.
    pub(super) fn plain(name: &str) -> Self {
        match MailField::ALL.iter().find(|(n, _)| *n == name) {
            Some(&(_, field)) => Self::Mail(field),
            None => Self::Name { name: name.into(), slot: usize::MAX },
        }
    }

    /// The field that a template means by `path`; none if it can be no field at all.
    pub(super) fn in_template(path: &str) -> Option<Self> {
        let hyphens = |text: &str| text.replace('_', "-");
        match path.split_once('.') {
            None if path == "event" || path == "site" || path == "line" => None,
            None if path.starts_with(LINE) => Some(Self::Line(hyphens(&path[LINE.len()..]).into())),
            None => {
                let field = Self::plain(&hyphens(path));
                Some(if matches!(field, Self::Name { .. }) { Self::plain(path) } else { field })
            }
            Some(("event", key)) => match key.strip_prefix("tile.") {
                Some(tile) => Some(Self::Tile(tile.into())),
                None => Key::from_name(&hyphens(key)).map(Self::Event),
            },
            Some(("site", value)) => Some(Self::Site(hyphens(value).into())),
            Some(_) => None,
        }
    }

    /// Whether a capture or a `let` may not be called so, as the name has a meaning.
    pub(super) fn reserves(name: &str) -> bool {
        const WORDS: [&str; 20] = [
            "any", "all", "not", "and", "or", "if", "is", "in", "elif", "else", "endif", "true", "false",
            "none", "header", "event", "site", "tile", "loop", "line",
        ];
        let hyphens = name.replace('_', "-");
        WORDS.contains(&name) || name.starts_with(LINE) || MailField::ALL.iter().any(|(n, _)| *n == hyphens)
    }

    /// The field as an operator writes it.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Mail(field) => field.name().to_owned(),
            Self::Header(name) => format!("header.{name}"),
            Self::Event(key) => format!("event.{}", key.name()),
            Self::Tile(name) => format!("event.tile.{name}"),
            Self::Site(name) => format!("site.{name}"),
            Self::Line(name) => format!("line.{name}"),
            Self::Name { name, .. } => name.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::template::FILTERS;

    #[test]
    fn the_page_names_every_field_key_and_filter() {
        let page = include_str!("../../rules/README.md");
        let names = MailField::ALL.iter().map(|(name, _)| *name);
        for name in names.chain(Key::ALL.iter().map(|(name, _)| *name)).chain(FILTERS) {
            let shown = page.contains(&format!("`{name}`")) || page.contains(&format!("`{name}("));
            assert!(shown, "rules/README.md does not name `{name}`");
        }
    }
}
