//! Who may open a session: so many in all, and of one client so many at a time and so often, out of the networks
//! of the listener.
//!
//! A connection gets its seat before anybody knows whose it is, for behind a proxy that takes a while. Clients that
//! are exempt from the rates are not counted by themselves either, as in Postfix (`smtpd_client_event_limit_exceptions`,
//! by default `$mynetworks`): many senders behind one address of a site's own are no attack. The limit of all holds
//! for them too, but a part of it is theirs alone ([`RESERVE`]): strangers who only keep their seats, of however many
//! addresses, never keep a site's own senders out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::network::holder;

use super::rates::Rates;
use super::reply::{self, Reply};
use super::{Config, ListenerConfig};

/// One in so many of all seats is kept for clients that are exempt from the rates, and for Unix sockets.
const RESERVE: usize = 10;

/// The door.
#[derive(Debug)]
pub struct Admission {
    config: Arc<Config>,
    rates: Arc<Rates>,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    sessions: usize,
    /// Those of them that are counted for a client.
    strangers: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// The right to a session. It ends when this is dropped.
#[derive(Debug)]
pub struct Seat {
    admission: Arc<Admission>,
    /// The client that it counts for, once that is known.
    client: Option<IpAddr>,
}

impl Admission {
    /// A door with the limits of `config` and `rates`, without any session yet.
    pub fn new(config: Arc<Config>, rates: Arc<Rates>) -> Arc<Self> {
        Arc::new(Self { config, rates, present: Mutex::default() })
    }

    /// Lets a connection in before its client is known.
    ///
    /// # Errors
    /// What to say to it before it is closed.
    pub fn admit_connection(self: &Arc<Self>) -> Result<Seat, &'static Reply> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.sessions >= self.config.max_sessions {
            return Err(&reply::TOO_MANY_SESSIONS);
        }
        present.sessions += 1;
        Ok(Seat { admission: Arc::clone(self), client: None })
    }

    /// How many seats clients may have together that are not exempt.
    fn for_strangers(&self) -> usize {
        self.config.max_sessions - self.config.max_sessions / RESERVE
    }
}

impl Seat {
    /// Lets the client at `address` have the seat, who comes in by `listener` at `now`.
    ///
    /// # Errors
    /// What to say to it before it is closed.
    pub fn admit_client(
        &mut self,
        address: IpAddr,
        listener: &ListenerConfig,
        now: Timestamp,
    ) -> Result<(), &'static Reply> {
        if !listener.allow.as_ref().is_none_or(|allow| allow.iter().any(|network| network.contains(address)))
        {
            return Err(&reply::NO_ACCESS);
        }
        self.count_unless_exempt(address, now)
    }

    /// Gives the seat to a client that `proxy` cannot name. It is in no allowed or exempt network, and counts as one
    /// of the proxy's clients.
    ///
    /// # Errors
    /// What to say to it before it is closed.
    pub fn admit_unknown(
        &mut self,
        proxy: IpAddr,
        listener: &ListenerConfig,
        now: Timestamp,
    ) -> Result<(), &'static Reply> {
        if listener.allow.is_some() {
            return Err(&reply::NO_ACCESS);
        }
        self.count(proxy, now)
    }

    /// Lets a proxy have the seat that comes for itself, to see whether anybody is here. That it is a proxy of the
    /// listener allows it.
    ///
    /// # Errors
    /// What to say to it before it is closed.
    pub fn admit_proxy(&mut self, proxy: IpAddr, now: Timestamp) -> Result<(), &'static Reply> {
        self.count_unless_exempt(proxy, now)
    }

    fn count_unless_exempt(&mut self, address: IpAddr, now: Timestamp) -> Result<(), &'static Reply> {
        if self.admission.config.rates.exempts(address) { Ok(()) } else { self.count(address, now) }
    }

    /// Counts the seat for the client at `address`, if it may have one more.
    fn count(&mut self, address: IpAddr, now: Timestamp) -> Result<(), &'static Reply> {
        let admission = &self.admission;
        let client = holder(address);
        let mut present = admission.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.strangers >= admission.for_strangers() {
            return Err(&reply::TOO_MANY_SESSIONS);
        }
        let sessions = present.by_client.get(&client).copied().unwrap_or_default();
        if sessions >= admission.config.max_sessions_per_client {
            return Err(&reply::TOO_MANY_FROM_CLIENT);
        }
        if !admission.rates.connection(address, now) {
            return Err(&reply::TOO_MANY_CONNECTIONS);
        }
        present.by_client.insert(client, sessions + 1);
        present.strangers += 1;
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut present = self.admission.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.sessions -= 1;
        let Some(client) = self.client else { return };
        present.strangers -= 1;
        if let Some(of_client) = present.by_client.get_mut(&client) {
            *of_client -= 1;
            if *of_client == 0 {
                present.by_client.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::document::read;

    struct Door {
        admission: Arc<Admission>,
        listener: ListenerConfig,
    }

    impl Door {
        fn new(text: &str) -> Self {
            let config = Arc::new(read(&Source::new("t.toml", text), Config::read).unwrap());
            let rates = Arc::new(Rates::new(config.rates.clone()));
            let listener = config.listeners[0].clone();
            Self { admission: Admission::new(config, rates), listener }
        }

        fn admit(&self, client: &str) -> Result<Seat, &'static Reply> {
            let mut seat = self.admission.admit_connection()?;
            let now = "2026-11-20T17:04:05Z".parse().unwrap();
            seat.admit_client(client.parse().unwrap(), &self.listener, now).map(|()| seat)
        }
    }

    #[test]
    fn a_seat_that_is_left_can_be_taken_again() {
        let door = Door::new("max-sessions = 3\nmax-sessions-per-client = 2\n");
        let [one, two] = ["192.0.2.1", "192.0.2.2"];
        let first = door.admit(one).unwrap();
        let second = door.admit(one).unwrap();
        assert_eq!(door.admit(one).unwrap_err(), &reply::TOO_MANY_FROM_CLIENT);
        let third = door.admit(two).unwrap();
        drop(first);
        let fourth = door.admit(one).unwrap();
        assert_eq!(door.admit(two).unwrap_err(), &reply::TOO_MANY_SESSIONS);
        drop((second, third, fourth));
        let present = door.admission.present.lock().unwrap();
        assert!(present.by_client.is_empty() && present.sessions == 0);
    }

    #[test]
    fn a_client_of_another_network_has_no_access_and_leaves_nothing_behind() {
        let door = Door::new(
            "max-sessions = 1\n[[listener]]\naddress = '[::]:25'\nallow = ['192.0.2.0/24', '2001:db8::1']\n",
        );
        for outside in ["198.51.100.1", "2001:db8::2", "127.0.0.1", "::1"] {
            assert_eq!(door.admit(outside).unwrap_err(), &reply::NO_ACCESS, "{outside}");
        }
        assert!(door.admission.present.lock().unwrap().by_client.is_empty());
        for inside in ["192.0.2.9", "::ffff:192.0.2.9", "2001:db8::1"] {
            assert!(door.admit(inside).is_ok(), "{inside}");
        }
    }

    #[test]
    fn an_ipv6_network_has_the_sessions_of_one_client_unless_it_is_ones_own() {
        let door = Door::new("max-sessions-per-client = 1\n");
        let seat = door.admit("2001:db8::1").unwrap();
        assert_eq!(door.admit("2001:db8::2").unwrap_err(), &reply::TOO_MANY_FROM_CLIENT);
        let own = door.admit("fd00::1").unwrap();
        assert!(door.admit("fd00::2").is_ok());
        drop((seat, own));
    }

    #[test]
    fn a_client_that_is_exempt_has_as_many_sessions_as_there_are() {
        let door =
            Door::new("max-sessions = 5\nmax-sessions-per-client = 1\n[rates]\nexempt = '192.0.2.0/24'\n");
        let mut seats: Vec<Seat> = (0..4).map(|_| door.admit("192.0.2.1").unwrap()).collect();
        seats.push(door.admit("127.0.0.1").unwrap());
        assert_eq!(door.admit("192.0.2.1").unwrap_err(), &reply::TOO_MANY_SESSIONS);
        seats.swap_remove(0);
        // What is written replaces the default, so that loopback is counted now.
        assert_eq!(door.admit("127.0.0.1").unwrap_err(), &reply::TOO_MANY_FROM_CLIENT);
        drop(seats);
        let present = door.admission.present.lock().unwrap();
        assert_eq!((present.sessions, present.by_client.len()), (0, 0));
    }

    #[test]
    fn strangers_leave_a_part_of_the_seats_to_clients_that_are_exempt() {
        let door = Door::new("max-sessions = 20\n");
        let stranger = |at: usize| door.admit(&format!("198.51.100.{at}"));
        let mut strangers: Vec<Seat> = (0..18).map(|at| stranger(at).unwrap()).collect();
        assert_eq!(stranger(18).unwrap_err(), &reply::TOO_MANY_SESSIONS);
        let local = door.admission.admit_connection().unwrap();
        let own = door.admit("127.0.0.1").unwrap();
        assert_eq!(door.admit("127.0.0.1").unwrap_err(), &reply::TOO_MANY_SESSIONS);
        strangers.pop();
        // A seat that a stranger leaves goes to the first that comes.
        let more = door.admit("10.0.0.1").unwrap();
        assert_eq!(stranger(18).unwrap_err(), &reply::TOO_MANY_SESSIONS);
        drop(more);
        strangers.push(stranger(18).unwrap());
        drop((strangers, local, own));
        let present = door.admission.present.lock().unwrap();
        assert_eq!((present.sessions, present.strangers, present.by_client.len()), (0, 0, 0));
    }

    #[test]
    fn who_connects_too_often_is_told_to_come_later_and_a_seat_denied_is_not_counted() {
        let door = Door::new("max-sessions-per-client = 1\n[rates]\nconnections = '2/m'\n");
        let seat = door.admit("192.0.2.1").unwrap();
        for _ in 0..5 {
            assert_eq!(door.admit("192.0.2.1").unwrap_err(), &reply::TOO_MANY_FROM_CLIENT);
        }
        drop(seat);
        drop(door.admit("192.0.2.1").unwrap());
        assert_eq!(door.admit("192.0.2.1").unwrap_err(), &reply::TOO_MANY_CONNECTIONS);
        assert!(door.admit("192.0.2.2").is_ok());
        assert!((0..10).all(|_| door.admit("127.0.0.1").is_ok()));
    }

    #[test]
    fn a_proxy_counts_for_all_and_its_client_for_itself() {
        let door = Door::new("max-sessions = 3\nmax-sessions-per-client = 1\n");
        let [one, two] = ["192.0.2.1", "192.0.2.2"];
        let seat = || door.admission.admit_connection();
        let give = |seat: &mut Seat, client: &str| {
            seat.admit_client(client.parse().unwrap(), &door.listener, Timestamp::UNIX_EPOCH)
        };
        let (mut first, mut second, third) = (seat().unwrap(), seat().unwrap(), seat().unwrap());
        assert_eq!(seat().unwrap_err(), &reply::TOO_MANY_SESSIONS);
        drop(third);
        assert_eq!(give(&mut first, one), Ok(()));
        assert_eq!(give(&mut second, one), Err(&reply::TOO_MANY_FROM_CLIENT));
        assert_eq!(give(&mut second, two), Ok(()));
        assert_eq!(door.admit(one).unwrap_err(), &reply::TOO_MANY_FROM_CLIENT);
        drop((first, second));
        let present = door.admission.present.lock().unwrap();
        assert_eq!((present.sessions, present.by_client.len()), (0, 0));
    }

    #[test]
    fn whom_a_proxy_cannot_name_is_of_no_network_and_the_proxy_itself_may_look() {
        let door =
            Door::new("[[listener]]\naddress = '[::]:25'\nallow = '10.0.0.0/8'\nproxies = '192.0.2.1'\n");
        let now = Timestamp::UNIX_EPOCH;
        let mut seat = door.admission.admit_connection().unwrap();
        let proxy = "10.0.0.1".parse().unwrap();
        assert_eq!(seat.admit_unknown(proxy, &door.listener, now), Err(&reply::NO_ACCESS));
        assert_eq!(seat.admit_proxy("192.0.2.1".parse().unwrap(), now), Ok(()));
        let open = Door::new("");
        let mut seat = open.admission.admit_connection().unwrap();
        assert_eq!(seat.admit_unknown(proxy, &open.listener, now), Ok(()));
        let narrow = Door::new("max-sessions-per-client = 1\n");
        let mut seats = [(); 2].map(|()| narrow.admission.admit_connection().unwrap());
        let known = [(); 2].map(|()| narrow.admit("10.0.0.1"));
        assert!(known.iter().all(Result::is_ok), "the proxy itself is exempt");
        assert_eq!(seats[0].admit_unknown(proxy, &narrow.listener, now), Ok(()));
        let refused = Err(&reply::TOO_MANY_FROM_CLIENT);
        assert_eq!(
            seats[1].admit_unknown(proxy, &narrow.listener, now),
            refused,
            "and who it cannot name is not"
        );
    }
}
