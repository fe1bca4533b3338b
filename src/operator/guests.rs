//! How many clients of one user the control socket serves and keeps: no user keeps the others from the service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Clients served at once; more wait.
const SERVED: usize = 32;

/// Clients of one user served at once; more of his wait.
const SERVED_OF_ONE: usize = 8;

/// Connections of one user, those that wait included; more are refused.
const CONNECTIONS_OF_ONE: usize = 64;

/// Who is there. Cheap to clone.
#[derive(Clone)]
pub(super) struct Guests {
    served: Arc<Semaphore>,
    users: Arc<Mutex<HashMap<u32, User>>>,
}

struct User {
    connections: usize,
    served: Arc<Semaphore>,
}

/// A connection that counts until it is dropped.
pub(super) struct Guest {
    user: u32,
    own: Arc<Semaphore>,
    guests: Guests,
}

/// The right to be served, until it is dropped.
pub(super) struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Default for Guests {
    fn default() -> Self {
        Self { served: Arc::new(Semaphore::new(SERVED)), users: Arc::default() }
    }
}

impl Guests {
    fn users(&self) -> MutexGuard<'_, HashMap<u32, User>> {
        self.users.lock().expect("no holder of this lock can panic")
    }

    /// A further connection of `user`; none if he has too many.
    pub fn admit(&self, user: u32) -> Option<Guest> {
        let mut users = self.users();
        let one = users
            .entry(user)
            .or_insert_with(|| User { connections: 0, served: Arc::new(Semaphore::new(SERVED_OF_ONE)) });
        if one.connections == CONNECTIONS_OF_ONE {
            return None;
        }
        one.connections += 1;
        Some(Guest { user, own: Arc::clone(&one.served), guests: self.clone() })
    }
}

impl Guest {
    /// Waits until it is this one's turn.
    pub async fn turn(&self) -> Turn {
        let closed = "this semaphore is never closed";
        let own = Arc::clone(&self.own).acquire_owned().await.expect(closed);
        let all = Arc::clone(&self.guests.served).acquire_owned().await.expect(closed);
        Turn { _own: own, _all: all }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut users = self.guests.users();
        if let Some(one) = users.get_mut(&self.user) {
            one.connections -= 1;
            if one.connections == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn no_user_keeps_the_others_from_the_service() {
        let guests = Guests::default();
        let many: Vec<Guest> = (0..CONNECTIONS_OF_ONE).filter_map(|_| guests.admit(1000)).collect();
        assert_eq!(many.len(), CONNECTIONS_OF_ONE);
        assert!(guests.admit(1000).is_none(), "he has too many");
        let mut turns = Vec::new();
        for guest in &many[..SERVED_OF_ONE] {
            turns.push(guest.turn().await);
        }
        let next = tokio::time::timeout(Duration::from_millis(20), many[SERVED_OF_ONE].turn()).await;
        assert!(next.is_err(), "he waits for his own");
        drop(guests.admit(1001).expect("another has a place").turn().await);
        turns.pop();
        drop(many[SERVED_OF_ONE].turn().await);
        drop((turns, many));
        assert!(guests.users().is_empty(), "nobody is remembered");
    }
}
