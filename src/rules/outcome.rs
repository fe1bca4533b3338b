//! The laws for what the rules left out, and for what may leave: from a draft to events. Whatever the
//! rules did or did not do, the event has a title, a message and a key.

use std::borrow::Cow;

use crate::event::{Event, FIELD_LIMIT, MESSAGE_LIMIT, Status, TITLE_LIMIT, bounded};
use crate::mail;
use crate::time::parse_duration;
use crate::words::Words;

use super::attach;
use super::draft::{By, Draft};
use super::field::Key;
use super::guess::{self, says_nothing};
use super::identity;
use super::ids::{EXTERNAL_ID_LIMIT, bounded_id, fnv};
use super::mail_fields::{MailFields, Subject, first};
use super::part::Part;
use super::quoted;
use super::rule_set::RuleSet;
use super::stranger;
use super::tlp::Tlp;
use super::trace::{Origin, Piece};
use super::wrapped;

/// Longest run of characters without a blank; a longer one is neither a word nor a usable link.
const RUN_LIMIT: usize = 1_000;

/// The events of one piece, one for each team.
pub(super) fn events(
    rules: &RuleSet,
    subject: &Subject<'_>,
    mail: &MailFields<'_>,
    draft: &Draft,
    part: Part,
    full: bool,
    piece: &mut Piece,
) -> Vec<Event> {
    let site = &rules.site;
    let mut notes = std::mem::take(&mut piece.notes);
    let mut event = Event {
        title: title(mail, draft, &mut notes),
        message: wrapped::beside(mail, draft, part.of == 1, message(mail, draft, &mut notes)),
        location: draft.text(Key::Location).map(str::to_owned),
        filtering: draft.text(Key::Filtering).map(|word| word == "true"),
        source_system: draft.text(Key::SourceSystem).map(str::to_owned),
        severity: guess::severity(draft),
        repeat: draft.text(Key::Repeat).and_then(Words::from_word),
        quiet: draft.text(Key::Quiet).and_then(parse_duration),
        fields: draft.tiles.iter().map(|(name, given)| (name.clone(), given.text.clone())).collect(),
        ..Event::default()
    };
    stranger::cap(rules, mail, draft, &mut event, &mut notes);
    page(rules, draft, &mut event);
    key(mail, draft, part, &mut event, &mut notes);
    let warning = stranger::page(mail, &mut event, &mut notes)
        .or_else(|| wrapped::page(mail, &mut event, &mut notes))
        .or_else(|| {
            quoted::is_borrowed(rules, subject, mail, part, draft)
                .then(|| quoted::page(&mut event, &mut notes))
                .flatten()
        });
    guess::part_from_problems(&mut event);
    identity::fill(rules, mail, draft, &mut event);

    let tlp = draft.text(Key::Tlp).and_then(Tlp::from_word).max(part.written);
    for (name, text) in [
        ("Reference", draft.text(Key::Reference)),
        ("Link", draft.text(Key::Link)),
        ("TLP", tlp.map(Tlp::word)),
    ] {
        if let Some(text) = text
            && !event.fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
        {
            event.fields.push((name.to_owned(), text.to_owned()));
        }
    }
    let limited = matches!((site.tlp_limit, tlp), (Some(limit), Some(tlp)) if tlp > limit);
    if let (Some(limit), Some(tlp)) = (site.tlp_limit, tlp)
        && tlp > limit
    {
        bare_notice(&mut event, mail, draft, tlp, limit);
        notes.push(format!("TLP:{} is above the limit: only a notice leaves", tlp.word().to_uppercase()));
    }
    attach::choose(&site.redaction, mail.message, draft.text(Key::Attach), part.of, limited, &mut event);
    if let Some(warning) = warning {
        event.message = format!("{warning}\n\n{}", event.message);
    }
    clean(rules, &mut event);

    if full {
        piece.origins = origins(rules, draft);
    }
    piece.notes = notes;
    let teams =
        draft.teams.as_ref().map_or_else(|| vec![subject.team.to_owned()], |(teams, _)| teams.clone());
    teams.into_iter().map(|team| Event { team, ..event.clone() }).collect()
}

fn title(mail: &MailFields<'_>, draft: &Draft, notes: &mut Vec<String>) -> String {
    if let Some(title) = draft.text(Key::Title) {
        return title.to_owned();
    }
    let subject = mail::joined(&mail.message.subject);
    if mail.message.encrypted && says_nothing(&subject) {
        notes.push("title: the sender, as the subject is hidden".to_owned());
        return format!("Encrypted mail from {}", mail.sender());
    }
    if !subject.is_empty() {
        notes.push("title: the subject".to_owned());
        return subject;
    }
    notes.push("title: the sender, as there is no subject".to_owned());
    format!("Mail from {} (no subject)", mail.sender())
}

fn message(mail: &MailFields<'_>, draft: &Draft, notes: &mut Vec<String>) -> String {
    if let Some(message) = draft.text(Key::Message) {
        return message.to_owned();
    }
    let text = mail.text.trim();
    if !text.is_empty() {
        notes.push("message: the text".to_owned());
        return text.to_owned();
    }
    notes.push("message: what is known, as there is no text".to_owned());
    let message = mail.message;
    let is_smime = |file: &mail::Attachment| file.content_type.ends_with("pkcs7-mime");
    let (what, how) = match message.encrypted {
        false => ("A mail without text", ""),
        true if message.attachments.iter().any(is_smime) => {
            ("A mail", "Its text is encrypted (S/MIME): only its recipient can read it.")
        }
        true => ("A mail", "Its text is encrypted (PGP): only its recipient can read it."),
    };
    let mut known = format!("{what} from {}", mail.sender());
    if let Some(to) = first(&message.to) {
        known.push_str(&format!(" to {to}"));
    }
    if let Some(date) = message.date.filter(|_| message.encrypted) {
        known.push_str(&format!(", written at {date}"));
    }
    known.push('.');
    if !how.is_empty() {
        known.push_str(&format!(" {how}"));
    }
    if !message.attachments.is_empty() {
        let named: Vec<_> = message
            .attachments
            .iter()
            .take(10)
            .map(|a| if a.name.is_empty() { a.content_type.as_str() } else { a.name.as_str() })
            .collect();
        known.push_str(&format!(" Attachments: {}.", named.join(", ")));
    }
    known
}

/// Service, colour and scenario: as the rules say, else as the site's table says for the severity.
fn page(rules: &RuleSet, draft: &Draft, event: &mut Event) {
    let site = &rules.site;
    let table = event.severity.and_then(|severity| site.paging_of(severity));
    let color = draft.given(Key::Color);
    let of_color = color.and_then(|given| Some((site.service_of(&given.text)?, given.by)));
    let named = draft.given(Key::Service).map(|given| (given.text.as_str(), given.by));
    let ruled = match (named, of_color) {
        // A colour set after the service is the later word on it.
        (Some((_, named)), Some((service, colored))) if colored > named => Some(service),
        (Some((service, _)), _) | (None, Some((service, _))) => Some(service),
        (None, None) => None,
    };
    event.color =
        color.map(|given| given.text.clone()).or_else(|| table.and_then(|paging| paging.color.clone()));
    event.service = ruled
        .or_else(|| table.and_then(|paging| paging.service.as_deref()))
        .or_else(|| event.color.as_deref().and_then(|color| site.service_of(color)))
        .map(str::to_owned);
    event.scenario = draft
        .text(Key::Scenario)
        .and_then(Words::from_word)
        .or_else(|| table.and_then(|paging| paging.scenario));
}

/// The external id and the status. What closes or acknowledges must say what; else it is a page.
fn key(mail: &MailFields<'_>, draft: &Draft, part: Part, event: &mut Event, notes: &mut Vec<String>) {
    event.status = draft.text(Key::Status).and_then(Words::from_word).unwrap_or_default();
    if let Some(id) = draft.text(Key::ExternalId) {
        event.external_id = Some(bounded_id(id, EXTERNAL_ID_LIMIT));
        return;
    }
    if event.status != Status::New {
        notes.push(format!("status: new, as a mail without a key cannot be {}", event.status));
        event.status = Status::New;
    }
    guess::key(mail, draft, part, event, notes);
}

/// Leaves of `event` what may leave of a mail above the limit: who sent it, its number and its link.
fn bare_notice(event: &mut Event, mail: &MailFields<'_>, draft: &Draft, tlp: Tlp, limit: Tlp) {
    let (label, limit) = (tlp.word().to_uppercase(), limit.word().to_uppercase());
    let reference = draft.text(Key::Reference);
    event.title = match reference {
        Some(reference) => format!("TLP:{label} {reference} from {}", mail.sender()),
        None => format!("TLP:{label} mail from {}", mail.sender()),
    };
    event.message =
        format!("The text of this mail may not leave: it is TLP:{label}, and the limit is TLP:{limit}.");
    if let Some(link) = draft.text(Key::Link) {
        event.message.push_str(&format!("\n{link}"));
    }
    event.location = None;
    event.fields.retain(|(name, _)| ["Reference", "Link", "TLP"].contains(&name.as_str()));
}

/// Redacts and makes visible everything that leaves. The files are cleaned by [`RuleSet::clean_files`].
fn clean(rules: &RuleSet, event: &mut Event) {
    let redaction = &rules.site.redaction;
    let clean = |text: &mut String, limit: usize| {
        // Before, so that a long text costs little; twice the limit, so that no cut parts what is redacted.
        if let Cow::Owned(cut) = bounded(text, 2 * limit) {
            *text = cut;
        }
        if let Cow::Owned(redacted) = redaction.apply(text) {
            *text = redacted;
        }
        if let Cow::Owned(visible) = mail::visible(text) {
            *text = visible;
        }
        if let Some(shorter) = shortened(text) {
            *text = shorter;
        }
        if let Cow::Owned(cut) = bounded(text, limit) {
            *text = cut;
        }
    };
    clean(&mut event.title, TITLE_LIMIT);
    clean(&mut event.message, MESSAGE_LIMIT);
    for (name, value) in &mut event.fields {
        clean(name, FIELD_LIMIT);
        clean(value, FIELD_LIMIT);
    }
    for text in [&mut event.service, &mut event.color, &mut event.source_system, &mut event.location] {
        text.iter_mut().for_each(|text| clean(text, FIELD_LIMIT));
    }
    for file in &mut event.attachments {
        clean(&mut file.name, attach::NAME_LIMIT);
        attach::finish_name(file);
    }
    if let Some(id) = &mut event.external_id {
        let before = id.clone();
        clean(id, EXTERNAL_ID_LIMIT);
        // Two keys must not become one by losing what told them apart.
        if *id != before {
            *id = bounded_id(&format!("{}#{:016x}", id, fnv(&[&before])), EXTERNAL_ID_LIMIT);
        }
    }
}

/// Whether `text` has a run that is too long. From one blank it looks for the last within reach, so most bytes are
/// not looked at.
fn has_long_run(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while rest.len() > RUN_LIMIT {
        match rest[..=RUN_LIMIT].iter().rposition(u8::is_ascii_whitespace) {
            Some(blank) => rest = &rest[blank + 1..],
            // Blanks beyond ASCII are rare: a text that has only these is searched whole.
            None => return text.split_whitespace().any(|run| run.len() > RUN_LIMIT),
        }
    }
    false
}

/// `text` with over-long runs cut; none if it has none.
fn shortened(text: &str) -> Option<String> {
    if !has_long_run(text) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut run = 0;
    for c in text.chars() {
        run = if c.is_whitespace() { 0 } else { run + 1 };
        match run {
            _ if run <= RUN_LIMIT => out.push(c),
            _ if run == RUN_LIMIT + 1 => out.push('…'),
            _ => (),
        }
    }
    Some(out)
}

/// Which rule had the last word on each field.
fn origins(rules: &RuleSet, draft: &Draft) -> Vec<Origin> {
    let name = |by: By| {
        let file = &rules.files[by.file];
        format!("{}: {}", file.name, file.rules[by.rule].name)
    };
    let keys = Key::ALL.iter().filter_map(|(field, key)| Some(((*field).to_owned(), draft.given(*key)?.by)));
    let tiles = draft.tiles.iter().map(|(tile, given)| (format!("tile.{tile}"), given.by));
    let team = draft.teams.iter().map(|(_, by)| ("team".to_owned(), *by));
    keys.chain(tiles).chain(team).map(|(field, by)| Origin { field, by: name(by) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_cut() {
        assert_eq!(shortened("plain\n\ttext – ok"), None);
        let long = "x".repeat(RUN_LIMIT + 9) + " y";
        assert!(shortened(&long).unwrap().ends_with("x… y"));
    }
}
