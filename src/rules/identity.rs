//! The identity of an event: its sender, and the product, form and installation that its external id belongs to.

use crate::event::{Event, KeySource, Status, bounded};
use crate::mail::{self, Trust};

use super::draft::{By, Draft};
use super::field::Key;
use super::mail_fields::MailFields;
use super::rule_set::RuleSet;
use super::wrapped;

/// Longest instance in characters; it may become the end of an external id.
const INSTANCE_LIMIT: usize = 100;

/// Fills in all but the guess, which is made where the external id is.
pub(super) fn fill(rules: &RuleSet, mail: &MailFields<'_>, draft: &Draft, event: &mut Event) {
    let message = mail.message;
    // Only the forwarder of a forwarded mail is known.
    let author = if wrapped::speaks(mail) { message.from.as_slice() } else { message.sent_by() };
    let from = author.first().map_or(mail.envelope.reverse_path.as_str(), |from| &from.address);
    let identity = &mut event.identity;
    identity.trust = mail.standing().trust;
    identity.excess = mail.envelope.excess && identity.trust.is_stranger();
    identity.key_source = key_source(rules, draft);
    let product = || draft.text(Key::SourceSystem).map(str::to_owned);
    (identity.family, identity.form) = match (identity.key_source, draft.given(Key::ExternalId)) {
        (KeySource::Shipped, Some(key)) => {
            let file = &rules.files[key.by.file];
            (Some(file.family.to_string()), Some(file.name.to_string()))
        }
        (KeySource::Site, Some(key)) => (product(), Some(rules.files[key.by.file].name.to_string())),
        _ => (product(), None),
    };
    let instance = match draft.text(Key::Instance) {
        Some(ruled) => ruled.to_owned(),
        None => instance_of(rules, from),
    };
    identity.instance = bounded(&mail::visible(&instance), INSTANCE_LIMIT).into_owned();
    // A forwarded mail keeps the domain of the mail inside: the sender there may close what it opened.
    identity.domain = mail::domain_of(message.from.get(..1).unwrap_or_default()).unwrap_or_default();
    let found = mail.envelope.authenticity.as_deref().filter(|_| identity.trust == Trust::Proven);
    identity.sent_at = found.and_then(|found| found.signed_at).or(message.date);
    identity.signature = found.and_then(|found| found.signature.clone());
}

/// The installation that sends as `mailbox`.
fn instance_of(rules: &RuleSet, mailbox: &str) -> String {
    let named = rules.site.instances.iter().find(|(pattern, _)| pattern.matches(mailbox));
    named.map_or_else(|| mailbox.to_lowercase(), |(_, name)| name.clone())
}

/// Where the external id came from. A mail whose parameters close or acknowledge under the key of a shipped rule speaks
/// by its parameters: what they may close is what they opened.
fn key_source(rules: &RuleSet, draft: &Draft) -> KeySource {
    let Some(key) = draft.given(Key::ExternalId) else { return KeySource::Guess };
    let by_parameters = |by: By| rules.files[by.file].rules[by.rule].parameters.is_some();
    let status = draft.given(Key::Status).filter(|status| status.text != Status::New.to_string());
    if rules.is_of_the_site(key.by) && !by_parameters(key.by) {
        KeySource::Site
    } else if by_parameters(key.by) || status.is_some_and(|status| by_parameters(status.by)) {
        KeySource::Parameters
    } else {
        KeySource::Shipped
    }
}
