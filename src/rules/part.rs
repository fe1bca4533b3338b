//! One piece of a mail that was split, and what it must know of the whole.

use super::mail_fields::Subject;
use super::rule_set::RuleSet;
use super::tlp::Tlp;

/// What a piece must know of the whole mail: which of how many pieces it is, and the label of them all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) at: usize,
    pub(super) of: usize,
    /// Where it begins in the text of the mail.
    pub(super) start: usize,
    /// The file that split the mail.
    pub(super) split: Option<usize>,
    /// The strictest label that is written anywhere in the mail, if the site has a limit.
    pub(super) written: Option<Tlp>,
}

/// The strictest label that is written in the mail. For each piece anew it would make a mail of many
/// pieces take its length squared.
pub(super) fn written_tlp(rules: &RuleSet, subject: &Subject<'_>) -> Option<Tlp> {
    rules.site.tlp_limit?;
    let message = subject.message;
    let around = message.wrapper.iter().flat_map(|wrapper| [wrapper.subject.as_str(), wrapper.note.as_str()]);
    let texts = [message.subject.as_str(), &message.text, &message.enclosed].into_iter().chain(around);
    texts.map(Tlp::strictest_in).max().flatten()
}
