//! Rules that are ready to judge: the files in order, and the site that they are for.

use std::cell::OnceCell;
use std::fmt;

use super::draft::By;
use super::load::{self, FieldFilter, RuleFile};
use super::mail_fields::{MailFields, Subject};
use super::site::Site;
use crate::authenticity::Standing;
use crate::diagnostic::{Diagnostic, Source};
use crate::event::Event;
use crate::mail::{Envelope, Message};

/// Rules that are ready to judge.
pub struct RuleSet {
    pub(super) files: Vec<RuleFile>,
    pub(super) filters: Vec<FieldFilter>,
    pub(super) site: Site,
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.files.iter().map(|file| (&file.name, file.rules.len()));
        f.debug_map().entries(sources).finish()
    }
}

impl RuleSet {
    /// Loads `sources` in order: the shipped ones first ([`shipped()`](super::shipped())), then the site's. A source that is
    /// byte for byte a shipped one may ask for colours and values that the site does not have.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the sources and of the places in them.
    pub fn load(sources: &[Source], site: Site) -> Result<Self, Vec<Diagnostic>> {
        let (files, filters) = load::load(sources, &site)?;
        Ok(Self { files, filters, site })
    }

    /// Every rule in the order in which they run: its source and its name.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.files.iter().flat_map(|file| file.rules.iter().map(move |rule| (file, rule)));
        all.map(|(file, rule)| (&*file.name, &*rule.name))
    }

    /// How an event pages that no rule made: as the site says for its severity.
    pub fn page(&self, event: &mut Event) {
        let Some(paging) = event.severity.and_then(|severity| self.site.paging_of(severity)) else { return };
        event.color = paging.color.clone();
        let of_color = || paging.color.as_deref().and_then(|color| self.site.service_of(color));
        event.service = paging.service.as_deref().or_else(of_color).map(str::to_owned);
        event.scenario = paging.scenario;
    }

    /// The mail as its sender wrote it: what is known to be done to mails on their way, and what the site says, is undone.
    pub fn read(&self, content: &[u8]) -> Message {
        Message::parse_for(content, &self.site.mail)
    }

    /// The trust in the sender of a mail, and the evidence for it.
    pub fn standing(&self, message: &Message, envelope: &Envelope) -> Standing {
        self.site.trusted.standing(message, envelope)
    }

    /// The mail, or the piece of it with this text, as fields.
    pub(super) fn fields<'m>(
        &'m self,
        subject: &Subject<'m>,
        text: &'m str,
        standing: &'m OnceCell<Standing>,
    ) -> MailFields<'m> {
        MailFields::new(subject, text, &self.site, standing, self.filters.len())
    }

    /// Whether the rule is one of the site's own, be it in the place of a shipped one.
    pub(super) fn is_of_the_site(&self, by: By) -> bool {
        let rule = &self.files[by.file].rules[by.rule];
        !self.files[rule.home].shipped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<RuleSet>();
    }
}
