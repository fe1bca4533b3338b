//! Checks logins, at a pace that guessing cannot bear.
//!
//! A check costs 19 MiB of memory and tens of milliseconds, so that few run at a time and the others wait their
//! turn. The memory is that of the places in which they run, and stays: no number of checks takes more. What fails is answered late, and after [`MAX_FAILURES`] from one client, or for one account, nothing is
//! checked for a while. A client that has logged in to an account before has a count of its own: guesses at its
//! account from elsewhere, or at other accounts from the same address, cannot lock it out. Guesses of others do not
//! affect clients of the site's own networks.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::auth::Login;
use super::users::Names;
use super::users::Workspace;

/// Checks at a time: 38 MiB, and a core or two.
const PLACES: usize = 2;

/// How long a login waits for its turn. JavaMail, the most impatient client known, waits for 60 seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Failures after which nothing is checked, and the time in which they count. A sender that has a wrong password
/// fails twice for each mail that it tries to send (Python tries PLAIN, then LOGIN).
const MAX_FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(600);

/// How late a failure is answered: the first one, and at most.
const DELAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

/// How many clients and accounts are remembered at most, about a megabyte. Those that failed longest ago go first.
const MAX_REMEMBERED: usize = 10_000;

/// What failures are counted by. Accounts are kept as hashes: a name can have thousands of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Counted {
    Client(Option<IpAddr>),
    Account(u64),
    /// A client at an account that it has logged in to.
    Known(Option<IpAddr>, u64),
}

#[derive(Debug, Default)]
struct Memory {
    failures: HashMap<Counted, (u32, Instant)>,
    /// Clients that have logged in, with the account and the time.
    known: HashMap<(Option<IpAddr>, u64), Instant>,
}

/// The state of all logins.
#[derive(Debug)]
pub struct Logins {
    places: Arc<Semaphore>,
    /// The memory of the places where nothing runs. One whose check panicked is made anew.
    workspaces: Arc<Mutex<Vec<Workspace>>>,
    memory: Mutex<Memory>,
    hasher: RandomState,
}

/// What became of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginVerdict {
    /// It is right.
    Right,
    /// It is wrong. The client is to be told after this time.
    Wrong(Duration),
    /// It was not looked at: there were too many failures for this account, or there is no turn for it.
    Later,
    /// It was not looked at: there were too many failures from this client.
    TooMany,
}

impl Default for Logins {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            workspaces: Arc::default(),
            memory: Mutex::default(),
            hasher: RandomState::new(),
        }
    }
}

impl Logins {
    /// Checks `login` of the client at `address` against `names`. If the client is `trusted`, the failures of others
    /// do not matter.
    pub async fn check(
        &self,
        names: Arc<Names>,
        login: Login,
        address: Option<IpAddr>,
        trusted: bool,
    ) -> LoginVerdict {
        let client = address.map(network);
        let account = self.hasher.hash_one(&login.name);
        if let Some(verdict) = self.refused(client, account, trusted, Instant::now()) {
            return verdict;
        }
        let Ok(place) = timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await else {
            return LoginVerdict::Later;
        };
        // Others of this client may have failed while this one waited.
        if let Some(verdict) = self.refused(client, account, trusted, Instant::now()) {
            return verdict;
        }
        let workspaces = Arc::clone(&self.workspaces);
        let check = move || {
            let spare = || workspaces.lock().unwrap_or_else(PoisonError::into_inner);
            let mut workspace = spare().pop().unwrap_or_default();
            let right = names.check(&login.name, login.password.expose(), &mut workspace);
            spare().push(workspace);
            // Kept until the memory is free again, even if the session no longer waits for the outcome.
            drop(place);
            right
        };
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        self.note(client, account, right, Instant::now())
    }

    fn refused(
        &self,
        client: Option<IpAddr>,
        account: u64,
        trusted: bool,
        now: Instant,
    ) -> Option<LoginVerdict> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = |whom| memory.recent(whom, now) >= MAX_FAILURES;
        if memory.known.contains_key(&(client, account)) {
            spent(Counted::Known(client, account)).then_some(LoginVerdict::TooMany)
        } else if spent(Counted::Client(client)) {
            Some(LoginVerdict::TooMany)
        } else {
            (!trusted && spent(Counted::Account(account))).then_some(LoginVerdict::Later)
        }
    }

    fn note(&self, client: Option<IpAddr>, account: u64, right: bool, now: Instant) -> LoginVerdict {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if right {
            make_room(&mut memory.known, |at| *at);
            memory.known.insert((client, account), now);
            return LoginVerdict::Right;
        }
        let failures = if memory.known.contains_key(&(client, account)) {
            memory.fail(Counted::Known(client, account), now)
        } else {
            memory.fail(Counted::Account(account), now);
            memory.fail(Counted::Client(client), now)
        };
        let delay = DELAY.0.saturating_mul(1 << (failures - 1).min(8));
        LoginVerdict::Wrong(delay.min(DELAY.1))
    }
}

impl Memory {
    /// The failures that still count.
    fn recent(&self, whom: Counted, now: Instant) -> u32 {
        self.failures
            .get(&whom)
            .filter(|(_, since)| now - *since < WINDOW)
            .map_or(0, |(failures, _)| *failures)
    }

    fn fail(&mut self, whom: Counted, now: Instant) -> u32 {
        let failures = self.recent(whom, now) + 1;
        if failures == 1 {
            make_room(&mut self.failures, |(_, since)| *since);
        }
        // The window begins with its first failure.
        let since = if failures == 1 { now } else { self.failures[&whom].1 };
        self.failures.insert(whom, (failures, since));
        failures
    }
}

/// Forgets the oldest where there is no room for one more.
fn make_room<K: Copy + Eq + std::hash::Hash, V>(memory: &mut HashMap<K, V>, at: impl Fn(&V) -> Instant) {
    if memory.len() >= MAX_REMEMBERED
        && let Some(oldest) = memory.iter().min_by_key(|(_, value)| at(value)).map(|(key, _)| *key)
    {
        memory.remove(&oldest);
    }
}

/// Who counts as one client: in IPv6 everybody has a /64 of addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;
    use crate::secret::Secret;

    const START: fn() -> Instant = Instant::now;

    fn address(text: &str) -> Option<IpAddr> {
        Some(network(text.parse().unwrap()))
    }

    #[test]
    fn each_failure_is_answered_later_until_none_is_checked_for_a_while() {
        let (logins, client, start) = (Logins::default(), address("192.0.2.1"), START());
        let mut delays = Vec::new();
        while logins.refused(client, 1, false, start).is_none() {
            let LoginVerdict::Wrong(delay) = logins.note(client, 1, false, start) else { panic!() };
            delays.push(delay.as_secs());
        }
        assert_eq!(delays, [1, 2, 4, 8, 8, 8, 8, 8, 8, 8]);
        assert_eq!(logins.refused(client, 2, false, start), Some(LoginVerdict::TooMany));
        assert_eq!(logins.refused(address("192.0.2.2"), 1, false, start), Some(LoginVerdict::Later));
        assert_eq!(logins.refused(address("192.0.2.2"), 2, false, start), None);
        let later = start + WINDOW;
        assert_eq!(logins.refused(client, 1, false, later), None);
        assert_eq!(logins.note(client, 1, false, later), LoginVerdict::Wrong(DELAY.0));
    }

    #[test]
    fn a_client_that_has_logged_in_is_not_locked_out_by_others() {
        let (logins, client, start) = (Logins::default(), address("192.0.2.1"), START());
        assert_eq!(logins.note(client, 1, true, start), LoginVerdict::Right);
        for stranger in 0..20 {
            logins.note(address(&format!("198.51.100.{stranger}")), 1, false, start);
            logins.note(client, 2, false, start);
        }
        assert_eq!(logins.refused(address("192.0.2.9"), 1, false, start), Some(LoginVerdict::Later));
        assert_eq!(logins.refused(client, 2, false, start), Some(LoginVerdict::TooMany));
        assert_eq!(logins.refused(client, 1, false, start), None);
        // It may not guess either.
        for _ in 0..MAX_FAILURES {
            logins.note(client, 1, false, start);
        }
        assert_eq!(logins.refused(client, 1, false, start), Some(LoginVerdict::TooMany));
    }

    #[test]
    fn a_trusted_client_is_not_locked_out_by_others_and_may_not_guess_either() {
        let (logins, trusted, start) = (Logins::default(), address("10.0.0.1"), START());
        for stranger in 0..20 {
            logins.note(address(&format!("198.51.100.{stranger}")), 1, false, start);
        }
        assert_eq!(logins.refused(address("192.0.2.9"), 1, false, start), Some(LoginVerdict::Later));
        assert_eq!(logins.refused(trusted, 1, true, start), None);
        for _ in 0..MAX_FAILURES {
            logins.note(trusted, 1, false, start);
        }
        assert_eq!(logins.refused(trusted, 1, true, start), Some(LoginVerdict::TooMany));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_client() {
        let logins = Logins::default();
        let start = START();
        for host in 0..MAX_FAILURES {
            logins.note(address(&format!("2001:db8::{host}")), u64::from(host), false, start);
        }
        assert_eq!(logins.refused(address("2001:db8::ffff"), 99, false, start), Some(LoginVerdict::TooMany));
        assert_eq!(logins.refused(address("2001:db8:0:1::1"), 99, false, start), None);
    }

    #[tokio::test]
    async fn however_many_log_in_there_is_memory_for_the_places_and_no_more() {
        let logins = Logins::default();
        let names = Arc::new(Names::parse(&Source::new("users", "")).unwrap());
        let login = || Login { name: "hive".into(), password: Secret::new("x") };
        for _ in 0..2 {
            let check = || logins.check(Arc::clone(&names), login(), None, false);
            tokio::join!(check(), check(), check(), check());
            let spare = logins.workspaces.lock().unwrap().len();
            assert!((1..=PLACES).contains(&spare), "{spare}");
        }
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let logins = Logins::default();
        let start = START();
        for account in 0..MAX_REMEMBERED as u64 {
            logins.note(None, account, false, start);
            logins.note(None, account, true, start);
        }
        let memory = logins.memory.lock().unwrap();
        assert!(memory.failures.len() <= MAX_REMEMBERED && memory.known.len() <= MAX_REMEMBERED);
    }
}
