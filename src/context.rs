//! What the parts of a gateway share: where alerts are kept, how they go out, the time, the teams and the rules.
//! A leaf: it knows none of the parts.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, RwLock};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::clock::Clock;
use crate::config::Routes;
use crate::delivery::Delivery;
use crate::diagnostic::Diagnostic;
use crate::mail::MailId;
use crate::rules::RuleSet;
use crate::spool::{PutError, Spool};
use crate::time::in_zone;

/// What the parts of a gateway share. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// Where mails and their events are kept.
    pub spool: Spool,
    /// How events go out. None where no service runs: what is kept then waits for one.
    pub delivery: Option<Delivery>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The teams, and which of them an address reaches.
    pub teams: Arc<Routes>,
    /// The rules in force.
    pub rules: Arc<InForce<RuleSet>>,
    /// What is wrong with the config and the rules on disk, while the last good ones are in force.
    on_disk: Arc<InForce<Option<Broken>>>,
    /// The part of the next id that tells mails of one millisecond apart.
    salt: Arc<AtomicU16>,
}

impl Context {
    /// A context without delivery, in which `rules` are in force. `salt` is chosen at random by a service, so that its
    /// ids differ from those of the life before.
    pub fn new(spool: Spool, clock: Arc<dyn Clock>, teams: Routes, rules: Arc<RuleSet>, salt: u16) -> Self {
        Self {
            spool,
            delivery: None,
            clock,
            teams: Arc::new(teams),
            rules: Arc::new(InForce::new(rules)),
            on_disk: Arc::new(InForce::new(Arc::new(None))),
            salt: Arc::new(AtomicU16::new(salt)),
        }
    }

    /// The same where a service runs: what is kept goes out by `delivery`.
    #[must_use]
    pub fn delivering(self, delivery: Delivery) -> Self {
        Self { delivery: Some(delivery), ..self }
    }

    /// Notes what is wrong with the config and the rules on disk: nothing, if there are no `problems`.
    pub fn found_on_disk(&self, problems: &[Diagnostic]) {
        let since = self.broken_on_disk().map_or_else(|| self.now(), |broken| broken.since);
        let first = problems.first().map(|first| Broken {
            since,
            errors: problems.len(),
            first: format!("{}:{}:{}: {}", first.path, first.line, first.column, first.message),
        });
        self.on_disk.replace(Arc::new(first));
    }

    /// What is wrong with the config and the rules on disk, if anything is.
    pub fn broken_on_disk(&self) -> Option<Broken> {
        Option::clone(&self.on_disk.get())
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Has `put` keep something that came `at` this time under a new id, and under another one if the spool has that
    /// id already.
    ///
    /// # Errors
    /// Those of `put`, but for [`PutError::IdTaken`].
    pub async fn keep<T, F>(&self, at: Timestamp, put: impl Fn(MailId) -> F) -> Result<(MailId, T), PutError>
    where
        F: Future<Output = Result<T, PutError>>,
    {
        loop {
            let id = MailId::new(at, self.salt.fetch_add(1, Ordering::Relaxed));
            match put(id).await {
                Err(PutError::IdTaken) => {}
                kept => return Ok((id, kept?)),
            }
        }
    }
}

/// A config or rules on disk that cannot be put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Since when that is known.
    pub since: Timestamp,
    /// How many errors there are.
    pub errors: usize,
    /// The first one and its place, in a line.
    pub first: String,
}

impl Broken {
    /// What it means, in words for an operator.
    pub fn told(&self, zone: &TimeZone) -> String {
        let Self { since, errors, first } = self;
        let errors = if *errors == 1 { "1 error".to_owned() } else { format!("{errors} errors") };
        format!(
            "the config or the rules on disk are broken since {} ({errors}, {first}): the last good ones are in force",
            in_zone(*since, zone)
        )
    }
}

/// Something that a reload replaces while others use it.
#[derive(Debug)]
pub struct InForce<T>(RwLock<Arc<T>>);

impl<T> InForce<T> {
    /// Puts `first` in force.
    pub fn new(first: Arc<T>) -> Self {
        Self(RwLock::new(first))
    }

    /// What is in force now. Who has it keeps it, whatever is replaced meanwhile.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().expect("no holder of this lock can panic"))
    }

    /// Puts `next` in its place.
    pub fn replace(&self, next: Arc<T>) {
        *self.0.write().expect("no holder of this lock can panic") = next;
    }
}
