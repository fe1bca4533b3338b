//! Judging: a mail is split into its pieces, and each becomes events or is dropped.

use std::cell::OnceCell;

use serde::Serialize;

use super::mail_fields::{MailFields, Subject};
use super::part::{Part, written_tlp};
use super::rule_set::RuleSet;
use super::trace::{Dropped, Trace};
use super::{attach, judge, outcome};
use crate::event::Event;
use crate::mail::Trust;

/// What the rules make of a mail.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The events; none only if the mail was dropped.
    pub events: Vec<Event>,
    /// The rule that dropped it, and why.
    pub dropped: Option<Dropped>,
    /// What the rules did.
    pub trace: Trace,
}

impl RuleSet {
    /// What the rules make of a mail. The trace tells which rules held, and no more.
    pub fn judge(&self, subject: &Subject<'_>) -> Judgement {
        self.run(subject, false)
    }

    /// The same judgement, with every test, every match and every change in the trace.
    pub fn judge_traced(&self, subject: &Subject<'_>) -> Judgement {
        self.run(subject, true)
    }

    /// Judges the mail, and if a signature proves it, once more without what that leaves out. If it then would be about
    /// something else, or not close, it is not proven: a change of that field may have made it say so.
    fn run(&self, subject: &Subject<'_>, full: bool) -> Judgement {
        let judgement = self.run_once(subject, full);
        let envelope = subject.envelope;
        let Some(found) = envelope.authenticity.as_deref().filter(|found| !found.unsigned.is_empty()) else {
            return judgement;
        };
        if self.standing(subject.message, envelope).trust != Trust::Proven || found.proven.is_none() {
            return judgement;
        }
        let signed = subject.message.without(&found.unsigned);
        let other = self.run_once(&Subject { message: &signed, envelope, team: subject.team }, false);
        let about = |judgement: &Judgement| -> Vec<_> {
            let events = judgement.events.iter();
            events.map(|event| (event.status, event.external_id.clone())).collect()
        };
        if about(&judgement) == about(&other) {
            return judgement;
        }
        let mut envelope = envelope.clone();
        envelope.authenticity.iter_mut().for_each(|found| found.proven = None);
        self.run_once(&Subject { message: subject.message, envelope: &envelope, team: subject.team }, full)
    }

    fn run_once(&self, subject: &Subject<'_>, full: bool) -> Judgement {
        let standing = OnceCell::new();
        let whole = self.fields(subject, judge::text_of(subject.message), &standing);
        let (texts, split) = judge::pieces(self, &whole);
        let written = written_tlp(self, subject);
        let mut judgement = Judgement { events: Vec::new(), dropped: None, trace: Trace::default() };
        let mut part = Part { at: 0, of: texts.len(), start: 0, split, written };
        if texts.len() == 1 {
            // What was found in the whole need not be found again in its only piece.
            self.judge_part(subject, &whole, part, full, &mut judgement);
        } else {
            for (at, text) in texts.into_iter().enumerate() {
                part.at = at;
                let mail = self.fields(subject, text, &standing);
                self.judge_part(subject, &mail, part, full, &mut judgement);
                part.start += text.len();
            }
        }
        if !judgement.events.is_empty() {
            judgement.dropped = None;
        }
        judgement
    }

    fn judge_part<'g>(
        &'g self,
        subject: &Subject<'_>,
        mail: &'g MailFields<'g>,
        part: Part,
        full: bool,
        judgement: &mut Judgement,
    ) {
        let (draft, mut piece) = judge::Run::new(self, mail, full).judge(part.split);
        match &draft.dropped {
            Some(dropped) => judgement.dropped = Some(dropped.clone()),
            None => {
                judgement.events.extend(outcome::events(self, subject, mail, &draft, part, full, &mut piece));
            }
        }
        judgement.trace.pieces.push(piece);
    }

    /// Finds what must not leave of the texts that go along with `events`, which were made of the mail in
    /// `content`. Without this they do not go.
    pub fn clean_files(&self, events: &mut [Event], content: &[u8]) {
        attach::clean(&self.site.redaction, events, content);
    }
}
