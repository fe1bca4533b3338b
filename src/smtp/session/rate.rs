//! The rates in a session: each mail is counted when its content is about to come, and not before, so that what
//! is given up or refused for another reason costs nothing.

use std::sync::Arc;

use tracing::info;

use crate::smtp::rates::{Exceeded, Rates};
use crate::smtp::reply::Reply;

use super::Session;

impl Session {
    /// The session, whose mails are held to `rates`.
    pub fn counted_by(mut self, rates: Arc<Rates>) -> Self {
        self.rates = Some(rates);
        self
    }

    /// Counts the mail that is about to come in. If it is one too many, what the client is told, then and for
    /// whatever it still sends of this mail.
    pub(super) fn over_rate(&mut self) -> Option<&'static Reply> {
        let (Some(rates), Some(mail)) = (&self.rates, &mut self.transaction) else { return None };
        if mail.over_rate.is_none() {
            // A client that the relay cannot name counts as the relay.
            let client = self.client.address.or(self.client.relay);
            let (sender, recipients) = (&mail.reverse_path, &mail.recipients);
            let exceeded = rates.mail(client, sender, recipients, self.clock.now()).err()?;
            let recipient = if let Exceeded::Recipient(at) = exceeded { &recipients[at] } else { "" };
            let reply = exceeded.reply();
            let client = client.map_or_else(|| "local".to_owned(), |address| address.to_string());
            info!(client, helo = ?self.client.helo, ?sender, ?recipient, %reply, "mail refused: too many");
            mail.over_rate = Some(reply);
        }
        mail.over_rate
    }

    /// Whether the log has the line that says why this mail is refused.
    pub(super) fn is_told_of_rate(&self) -> bool {
        self.transaction.as_ref().is_some_and(|mail| mail.over_rate.is_some())
    }
}
