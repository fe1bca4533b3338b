//! BDAT in a session (RFC 3030): the content of a mail in chunks.
//!
//! Whatever is wrong with a chunk, its octets are read and are never taken for commands. Where it cannot be
//! known how many they are, or where they are too many to be read for nothing, the session ends.

use tracing::info;

use crate::smtp::chunk::{Announced, Chunk};
use crate::smtp::content::{Content, Lost};
use crate::smtp::reply;

use super::{Phase, Session, Step};

/// A chunk that is refused is read if it is not larger than so many mails: a client that sends its mail in
/// one chunk and has not declared its size gets its reply. A larger one ends the session.
const MOST_FOR_NOTHING: u64 = 4;

impl Session {
    pub(super) fn bdat(&mut self, announced: Announced) {
        let limit = self.config.max_message_size;
        if announced.size > (limit as u64).saturating_mul(MOST_FOR_NOTHING) {
            self.close(&reply::TOO_LARGE);
            return;
        }
        let refusal = match &self.transaction {
            None => Some(&reply::NEED_MAIL),
            Some(mail) if mail.chunks.is_some() => None,
            Some(mail) if mail.accepted > 0 => self.over_rate(),
            Some(mail) if mail.given_up => Some(&reply::NO_ROOM),
            Some(mail) => Some(self.no_recipients(mail)),
        };
        if let (Some(mail), None) = (&mut self.transaction, refusal) {
            let given_up = mail.given_up;
            let content = mail.chunks.get_or_insert_with(|| Content::new(limit));
            if given_up {
                content.lose(Lost::NoMemory);
            }
            if announced.size > content.room() as u64 {
                content.lose(Lost::TooLarge);
            }
        }
        self.phase = Phase::Chunk(Chunk::new(announced, refusal));
    }

    /// Takes what `input` has of the chunk, and says whether that is all of it.
    pub(super) fn read_chunk(&mut self, input: &mut &[u8]) -> bool {
        let Phase::Chunk(chunk) = &mut self.phase else { return false };
        let octets = chunk.read(input);
        if chunk.refusal().is_none()
            && let Some(content) = self.transaction.as_mut().and_then(|mail| mail.chunks.as_mut())
        {
            content.keep(octets);
        }
        chunk.is_whole()
    }

    pub(super) fn end_of_chunk(&mut self) -> Option<Step> {
        let Phase::Chunk(chunk) = std::mem::replace(&mut self.phase, Phase::Command) else { return None };
        if let Some(reply) = chunk.refusal() {
            if !self.is_told_of_rate() {
                info!(client = %self.peer(), helo = ?self.client.helo, %reply, "BDAT refused");
            }
            self.refuse(reply);
            return None;
        }
        if chunk.is_last() {
            let content = self.transaction.as_mut()?.chunks.take()?;
            return self.complete(content.finish());
        }
        let lost = self.transaction.as_ref()?.chunks.as_ref()?.lost();
        self.answer(lost.map_or(&reply::CHUNK_OK, super::content::why));
        None
    }
}
