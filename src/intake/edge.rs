//! The intake as the listener sees it: which recipients there are, and what a sender is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{error, info};

use crate::authenticity::Checker;
use crate::context::InForce;
use crate::mail::{Mail, MailId, Message, trace};
use crate::smtp::strangers::Strangers;
use crate::smtp::{Accept, Limits, Refusal};
use crate::spool::PutError;

use super::Intake;

/// The intake as the edge sees it.
pub struct Edge {
    /// Takes the mails.
    pub intake: Arc<Intake>,
    /// Gathers the evidence about the senders of mails.
    pub checker: InForce<Checker>,
    strangers: Strangers,
    /// Whether the last mail found no space.
    full: AtomicBool,
}

impl Edge {
    /// An edge whose mails `intake` takes, after `checker` has gathered the evidence about their senders.
    pub fn new(intake: Arc<Intake>, checker: Checker) -> Self {
        let strangers = Strangers::new(Limits { strangers: None, ..Limits::default() });
        Self { intake, checker: InForce::new(Arc::new(checker)), strangers, full: AtomicBool::new(false) }
    }

    /// The same, with a bound on what strangers page.
    #[must_use]
    pub fn bounding(self, strangers: Strangers) -> Self {
        Self { strangers, ..self }
    }

    /// Counts the mail if it is a stranger's, and returns whether it is one too many from its address outside.
    fn is_too_many(&self, checker: &Checker, mail: &Mail) -> bool {
        let Some(outside) = checker.outside(&mail.envelope, &mail.content) else { return false };
        let message = Message::parse(trace::header(&mail.content));
        let stranger = self.intake.context.rules.get().standing(&message, &mail.envelope).trust.is_stranger();
        stranger && !self.strangers.mail(outside, self.intake.context.now())
    }
}

impl Accept for Edge {
    fn recipient(&self, address: &str) -> bool {
        // RFC 5321 section 4.5.1: postmaster is always there; his mail goes to the first team.
        let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
        local.eq_ignore_ascii_case("postmaster") || self.intake.context.teams.teams(address).next().is_some()
    }

    async fn accept(&self, mut mail: Mail) -> Result<MailId, Refusal> {
        let checker = self.checker.get();
        mail.envelope.authenticity = checker.examine(&mail.envelope, &mail.content).await.map(Box::new);
        if checker.refuses(&mail.envelope) {
            let client = mail.envelope.client.address;
            let from = mail.envelope.reverse_path.escape_debug().to_string();
            info!(
                client = client.map(tracing::field::display),
                from, "refused: it fails DMARC, and its domain wants such mails refused"
            );
            return Err(Refusal::Unauthentic);
        }
        mail.envelope.excess = self.is_too_many(&checker, &mail);
        // A relay of the site's own is not refused: it would keep mail that others wait for, or return it to the sender
        // that the mail names. The excess that it brings goes into a digest.
        if mail.envelope.excess && !mail.envelope.client_is_within(checker.trusted()) {
            let client = mail.envelope.client.address;
            let from = mail.envelope.reverse_path.escape_debug().to_string();
            info!(client = client.map(tracing::field::display), from, "mail refused: too many of a stranger");
            return Err(Refusal::TooMany);
        }
        match self.intake.take(mail).await {
            Ok(kept) => {
                if self.full.swap(false, Ordering::Relaxed) {
                    info!("there is space for mail again");
                }
                Ok(kept.id)
            }
            Err(PutError::Full) => {
                if !self.full.swap(true, Ordering::Relaxed) {
                    error!(
                        "there is no space for mail: senders are told to come again (452); make room on the spool's disk"
                    );
                }
                Err(Refusal::Full)
            }
            Err(problem) => {
                error!(%problem, "a mail could not be kept and was refused for now");
                Err(Refusal::Unavailable)
            }
        }
    }
}
