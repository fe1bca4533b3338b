//! What was seen before: mails that are handed in again, and signatures that are shown again.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, params};

use super::changes::{Work, key};
use super::rows::{mail_id, time, trust};
use crate::event::Status;
use crate::mail::{MailId, Trust};
use crate::spool::engine::{Fresh, Judged};

/// What the name of a mail, and of a signature, begins with.
const MAIL: &str = "mail:";
const SIGNATURE: &str = "signature:";

/// What was seen before of one event.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The mail as which it was handed in.
    pub mail: Option<String>,
    /// Whether the signature that proves it was shown by another mail.
    pub signature: bool,
}

impl Work<'_> {
    /// What was seen before of the events of a mail, each, and notes them as seen.
    pub fn seen(
        &self,
        mail: MailId,
        fingerprint: Option<&str>,
        judged: &Judged,
    ) -> rusqlite::Result<Vec<Seen>> {
        let mut found = Vec::with_capacity(judged.events.len());
        for event in &judged.events {
            let (mut seen, now) = (Seen::default(), event.queued.accepted_at);
            if let Some(fingerprint) =
                fingerprint.filter(|_| self.incidents.redelivery > SignedDuration::ZERO)
            {
                let since = now.checked_sub(self.incidents.redelivery).unwrap_or(Timestamp::MIN);
                seen.mail = self.take_note(mail, event, &format!("{MAIL}{fingerprint}"), (since, now))?;
            }
            let signature = event.identity.signature.as_ref().filter(|_| event.status != Status::New);
            if let Some(signature) = signature {
                let name = format!("{SIGNATURE}{signature}");
                seen.signature = self.take_note(mail, event, &name, (Timestamp::MIN, now))?.is_some();
            }
            found.push(seen);
        }
        Ok(found)
    }

    /// The other mail of a class at least as high that had this name since then; if there is none, `mail` has it now.
    fn take_note(
        &self,
        mail: MailId,
        event: &Fresh,
        name: &str,
        (since, now): (Timestamp, Timestamp),
    ) -> rusqlite::Result<Option<String>> {
        let class = event.identity.trust;
        let known: Option<(Trust, Timestamp, MailId)> = self
            .db
            .prepare_cached("SELECT trust, at, mail FROM seen WHERE team = ?1 AND fingerprint = ?2")?
            .query_row(params![event.queued.team, name], |row| {
                Ok((trust(row, 0)?.unwrap_or(Trust::Stranger), time(row, 1)?, mail_id(row, 2)?))
            })
            .optional()?;
        match known {
            Some((_, _, by)) if by == mail => Ok(None),
            Some((by_class, at, by)) if by_class >= class && at >= since => Ok(Some(by.to_string())),
            _ => {
                self.db
                    .prepare_cached(
                        "INSERT OR REPLACE INTO seen (team, fingerprint, trust, at, mail) VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![
                        event.queued.team,
                        name,
                        class.word(),
                        now.as_millisecond(),
                        key(mail.number())
                    ])?;
                Ok(None)
            }
        }
    }

    /// Forgets what was seen too long ago to matter: mails after the time in which they may be handed in again, and
    /// signatures from before `signatures`.
    pub fn forget_seen(&self, signatures: Timestamp, now: Timestamp) -> rusqlite::Result<()> {
        let mails = now.checked_sub(self.incidents.redelivery).unwrap_or(Timestamp::MIN);
        self.db
            .prepare_cached("DELETE FROM seen WHERE at < ?1 AND fingerprint LIKE 'mail:%' OR at < ?2")?
            .execute([mails.max(signatures).as_millisecond(), signatures.as_millisecond()])?;
        Ok(())
    }
}
