//! How much a stranger may page: so many mails for each address outside, counted when a mail is whole and it is known that
//! nothing proves who sent it.
//!
//! The address is that of the client, or of the first hop outside where a relay of the site's own passed the mail on. What a
//! client outside has too much of is told to come again. A relay of the site's own is refused nothing: it would keep mail
//! that others wait for, or return it to the sender that the mail names.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::network::holder;

use super::rates::{Buckets, Limits, nanoseconds};

/// The counts of strangers' mails.
#[derive(Debug)]
pub struct Strangers {
    limits: Limits,
    hasher: std::hash::RandomState,
    counts: Mutex<Buckets>,
}

impl Strangers {
    /// Nothing has come yet.
    pub fn new(limits: Limits) -> Self {
        let counts = Mutex::new(Buckets::new(limits.strangers));
        Self { limits, hasher: std::hash::RandomState::new(), counts }
    }

    /// Counts a stranger's mail from `address` that came at `now`, and says whether it is within the rate.
    pub fn mail(&self, address: IpAddr, now: Timestamp) -> bool {
        use std::hash::BuildHasher;
        if self.limits.exempts(address) {
            return true;
        }
        let whose = self.hasher.hash_one(holder(address));
        let now = nanoseconds(now);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let room = counts.has_room(whose, now);
        if room {
            counts.take(whose, now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_outside_has_its_own_rate_and_an_exempt_one_has_none() {
        let strangers =
            Strangers::new(Limits { strangers: crate::smtp::rates::Rate::parse("2/m"), ..Limits::default() });
        let mail = |address: &str, second: i64| {
            strangers.mail(address.parse().unwrap(), Timestamp::from_second(second).unwrap())
        };
        assert_eq!(
            [0, 0, 0, 29, 30, 30].map(|at| mail("203.0.113.9", at)),
            [true, true, false, false, true, false]
        );
        assert!(mail("203.0.113.10", 0));
        // An IPv6 network is one holder's.
        assert_eq!([1, 2, 3].map(|host| mail(&format!("2001:db8::{host}"), 0)), [true, true, false]);
        assert!((0..100).all(|_| mail("10.0.0.1", 0)));
    }

    #[test]
    fn switched_off_it_bounds_nothing() {
        let strangers = Strangers::new(Limits { strangers: None, ..Limits::default() });
        assert!((0..1000).all(|_| strangers.mail("203.0.113.9".parse().unwrap(), Timestamp::UNIX_EPOCH)));
    }
}
