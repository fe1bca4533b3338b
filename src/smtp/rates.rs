//! How often: connections of a client, and mails of a client, of a sender and for a recipient.
//!
//! A limit such as `600/m` is a token bucket: so many at once, and then as many as come back over the minute.
//! What is over a limit is told to come again; no mail is lost by it, for a queue keeps it.
//!
//! Clients in [`Limits::exempt`] and clients of a Unix socket are not counted and have no limit. A storm of alerts from a relay of one's own is no attack; what becomes of a storm
//! is for the rules to say.
//!
//! Each limit costs a fixed amount of memory at most ([`MAX_COUNTED`]), and a clock that goes backwards locks no
//! client out. The counts are lost when the service ends.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::address::mailbox;
use crate::document::{Table, Value};
use crate::network::{Network, holder};

use super::reply::{self, Reply};

/// How many clients, senders or recipients one limit counts at a time: 2 MiB of memory. Only those count that came
/// within one period of the limit.
const MAX_COUNTED: usize = 1 << 16;

/// What may be written for a rate.
const RATE_HELP: &str =
    "so many in a second, minute, hour or day: \"10/s\", \"600/m\", \"5000/h\", \"9999/d\"; or \"off\"";

/// So many in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many may come at once.
    count: u32,
    /// How long it takes until so many may come again, in nanoseconds.
    period: i64,
}

/// The section `[smtp.rates]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `connections`: those of a client. 6000/m: a sender that opens one for each mail of a storm.
    pub connections: Option<Rate>,
    /// `client`: the mails of a client. 6000/m, far beyond what people can be alerted of.
    pub client: Option<Rate>,
    /// `sender`: the mails with one reverse-path. Off, for anybody can write any sender, and could so use up what
    /// a sender may send.
    pub sender: Option<Rate>,
    /// `recipient`: the mails for one recipient. Off, for anybody can use it up.
    pub recipient: Option<Rate>,
    /// `strangers`: the mails from one address outside of which nothing proves who sent them, as the gateway finds when
    /// they are whole. 60/m: enough for a service that the site has not named yet to report trouble.
    pub strangers: Option<Rate>,
    /// `exempt`: the networks whose clients are not counted, nor their sessions (`max-sessions-per-client`), and may
    /// log in to an account whatever others guess at it. Loopback and private networks.
    pub exempt: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Self {
        let generous = Rate { count: 6000, period: 60_000_000_000 };
        Self {
            connections: Some(generous),
            client: Some(generous),
            sender: None,
            recipient: None,
            strangers: Some(Rate { count: 60, period: 60_000_000_000 }),
            exempt: Network::private(),
        }
    }
}

impl Limits {
    /// Reads the section, and finishes it.
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let mut limits = Self::default();
        for (key, limit) in [
            ("connections", &mut limits.connections),
            ("client", &mut limits.client),
            ("sender", &mut limits.sender),
            ("recipient", &mut limits.recipient),
            ("strangers", &mut limits.strangers),
        ] {
            if let Some(found) = table.value(key).and_then(|value| Rate::read(&value)) {
                *limit = found;
            }
        }
        if let Some(networks) = super::listener_config::networks(&mut table, "exempt") {
            limits.exempt = networks;
        }
        table.finish();
        limits
    }

    /// Whether clients at `address` are not counted.
    pub fn exempts(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(address))
    }
}

impl Rate {
    /// Reads `600/m` and the like.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let count = count.trim().parse().ok().filter(|count| (1..=1_000_000).contains(count))?;
        Some(Self { count, period: seconds * 1_000_000_000 })
    }

    /// Reads a rate or `off`; none if it is neither, which is then reported.
    fn read(value: &Value<'_>) -> Option<Option<Self>> {
        let text = value.string()?.value;
        if text == "off" {
            return Some(None);
        }
        let rate = Self::parse(&text);
        if rate.is_none() {
            value.error(format!("`{}` is not a rate", text.escape_debug()), RATE_HELP);
        }
        rate.map(Some)
    }

    /// How long it takes until one more may come.
    fn step(self) -> i64 {
        self.period / i64::from(self.count)
    }
}

/// What a mail has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// Mails of the client.
    Client,
    /// Mails of the sender.
    Sender,
    /// Mails for the recipient at this place in the list.
    Recipient(usize),
}

impl Exceeded {
    /// What the client is told.
    pub fn reply(self) -> &'static Reply {
        match self {
            Self::Client => &reply::TOO_MANY_OF_CLIENT,
            Self::Sender => &reply::TOO_MANY_OF_SENDER,
            Self::Recipient(_) => &reply::TOO_MANY_FOR_RECIPIENT,
        }
    }
}

/// The counts of all limits.
#[derive(Debug)]
pub struct Rates {
    limits: Limits,
    /// Seeded with random bits, so that a sender cannot choose names that collide.
    hasher: RandomState,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    connections: Buckets,
    clients: Buckets,
    senders: Buckets,
    recipients: Buckets,
}

impl Rates {
    /// Nothing has come yet.
    pub fn new(limits: Limits) -> Self {
        let counts = Mutex::new(Counts {
            connections: Buckets::new(limits.connections),
            clients: Buckets::new(limits.client),
            senders: Buckets::new(limits.sender),
            recipients: Buckets::new(limits.recipient),
        });
        Self { limits, hasher: RandomState::new(), counts }
    }

    /// Counts a connection of `client` that comes at `now`, and says whether it may come in.
    pub fn connection(&self, client: IpAddr, now: Timestamp) -> bool {
        if self.limits.exempts(client) {
            return true;
        }
        let client = self.hasher.hash_one(holder(client));
        let now = nanoseconds(now);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let room = counts.connections.has_room(client, now);
        if room {
            counts.connections.take(client, now);
        }
        room
    }

    /// Counts a mail that comes at `now`, once for each limit that it falls under, if it is over none of them.
    ///
    /// # Errors
    /// It is over that one, and was not counted.
    pub fn mail(
        &self,
        client: Option<IpAddr>,
        sender: &str,
        recipients: &[String],
        now: Timestamp,
    ) -> Result<(), Exceeded> {
        let Some(client) = client.filter(|client| !self.limits.exempts(*client)) else { return Ok(()) };
        let client = self.hasher.hash_one(holder(client));
        let sender = self.hasher.hash_one(mailbox(sender));
        let mut recipients: Vec<(u64, usize)> = match self.limits.recipient {
            Some(_) => recipients.iter().map(|to| self.hasher.hash_one(mailbox(to))).zip(0..).collect(),
            None => Vec::new(),
        };
        recipients.sort_unstable();
        recipients.dedup_by_key(|(recipient, _)| *recipient);
        let now = nanoseconds(now);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if !counts.clients.has_room(client, now) {
            return Err(Exceeded::Client);
        }
        if !counts.senders.has_room(sender, now) {
            return Err(Exceeded::Sender);
        }
        if let Some((_, at)) = recipients.iter().find(|(to, _)| !counts.recipients.has_room(*to, now)) {
            return Err(Exceeded::Recipient(*at));
        }
        counts.clients.take(client, now);
        counts.senders.take(sender, now);
        for (recipient, _) in recipients {
            counts.recipients.take(recipient, now);
        }
        Ok(())
    }
}

/// Since 1970, and until 2262 for those whose clock is that wrong.
pub(super) fn nanoseconds(now: Timestamp) -> i64 {
    i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX / 2)
}

/// The buckets of one limit, by the hash of what they count.
///
/// Of a bucket only the time is kept at which it is full again (the generic cell rate algorithm, ITU-T I.371). So
/// one that is full already need not be kept at all.
#[derive(Debug)]
pub(super) struct Buckets {
    /// None where nothing is counted.
    rate: Option<Rate>,
    full_at: HashMap<u64, i64>,
}

impl Buckets {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { rate, full_at: HashMap::new() }
    }

    /// Whether one more may come.
    pub(super) fn has_room(&mut self, whose: u64, now: i64) -> bool {
        let (Some(rate), Some(full_at)) = (self.rate, self.full_at.get_mut(&whose)) else { return true };
        // No bucket is emptier than empty: were the clock put back by an hour, it would else be shut for that hour.
        *full_at = (*full_at).min(now.saturating_add(rate.period));
        *full_at - now + rate.step() <= rate.period
    }

    /// Counts one.
    pub(super) fn take(&mut self, whose: u64, now: i64) {
        let Some(rate) = self.rate else { return };
        let full_at = self.full_at.get(&whose).map_or(now, |at| now.max(*at)).saturating_add(rate.step());
        if self.full_at.len() >= MAX_COUNTED && !self.full_at.contains_key(&whose) {
            self.forget(now);
        }
        self.full_at.insert(whose, full_at);
    }

    /// Makes room: forgets the full buckets, and if more than half are not, those that were used least. A sender of
    /// ever new names makes such buckets, so it cannot displace those that count frequent senders.
    fn forget(&mut self, now: i64) {
        self.full_at.retain(|_, at| *at > now);
        if self.full_at.len() > MAX_COUNTED / 2 {
            let mut times: Vec<i64> = self.full_at.values().copied().collect();
            let middle = times.len() / 2;
            let (_, middle, _) = times.select_nth_unstable(middle);
            let middle = *middle;
            self.full_at.retain(|_, at| *at > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::clock::{Clock, Manual};

    const OUTSIDE: &str = "192.0.2.7";

    fn limits(connections: &str, client: &str, sender: &str, recipient: &str) -> Limits {
        Limits {
            connections: Rate::parse(connections),
            client: Rate::parse(client),
            sender: Rate::parse(sender),
            recipient: Rate::parse(recipient),
            strangers: None,
            exempt: Network::private(),
        }
    }

    fn clock() -> Manual {
        Manual::new("2026-11-20T17:04:05Z".parse().unwrap())
    }

    /// Mails and connections that come at the time of a clock.
    struct Street {
        rates: Rates,
        clock: Manual,
    }

    impl Street {
        fn new(limits: Limits) -> Self {
            Self { rates: Rates::new(limits), clock: clock() }
        }

        fn connection(&self, client: &str) -> bool {
            self.rates.connection(client.parse().unwrap(), self.clock.now())
        }

        fn mail(&self, client: &str, sender: &str, recipients: &[&str]) -> Result<(), Exceeded> {
            let recipients: Vec<String> = recipients.iter().map(|&text| text.to_owned()).collect();
            self.rates.mail(client.parse().ok(), sender, &recipients, self.clock.now())
        }

        fn passes(&self, milliseconds: i64) {
            self.clock.advance(SignedDuration::from_millis(milliseconds));
        }
    }

    #[test]
    fn so_many_come_at_once_and_then_as_many_as_come_back_over_the_period() {
        let street = Street::new(limits("60/m", "", "", ""));
        assert_eq!((0..100).filter(|_| street.connection(OUTSIDE)).count(), 60);
        street.passes(999);
        assert!(!street.connection(OUTSIDE));
        street.passes(1);
        assert!(street.connection(OUTSIDE) && !street.connection(OUTSIDE));
        street.passes(30_000);
        assert_eq!((0..100).filter(|_| street.connection(OUTSIDE)).count(), 30);
        street.passes(86_400_000);
        assert_eq!((0..100).filter(|_| street.connection(OUTSIDE)).count(), 60, "no more is saved up");
    }

    #[test]
    fn each_client_has_its_own_and_an_ipv6_network_is_one_client() {
        let street = Street::new(limits("1/h", "", "", ""));
        assert!(street.connection(OUTSIDE) && !street.connection(OUTSIDE));
        assert!(street.connection("192.0.2.8"));
        assert!(street.connection("2001:db8::1") && !street.connection("2001:db8::ffff:1"));
        assert!(street.connection("2001:db8:0:1::1"));
    }

    #[test]
    fn clients_that_are_trusted_come_as_often_as_they_like() {
        let street = Street::new(limits("1/d", "1/d", "1/d", "1/d"));
        for client in ["127.0.0.1", "10.1.2.3", "::1", "fd00::1", "::ffff:192.168.0.1"] {
            assert!((0..1000).all(|_| street.connection(client)));
            assert!((0..1000).all(|_| street.mail(client, "a@b", &["c@d"]).is_ok()));
        }
        assert!((0..1000).all(|_| street.mail("no address: a Unix socket", "a@b", &["c@d"]).is_ok()));
    }

    #[test]
    fn a_mail_over_one_limit_counts_for_none() {
        let street = Street::new(limits("", "3/h", "2/h", "1/h"));
        assert_eq!(street.mail(OUTSIDE, "a@b", &["c@d", "C+x@D"]), Ok(()));
        for _ in 0..10 {
            assert_eq!(street.mail(OUTSIDE, "a@b", &["e@d", "c@d"]), Err(Exceeded::Recipient(1)));
        }
        assert_eq!(street.mail(OUTSIDE, "A+1@b", &["e@d"]), Ok(()));
        for _ in 0..10 {
            assert_eq!(street.mail(OUTSIDE, "a@b", &["f@d"]), Err(Exceeded::Sender));
        }
        assert_eq!(street.mail(OUTSIDE, "", &["f@d"]), Ok(()));
        assert_eq!(street.mail(OUTSIDE, "g@b", &["g@d"]), Err(Exceeded::Client));
        assert_eq!(street.mail("192.0.2.8", "g@b", &["g@d"]), Ok(()));
    }

    #[test]
    fn what_is_not_limited_is_never_refused_nor_kept() {
        let street = Street::new(limits("", "", "", ""));
        assert!((0..1000).all(|_| street.connection(OUTSIDE) && street.mail(OUTSIDE, "a", &["b"]).is_ok()));
        assert!(street.rates.counts.lock().unwrap().clients.full_at.is_empty());
    }

    #[test]
    fn a_clock_that_is_put_back_shuts_nobody_out() {
        let street = Street::new(limits("2/s", "", "", ""));
        assert!(street.connection(OUTSIDE) && street.connection(OUTSIDE));
        street.passes(-3_600_000);
        assert!(!street.connection(OUTSIDE));
        street.passes(500);
        assert!(street.connection(OUTSIDE));
    }

    #[test]
    fn ever_new_names_use_bounded_memory_and_do_not_wash_out_who_sends_much() {
        let street = Street::new(limits("", "", "100/h", ""));
        for _ in 0..100 {
            assert_eq!(street.mail(OUTSIDE, "much@example.org", &[]), Ok(()));
        }
        for number in 0..3 * MAX_COUNTED {
            assert_eq!(street.mail(OUTSIDE, &format!("{number}@example.org"), &[]), Ok(()));
            if number % 1000 == 0 {
                assert!(street.rates.counts.lock().unwrap().senders.full_at.len() <= MAX_COUNTED);
            }
        }
        assert_eq!(street.mail(OUTSIDE, "much@example.org", &[]), Err(Exceeded::Sender));
        street.passes(3_600_000);
        street.rates.counts.lock().unwrap().senders.forget(nanoseconds(street.clock.now()));
        assert!(street.rates.counts.lock().unwrap().senders.full_at.is_empty());
    }

    #[test]
    fn an_alert_storm_from_outside_passes_by_default() {
        let street = Street::new(Limits::default());
        assert!((0..6000).all(|_| street.connection(OUTSIDE)));
        assert!((0..6000).all(|_| street.mail(OUTSIDE, "nagios@site", &["soc@site"]).is_ok()));
    }

    #[test]
    fn a_rate_has_a_count_and_a_unit() {
        assert_eq!(Rate::parse("600/m"), Some(Rate { count: 600, period: 60_000_000_000 }));
        assert_eq!(Rate::parse("1 / d"), Some(Rate { count: 1, period: 86_400_000_000_000 }));
        for wrong in ["", "600", "/m", "0/m", "600/min", "-1/s", "1000001/s", "1.5/s"] {
            assert_eq!(Rate::parse(wrong), None, "{wrong}");
        }
    }
}
