//! The room that mail may take: the bounds of the disk and of the spool, and the share of strangers.
//!
//! Mail whose events are all of strangers fills only its share, and never the last tenth, which is for known
//! senders.

use crate::spool::change::{Content, PutRequest};
use crate::spool::config::Config;
use crate::spool::engine::{OldMail, Space};
use crate::time::signed;
use jiff::{SignedDuration, Timestamp};

/// The most that is kept for known senders.
const RESERVE: u64 = 512 << 20;

/// What a mail is to the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    /// Bytes of the disk that it is still to take: first in the log, then in the database.
    pub disk: u64,
    /// Bytes by which the spool grows.
    pub growth: u64,
    /// Bytes of its content that are laid aside.
    pub aside: u64,
    /// Whether all its events are of strangers.
    pub stranger: bool,
}

impl Need {
    /// That of a mail which writes `size` bytes.
    pub fn of(put: &PutRequest, size: u64) -> Self {
        let aside = match put.content {
            Content::Aside { size, .. } => size as u64,
            Content::None | Content::Here(_) => 0,
        };
        Self { disk: size.saturating_mul(2), growth: size + aside, aside, stranger: put.stranger }
    }
}

/// How far the search for mails to delete has come, by the last one that was looked at.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Search {
    pub after: u64,
    pub not_before: Option<Timestamp>,
}

/// The bounds, and how full it is.
#[derive(Debug, Clone)]
pub(super) struct Room {
    max_size: Option<u64>,
    min_free: u64,
    /// In percent.
    share: u64,
    pub keep_at_least: SignedDuration,
    /// How many bytes new mail may still take of the disk, and the spool still grow by.
    disk: u64,
    quota: u64,
    /// What the spool may fill as a whole, as far as that can be said.
    limit: u64,
    /// What the mails of strangers fill.
    strangers: u64,
    /// What the contents fill that were laid aside.
    aside: u64,
    pub searches: [Search; 2],
    /// When it was last said that mails are deleted early.
    pub told: Option<Timestamp>,
}

/// What mails to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Strangers,
    Others,
}

impl Room {
    /// The room that `config` gives.
    pub fn new(config: &Config) -> Self {
        Self {
            max_size: config.max_size,
            min_free: config.min_free,
            share: u64::from(config.stranger_share),
            keep_at_least: signed(config.keep_at_least),
            disk: 0,
            quota: 0,
            limit: 0,
            strangers: 0,
            aside: 0,
            searches: [Search::default(); 2],
            told: None,
        }
    }

    /// Notes what the mails of strangers fill, and the contents that were laid aside.
    pub fn recount(&mut self, (strangers, aside): (u64, u64)) {
        (self.strangers, self.aside) = (strangers, aside);
    }

    /// Looks how full it is now.
    pub fn measure(&mut self, space: Space) {
        let used = space.used + self.aside;
        // The log of what is written still takes some of what is kept free.
        let room = if space.available < self.min_free / 2 {
            0
        } else {
            space.available.saturating_add(space.reusable).saturating_sub(self.min_free)
        };
        self.disk = room.saturating_sub(space.pending);
        self.quota = self.max_size.map_or(u64::MAX, |max| max.saturating_sub(used));
        self.limit = self.max_size.unwrap_or(u64::MAX).min(used.saturating_add(self.disk));
    }

    /// Whether there is room for `need`.
    pub fn fits(&self, need: Need) -> bool {
        let reserve = if need.stranger { self.reserve() } else { 0 };
        let share = u64::try_from(u128::from(self.limit) * u128::from(self.share) / 100).unwrap_or(u64::MAX);
        need.disk.saturating_add(reserve) <= self.disk
            && need.growth.saturating_add(reserve) <= self.quota
            && (!need.stranger || self.strangers.saturating_add(need.growth) <= share)
    }

    /// What is kept for known senders.
    fn reserve(&self) -> u64 {
        (self.limit / 10).min(RESERVE)
    }

    /// Whether no more room is left than what is kept for known senders.
    pub fn is_tight(&self) -> bool {
        let reserve = self.reserve();
        self.disk < reserve || self.quota < reserve
    }

    /// A mail takes what it needs.
    pub fn take(&mut self, need: Need) {
        self.disk = self.disk.saturating_sub(need.disk);
        self.quota = self.quota.saturating_sub(need.growth);
        self.aside += need.aside;
        if need.stranger {
            self.strangers += need.growth;
        }
    }

    /// A mail was deleted.
    pub fn leave(&mut self, mail: &OldMail) {
        self.strangers = self.strangers.saturating_sub(mail.stranger.unwrap_or(0));
        self.aside = self.aside.saturating_sub(mail.aside);
    }
}
