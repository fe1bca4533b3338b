//! Which incidents an event is about: whose row an open joins, what SIGNL4 is told, and what a close closes.

use jiff::{SignedDuration, Timestamp};

use super::row::Row;
use crate::event::{Identity, KeySource, Mark};
use crate::mail::Trust;

/// How much earlier than the mail that opened an incident its close may have been written: the clocks of two machines
/// of one sender differ.
const SENDERS_CLOCKS: SignedDuration = SignedDuration::from_mins(10);

/// What the remark on a close goes on with that came from another installation of the same sender.
const ADVICE: &str = "; `[rules.instances]` with ";

/// `remark` as advice to the operator, if it is on two installations that he should make one.
pub fn advice(remark: &str) -> Option<String> {
    remark.contains(ADVICE).then(|| remark.replacen("closes", "a mail closed", 1))
}

/// How an event and a row go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    /// The same source.
    Same,
    /// A site's own rule, or the operator, gave one of them the key: it joins sources.
    Joined,
    /// Another form of the same product from the same domain.
    OtherForm,
}

fn is_free(source: KeySource) -> bool {
    matches!(source, KeySource::Site | KeySource::Operator)
}

/// How an event and a row of its key go together, whatever their classes; none if they are of different sources.
fn matches(identity: &Identity, row: &Row) -> Option<Match> {
    let source = &row.source;
    match (identity.key_source, source.key_source) {
        (event, row) if is_free(event) && is_free(row) => Some(Match::Same),
        (event, row) if is_free(event) || is_free(row) => Some(Match::Joined),
        (KeySource::Parameters, KeySource::Parameters) | (KeySource::Guess, KeySource::Guess) => {
            Some(Match::Same)
        }
        (KeySource::Shipped, KeySource::Shipped) if identity.family == source.family => {
            let forms = identity.form != source.form && !identity.domain.is_empty();
            if identity.instance == source.instance {
                Some(Match::Same)
            } else {
                (forms && identity.domain == source.domain).then_some(Match::OtherForm)
            }
        }
        _ => None,
    }
}

/// The best of some rows: the same source before one that is joined, an open one before a closed one, the latest.
/// Another form counts only if it is the only one.
fn best<'a>(identity: &Identity, rows: impl Iterator<Item = &'a Row>) -> Option<&'a Row> {
    let mut found: Vec<(Match, &Row)> = rows.filter_map(|row| Some((matches(identity, row)?, row))).collect();
    let forms = |open: bool| {
        found.iter().filter(|(of, row)| *of == Match::OtherForm && (!open || row.is_open())).count()
    };
    let open = forms(true);
    if open > 1 || open == 0 && forms(false) > 1 {
        found.retain(|(of, _)| *of != Match::OtherForm);
    }
    found
        .into_iter()
        .min_by_key(|(of, row)| (*of, !row.is_open(), u64::MAX - row.last_seq))
        .map(|(_, row)| row)
}

/// The row that an open of this key belongs to. Strangers have rows of their own.
pub(super) fn own<'a>(identity: &Identity, key: &str, rows: &'a [Row]) -> Option<&'a Row> {
    let stranger = identity.trust.is_stranger();
    best(identity, rows.iter().filter(|row| row.key == key && row.source.stranger == stranger))
}

/// What SIGNL4 is told of an open that begins a life of `own`, or of a new row: the key, but where another source holds
/// that. A stranger never changes the id of another source.
pub(super) fn posted_id(identity: &Identity, key: &str, own: Option<&Row>, rows: &[Row]) -> String {
    if identity.key_source != KeySource::Shipped {
        return key.to_owned();
    }
    let stranger = identity.trust.is_stranger();
    let is_held = |id: &str| {
        rows.iter().any(|row| {
            let same_source = matches(identity, row) == Some(Match::Same);
            row.is_alert(id)
                && own.is_none_or(|own| own.id != row.id)
                && (stranger || !row.source.stranger)
                && !(stranger && same_source)
        })
    };
    let instance = if identity.instance.is_empty() { "unnamed" } else { identity.instance.as_str() };
    let family = identity.family.as_deref().unwrap_or("unknown");
    let suffixed = format!("{key}@{instance}");
    if !is_held(key) {
        key.to_owned()
    } else if !is_held(&suffixed) {
        suffixed
    } else {
        format!("{suffixed}@{family}")
    }
}

/// The open incidents whose alerts SIGNL4 knows by one of these ids: what is posted under it is about all of them.
pub(super) fn alerts<'a>(rows: &'a [Row], ids: &[String]) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(|row| ids.iter().any(|id| row.is_alert(id)))
}

/// Whether a post about `row`, which is a stranger's or whose life is over, would close the alert of a known sender's
/// incident that is not among those `closed` here.
pub(super) fn is_anothers(row: &Row, closed: &[&Row], rows: &[Row]) -> bool {
    let stays = |other: &Row| !closed.iter().any(|closed| closed.id == other.id);
    (row.source.stranger || !row.is_open())
        && alerts(rows, std::slice::from_ref(&row.incident.external_id))
            .any(|other| !other.source.stranger && stays(other))
}

/// What a close or an acknowledgement is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim<'a> {
    /// These rows, and a remark on how they were found.
    Rows(Vec<&'a Row>, Option<String>),
    /// Nothing that is known: it is sent as it is.
    Unknown,
    /// Nothing that it may touch, for this reason.
    Refused(String),
    /// It is the end mark of a subject whose problem is not known: it pages as low.
    Page,
}

/// What a close or an acknowledgement of this key is about. Of `rows` are all that share its key or its base, or are
/// posted under its key. `since` is when retention begins.
pub(super) fn claim<'a>(identity: &Identity, key: &str, rows: &'a [Row], since: Timestamp) -> Claim<'a> {
    let (found, note) = match identity.key_source {
        KeySource::Operator => {
            (rows.iter().filter(|row| row.key == key || row.incident.external_id == key).collect(), None)
        }
        KeySource::Site => (rows.iter().filter(|row| row.key == key).collect(), None),
        KeySource::Parameters => {
            let own = |row: &&Row| row.key == key && row.source.key_source == KeySource::Parameters;
            (rows.iter().filter(own).collect(), None)
        }
        KeySource::Guess => (texts(identity, key, rows, since), None),
        KeySource::Shipped => shipped(identity, key, rows),
    };
    let found: Vec<&Row> = latest_lives(found);
    if found.is_empty() {
        if identity.guess.as_ref().is_some_and(|guess| guess.mark == Some(Mark::End)) {
            return Claim::Page;
        }
        // A stranger's row keeps no word of a known sender from being sent.
        let holders = rows.iter().filter(|row| row.key == key && !row.source.stranger);
        return match holders.max_by_key(|row| (row.is_open(), row.last_seq)) {
            Some(holder) if identity.key_source != KeySource::Guess => Claim::Refused(format!(
                "closes nothing that this source opened; {} holds this key",
                named(holder)
            )),
            _ => Claim::Unknown,
        };
    }
    let written = identity.sent_at.filter(|_| identity.trust == Trust::Proven);
    let is_replay = |row: &&Row| match (written, row.sent_at) {
        (Some(written), Some(opened)) => opened.duration_since(written) > SENDERS_CLOCKS,
        _ => false,
    };
    if found.iter().all(is_replay) {
        return Claim::Refused(
            "a replay: it was written before the mail that opened what it closes, by the sender's clock"
                .to_owned(),
        );
    }
    Claim::Rows(found.into_iter().filter(|row| !is_replay(row)).collect(), note)
}

/// Of several rows those that are open, or else the last that was.
fn latest_lives(mut found: Vec<&Row>) -> Vec<&Row> {
    if found.iter().any(|row| row.is_open()) {
        found.retain(|row| row.is_open());
    } else if let Some(last) = found.iter().copied().max_by_key(|row| (!row.source.stranger, row.last_seq)) {
        found = vec![last];
    }
    // The one that known senders opened is the one that speaks for all.
    found.sort_by_key(|row| (row.source.stranger, row.id));
    found
}

/// The rows of the guessed key that an end closes: by a mark what a problem's mark opened, by a rule all of them.
fn texts<'a>(identity: &Identity, key: &str, rows: &'a [Row], since: Timestamp) -> Vec<&'a Row> {
    let Some(guess) = &identity.guess else { return rows.iter().filter(|row| row.key == key).collect() };
    let ends = |row: &&Row| {
        row.source.key_source == KeySource::Guess
            && row.source.base.as_ref() == Some(&guess.base)
            && row.is_open()
            && (guess.mark != Some(Mark::End)
                || row.source.mark == Some(Mark::Problem) && row.incident.last_at >= since)
    };
    rows.iter().filter(ends).collect()
}

/// The rows that a close of a shipped rule's key is about: those of its source, or the only one of the same product and
/// domain, as two machines of one installation send from two mailboxes, or as somebody passed its mail on.
fn shipped<'a>(identity: &Identity, key: &str, rows: &'a [Row]) -> (Vec<&'a Row>, Option<String>) {
    let of_key = || rows.iter().filter(|row| row.key == key);
    let same = |row: &&Row| matches(identity, row) == Some(Match::Same);
    let mut found: Vec<&Row> = Vec::new();
    found.extend(best(identity, of_key().filter(|row| !row.source.stranger)));
    // A site's rule and the product itself may both have opened it.
    let free = of_key().filter(|row| !row.source.stranger && is_free(row.source.key_source));
    for row in free.chain(of_key().filter(|row| row.source.stranger).filter(same)) {
        if !found.iter().any(|known| known.id == row.id) {
            found.push(row);
        }
    }
    if !found.is_empty() || identity.domain.is_empty() {
        return (found, None);
    }
    let mut pair = of_key().filter(|row| {
        !row.source.stranger
            && row.is_open()
            && row.source.key_source == KeySource::Shipped
            && row.source.family == identity.family
            && row.source.domain == identity.domain
    });
    match (pair.next(), pair.next()) {
        (Some(only), None) if is_passed_on(only) => {
            let note =
                format!("closes what {} passed on, the only one of this product and domain", named(only));
            (vec![only], Some(note))
        }
        (Some(only), None) => {
            let note = format!(
                "closes what {} opened, the only one of this product and domain{ADVICE}\"{}\" = \"NAME\" and \"{}\" = \
                 \"NAME\" makes both one installation",
                named(only),
                identity.instance,
                only.source.instance
            );
            (vec![only], Some(note))
        }
        _ => (found, None),
    }
}

/// Whether the mailbox that a row is of is in another domain than the mail that opened it: somebody passed that on.
fn is_passed_on(row: &Row) -> bool {
    row.source.instance.rsplit_once('@').is_some_and(|(_, domain)| domain != row.source.domain)
}

/// The source of a row, in words.
pub(super) fn named(row: &Row) -> String {
    let source = &row.source;
    let from = match (source.key_source, source.instance.as_str()) {
        (KeySource::Operator, _) => "the operator".to_owned(),
        (_, "") => "a mail without From".to_owned(),
        (_, instance) => instance.to_owned(),
    };
    if source.stranger { format!("a stranger as {from}") } else { from }
}
