//! The supervisor: the one owner of every task that lives as long as the service.
//!
//! No such task may end before the service stops. If one does, by a panic or by returning, mail is refused from that
//! moment on, the log names the task, and the process ends with an error, so that the service manager starts it again:
//! a service that answers 250 while nothing is delivered is worse than none. A panic within one mail, one session or
//! one check is caught where it happens and ends nothing.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// A task that ended before the service stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The name of the task.
    pub task: &'static str,
    /// How it ended, in words.
    pub how: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the task `{}` {}", self.task, self.how)
    }
}

/// Owns the tasks. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor(Arc<Shared>);

struct Shared {
    /// Cancelled when the service stops: then tasks may end.
    stop: CancellationToken,
    /// The first task that ended too early.
    ended: watch::Sender<Option<Ended>>,
    /// The task that is to panic at the next opportunity.
    broken: watch::Sender<Option<String>>,
}

impl Supervisor {
    /// A supervisor of tasks that may end once `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        let (ended, broken) = (watch::Sender::new(None), watch::Sender::new(None));
        Self(Arc::new(Shared { stop, ended, broken }))
    }

    /// Runs `future` as the task `name` until the service stops.
    pub fn spawn(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let stop = self.0.stop.clone();
        self.spawn_draining(name, async move { _ = stop.run_until_cancelled(future).await })
    }

    /// Runs `future` as the task `name`. It ends by itself when the service stops and its work is done.
    pub fn spawn_draining(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let own = self.clone();
        tokio::spawn(async move {
            let outcome = own.run(name, future).await;
            match outcome {
                Ok(()) if own.0.stop.is_cancelled() => {}
                Ok(()) => own.end(name, "returned".to_owned()),
                Err(panic) => own.end(name, format!("panicked: {}", words(&*panic))),
            }
        })
    }

    /// What `future` comes to. It is not polled again once it panicked.
    async fn run(&self, name: &str, future: impl Future<Output = ()>) -> Result<(), Box<dyn Any + Send>> {
        let (mut future, mut broken) = (pin!(future), pin!(self.told_to_break(name)));
        std::future::poll_fn(|context| {
            let poll = catch_unwind(AssertUnwindSafe(|| {
                assert!(broken.as_mut().poll(context).is_pending(), "told to, by a test");
                future.as_mut().poll(context)
            }));
            match poll {
                Ok(poll) => poll.map(Ok),
                Err(panic) => Poll::Ready(Err(panic)),
            }
        })
        .await
    }

    /// Returns when the task `name` is to panic.
    async fn told_to_break(&self, name: &str) {
        let mut broken = self.0.broken.subscribe();
        if broken.wait_for(|broken| broken.as_deref() == Some(name)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn end(&self, task: &'static str, how: String) {
        let ended = Ended { task, how };
        error!(task, "{ended}: the process ends, so that the service manager starts it again");
        self.0.ended.send_if_modified(|first| {
            let new = first.is_none();
            first.get_or_insert(ended);
            new
        });
    }

    /// Whether every task runs that should. Nothing may be promised to a sender if not.
    pub fn is_sound(&self) -> bool {
        self.0.ended.borrow().is_none()
    }

    /// Waits until a task has ended too early.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.0.ended.subscribe();
        let first = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
        match first {
            Some(ended) => ended,
            // The supervisor itself is gone.
            None => std::future::pending().await,
        }
    }

    /// Makes the task `name` panic, so that a test sees what comes of it. One that has no loop of its own panics when it
    /// comes to a [checkpoint](Supervisor::checkpoint).
    #[doc(hidden)]
    pub fn break_task(&self, name: &str) {
        self.0.broken.send_replace(Some(name.to_owned()));
    }

    /// Panics if the task `name` was told to.
    pub fn checkpoint(&self, name: &str) {
        assert!(self.0.broken.borrow().as_deref() != Some(name), "told to, by a test");
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text,
        (None, None) => "without a word",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_returns_early_is_told_and_one_that_ends_with_the_service_is_not() {
        let stop = CancellationToken::new();
        let supervisor = Supervisor::new(stop.clone());
        let ordinary = supervisor.spawn("ordinary", std::future::pending());
        let draining = supervisor.spawn_draining("draining", stop.clone().cancelled_owned());
        assert!(supervisor.is_sound());
        supervisor.spawn("short", async {}).await.unwrap();
        assert!(!supervisor.is_sound());
        assert_eq!(supervisor.ended().await.to_string(), "the task `short` returned");
        supervisor.spawn("late", async { panic!("worse") }).await.unwrap();
        assert_eq!(supervisor.ended().await.task, "short", "the first is the cause");
        stop.cancel();
        ordinary.await.unwrap();
        draining.await.unwrap();
        assert_eq!(supervisor.ended().await.task, "short", "the others ended in their time");

        let other = Supervisor::new(CancellationToken::new());
        other.spawn("careless", async { panic!("no {}", "way") }).await.unwrap();
        assert_eq!(other.ended().await.to_string(), "the task `careless` panicked: no way");

        let sound = Supervisor::new(stop);
        sound.spawn_draining("ordinary", async {}).await.unwrap();
        assert!(sound.is_sound());
    }
}
