//! Who may open a session: so many in all, so many from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::reply::{self, Reply};

/// The door.
#[derive(Debug)]
pub struct Admission {
    max_sessions: usize,
    max_per_client: usize,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    sessions: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// The right to a session. It ends when this is dropped.
#[derive(Debug)]
pub struct Seat {
    admission: Arc<Admission>,
    /// Who has it, once that is known.
    client: Option<IpAddr>,
}

impl Admission {
    /// A door with these limits and nobody inside.
    pub fn new(max_sessions: usize, max_per_client: usize) -> Arc<Self> {
        Arc::new(Self { max_sessions, max_per_client, present: Mutex::default() })
    }

    /// Lets `client` in.
    ///
    /// # Errors
    /// What to say to it before it is closed.
    pub fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Seat, &'static Reply> {
        let mut seat = self.admit_proxy()?;
        seat.give(client)?;
        Ok(seat)
    }

    /// Lets in a proxy that has yet to say for whom it comes, and to [`Seat::give`] the seat to; or a client that
    /// came by a Unix socket and has no address to be counted by.
    ///
    /// # Errors
    /// What to say to it before it is closed.
    pub fn admit_proxy(self: &Arc<Self>) -> Result<Seat, &'static Reply> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.sessions >= self.max_sessions {
            return Err(&reply::TOO_MANY_SESSIONS);
        }
        present.sessions += 1;
        Ok(Seat { admission: Arc::clone(self), client: None })
    }
}

impl Seat {
    /// Counts the seat, which is nobody's yet, as one of `client`.
    ///
    /// # Errors
    /// What to say to it before it is closed.
    pub fn give(&mut self, client: IpAddr) -> Result<(), &'static Reply> {
        let mut present = self.admission.present.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = present.by_client.entry(client).or_insert(0);
        if *of_client >= self.admission.max_per_client {
            return Err(&reply::TOO_MANY_FROM_CLIENT);
        }
        *of_client += 1;
        self.client = Some(client);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut present = self.admission.present.lock().unwrap_or_else(PoisonError::into_inner);
        present.sessions -= 1;
        let Some(client) = self.client else { return };
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

    #[test]
    fn a_seat_that_is_left_can_be_taken_again() {
        let door = Admission::new(3, 2);
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let first = door.admit(one).unwrap();
        let second = door.admit(one).unwrap();
        assert_eq!(door.admit(one).unwrap_err(), &reply::TOO_MANY_FROM_CLIENT);
        let third = door.admit(two).unwrap();
        drop(first);
        let fourth = door.admit(one).unwrap();
        assert_eq!(door.admit(two).unwrap_err(), &reply::TOO_MANY_SESSIONS);
        drop((second, third, fourth));
        assert!(door.present.lock().unwrap().by_client.is_empty());
    }

    #[test]
    fn a_proxy_counts_for_all_and_its_client_for_itself() {
        let door = Admission::new(3, 1);
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let (mut first, mut second, third) =
            (door.admit_proxy().unwrap(), door.admit_proxy().unwrap(), door.admit_proxy().unwrap());
        assert_eq!(door.admit_proxy().unwrap_err(), &reply::TOO_MANY_SESSIONS);
        drop(third);
        assert_eq!(first.give(one), Ok(()));
        assert_eq!(second.give(one), Err(&reply::TOO_MANY_FROM_CLIENT));
        assert_eq!(second.give(two), Ok(()));
        assert_eq!(door.admit(one).unwrap_err(), &reply::TOO_MANY_FROM_CLIENT);
        drop((first, second));
        let present = door.present.lock().unwrap();
        assert_eq!((present.sessions, present.by_client.len()), (0, 0));
    }
}
