//! The one thread that writes: group commit.
//!
//! It takes what waits, makes it one transaction, and answers all callers once that is safe. While the disk
//! flushes one batch the next one gathers, so that the load itself makes the batches and no delay is
//! needed: at one writer a batch is one mail, at sixty-four it is dozens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use super::change::{Applied, Change, Refused};
use super::engine::Failure;
use super::entry::News;

/// Changes in a batch, and in the queue before it: more would only lengthen the wait of the first.
pub(super) const BATCH: usize = 512;

/// Bytes after which a batch takes no more changes: about what a slow disk writes in a tenth of a second.
const BATCH_BYTES: u64 = 8 << 20;

/// What the thread asks of the keeper.
pub(super) trait Committer: Send + 'static {
    /// Makes all changes in one transaction, but for those that it refuses. `Ok` once they are safe.
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Result<Applied, Refused>>, Failure>;

    /// Called when the waiters of a batch have been answered, for upkeep that must not delay them; `idle`
    /// if no other change waits.
    fn tidy(&mut self, idle: bool) -> Result<(), Failure>;

    /// After a panic in [`Committer::apply`]: forgets what was noted of the batch that is not made.
    ///
    /// # Errors
    /// It cannot go on.
    fn recover(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// After [`Failure::Gone`]: keeps what is undelivered elsewhere, for the next start. `changes` were not made; the
    /// outcomes among them count. What was done, in words.
    ///
    /// # Errors
    /// Why nothing could be kept, in words.
    fn rescue(&mut self, changes: &[Change]) -> Result<String, String> {
        _ = changes;
        Err("there is nothing to save".to_owned())
    }

    /// Leaves everything in order. Not called after [`Failure::Lost`] or [`Failure::Gone`].
    fn close(self: Box<Self>);
}

/// Something for the thread to do.
pub(super) enum Request {
    /// Makes the change and says what came of it.
    Change(Change, oneshot::Sender<Answer>),
    /// Takes no more requests, makes those that wait and ends.
    Close,
}

pub(super) type Answer = Result<Result<Applied, Refused>, Failure>;

/// Hears what each batch did to the queue once it is safe, in the order of the commits.
pub(super) type Listener = Box<dyn Fn(News) + Send + Sync>;

/// Whether the thread runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    Open,
    Closed,
    /// It ended because nothing is known about the disk any more.
    Failed(Arc<str>),
}

/// Since when the batch that is just written is being written.
pub(super) type Busy = Arc<Mutex<Option<Instant>>>;

/// Starts the thread on `keeper`.
pub(super) fn start(
    keeper: Box<dyn Committer>,
    listener: Arc<OnceLock<Listener>>,
) -> std::io::Result<(mpsc::Sender<Request>, watch::Receiver<Status>, Busy)> {
    let (sender, inbox) = mpsc::channel(BATCH);
    let (status, watcher) = watch::channel(Status::Open);
    let last_words = LastWords { status, failed: None };
    let busy = Busy::default();
    let theirs = Arc::clone(&busy);
    thread::Builder::new()
        .name("spool".to_owned())
        .spawn(move || run(keeper, &listener, inbox, last_words, &theirs))?;
    Ok((sender, watcher, busy))
}

/// Tells how the thread ended, even if it panics.
struct LastWords {
    status: watch::Sender<Status>,
    failed: Option<String>,
}

impl Drop for LastWords {
    fn drop(&mut self) {
        if thread::panicking() {
            self.failed = Some("the writer panicked".to_owned());
        }
        self.status.send_replace(match self.failed.take() {
            Some(reason) => Status::Failed(reason.into()),
            None => Status::Closed,
        });
    }
}

fn run(
    mut keeper: Box<dyn Committer>,
    listener: &OnceLock<Listener>,
    mut inbox: mpsc::Receiver<Request>,
    mut last_words: LastWords,
    busy: &Busy,
) {
    let note = |since| *busy.lock().expect("no holder of this lock can panic") = since;
    let mut tidying = Ok(());
    while let Some(first) = inbox.blocking_recv() {
        let (changes, waiters) = gather(first, &mut inbox);
        let before = tidying.clone();
        note(Some(Instant::now()));
        let committed = commit(keeper.as_mut(), listener.get(), changes, waiters);
        if let Err((Failure::Gone(what), unmade)) = committed {
            last_words.failed = Some(take_leave(keeper.as_mut(), &what, unmade, &mut inbox));
            return;
        }
        tidying = committed.map_err(|(failure, _)| failure).and_then(|()| keeper.tidy(inbox.is_empty()));
        note(None);
        match &tidying {
            Err(Failure::Lost(reason)) => {
                tracing::error!(reason, "the disk did not confirm a write: the spool stops, start it again");
                last_words.failed = Some(reason.clone());
                // Not closed in order: what was read back from the disk must not be written again.
                return;
            }
            // Said once, not with every batch. The log only grows meanwhile.
            Err(error) if tidying != before => tracing::warn!(?error, "cannot empty the spool's log"),
            _ => {}
        }
    }
    keeper.close();
}

/// Has the keeper save what is undelivered of a spool that was taken away. Whoever waits is refused. Why it ends, in
/// words.
fn take_leave(
    keeper: &mut dyn Committer,
    what: &str,
    mut unmade: Vec<Change>,
    inbox: &mut mpsc::Receiver<Request>,
) -> String {
    tracing::error!(
        what,
        "the spool was taken away: mail is refused, and what is undelivered is saved elsewhere"
    );
    inbox.close();
    while let Ok(request) = inbox.try_recv() {
        if let Request::Change(change, waiter) = request {
            unmade.push(change);
            let _ = waiter.send(Err(Failure::Gone(what.to_owned())));
        }
    }
    match keeper.rescue(&unmade) {
        Ok(saved) => {
            tracing::error!("{saved}: the next start takes it in");
            format!("{what}; {saved}, which the next start takes in")
        }
        Err(problem) => {
            tracing::error!(problem, "WHAT IS UNDELIVERED IS LOST unless the spool is put back as it was");
            format!("{what}; {problem}")
        }
    }
}

/// The changes that wait, `first` before all, and their callers.
fn gather(
    first: Request,
    inbox: &mut mpsc::Receiver<Request>,
) -> (Vec<Change>, Vec<oneshot::Sender<Answer>>) {
    let (mut changes, mut waiters) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(request) = next {
        match request {
            Request::Change(change, waiter) => {
                bytes += change.size();
                changes.push(change);
                waiters.push(waiter);
            }
            Request::Close => inbox.close(),
        }
        let more = changes.len() < BATCH && bytes < BATCH_BYTES;
        next = if more { inbox.try_recv().ok() } else { None };
    }
    (changes, waiters)
}

/// Has the keeper make `changes`. A panic in one of them is a fault of this program, and costs only that one.
fn applied(keeper: &mut dyn Committer, changes: &[Change]) -> Result<Vec<Result<Applied, Refused>>, Failure> {
    match catch_unwind(AssertUnwindSafe(|| keeper.apply(changes))) {
        Ok(done) => done,
        Err(_) => {
            tracing::error!(
                changes = changes.len(),
                "a fault of this program in the spool: nothing of this batch is kept"
            );
            keeper.recover().and(Err(Failure::Fault))
        }
    }
}

/// Commits a batch and answers its waiters. If there is no space for it as a whole, or a fault in it, its halves are tried
/// in order, so that a change that does not fit takes no other with it. Any other error is that of all callers, and
/// may have taken seconds that must not be spent again on each. Fails only when nothing more may be tried, with the
/// changes that were not made.
fn commit(
    keeper: &mut dyn Committer,
    listener: Option<&Listener>,
    mut changes: Vec<Change>,
    mut waiters: Vec<oneshot::Sender<Answer>>,
) -> Result<(), (Failure, Vec<Change>)> {
    if changes.is_empty() {
        return Ok(());
    }
    match applied(keeper, &changes) {
        Ok(answers) => {
            debug_assert_eq!(answers.len(), waiters.len());
            if let Some(listener) = listener {
                listener(news(&answers));
            }
            for (waiter, answer) in waiters.into_iter().zip(answers) {
                // Who has gone away has lost nothing: the change is made.
                let _ = waiter.send(Ok(answer));
            }
            Ok(())
        }
        Err(Failure::Full | Failure::Fault) if changes.len() > 1 => {
            let half = changes.len() / 2;
            let (later, later_waiters) = (changes.split_off(half), waiters.split_off(half));
            commit(keeper, listener, changes, waiters)?;
            commit(keeper, listener, later, later_waiters)
        }
        Err(failure) => {
            for waiter in waiters {
                let _ = waiter.send(Err(failure.clone()));
            }
            let over = matches!(failure, Failure::Lost(_) | Failure::Gone(_));
            if over { Err((failure, changes)) } else { Ok(()) }
        }
    }
}

/// What the answers of a batch together mean for the queue.
fn news(answers: &[Result<Applied, Refused>]) -> News {
    let mut news = News::default();
    for applied in answers.iter().flatten() {
        news.queued.extend(applied.queued.iter().cloned());
        news.withdrawn.extend(applied.withdrawn.iter().cloned());
        news.failed.extend(&applied.failed);
        news.storms |= applied.storms;
    }
    // What came and went in one batch was never there.
    for withdrawn in &news.withdrawn {
        news.queued.retain(|queued| queued.seq != withdrawn.seq);
    }
    news
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

    use super::*;

    /// A keeper that commits when the test says so.
    struct Fake {
        batches: std_mpsc::Sender<usize>,
        results: std_mpsc::Receiver<Result<(), Failure>>,
    }

    impl Committer for Fake {
        fn apply(&mut self, changes: &[Change]) -> Result<Vec<Result<Applied, Refused>>, Failure> {
            self.batches.send(changes.len()).unwrap();
            let result = self.results.recv().unwrap();
            assert_ne!(result, Err(Failure::Fault), "as the test wants");
            result?;
            Ok(changes.iter().map(|_| Ok(Applied::default())).collect())
        }

        fn tidy(&mut self, _idle: bool) -> Result<(), Failure> {
            Ok(())
        }

        fn close(self: Box<Self>) {}
    }

    struct Bench {
        sender: mpsc::Sender<Request>,
        status: watch::Receiver<Status>,
        busy: Busy,
        batches: std_mpsc::Receiver<usize>,
        results: std_mpsc::Sender<Result<(), Failure>>,
    }

    fn bench() -> Bench {
        let (batch_sender, batches) = std_mpsc::channel();
        let (results, result_receiver) = std_mpsc::channel();
        let (sender, status, busy) =
            start(Box::new(Fake { batches: batch_sender, results: result_receiver }), Arc::default())
                .unwrap();
        Bench { sender, status, busy, batches, results }
    }

    impl Bench {
        fn ask(&self) -> oneshot::Receiver<Answer> {
            let (waiter, answer) = oneshot::channel();
            self.sender.try_send(Request::Change(Change::Shrink, waiter)).ok().unwrap();
            answer
        }
    }

    #[test]
    fn what_gathers_during_a_commit_is_the_next_batch_and_nobody_is_answered_before_its_commit() {
        let bench = bench();
        let mut first = bench.ask();
        assert_eq!(bench.batches.recv(), Ok(1));
        let mut others: Vec<_> = (0..5).map(|_| bench.ask()).collect();
        assert!(first.try_recv().is_err());
        bench.results.send(Ok(())).unwrap();
        assert!(first.blocking_recv().unwrap().is_ok());
        assert_eq!(bench.batches.recv(), Ok(5));
        assert!(others.iter_mut().all(|other| other.try_recv().is_err()));
        bench.results.send(Ok(())).unwrap();
        assert!(others.into_iter().all(|other| other.blocking_recv().unwrap().is_ok()));
    }

    #[test]
    fn a_change_that_does_not_fit_takes_no_other_with_it() {
        let bench = bench();
        let first = bench.ask();
        assert_eq!(bench.batches.recv(), Ok(1));
        let others: Vec<_> = (0..4).map(|_| bench.ask()).collect();
        // The first alone; then four fail, the first two pass, the last two fail, and of those the last.
        let full = || Err(Failure::Full);
        for result in [Ok(()), full(), Ok(()), full(), Ok(()), full()] {
            bench.results.send(result).unwrap();
        }
        assert!(first.blocking_recv().unwrap().is_ok());
        let answers: Vec<_> =
            others.into_iter().map(|other| other.blocking_recv().unwrap().is_ok()).collect();
        assert_eq!(answers, [true, true, true, false]);
        assert_eq!(bench.batches.try_iter().collect::<Vec<_>>(), [4, 2, 2, 1, 1]);
    }

    #[test]
    fn a_flush_that_failed_is_never_tried_again_and_everybody_learns_of_it() {
        let mut bench = bench();
        let first = bench.ask();
        assert_eq!(bench.batches.recv(), Ok(1));
        let waiting = bench.ask();
        bench.results.send(Err(Failure::Lost("I/O error".to_owned()))).unwrap();
        assert_eq!(first.blocking_recv().unwrap().err(), Some(Failure::Lost("I/O error".to_owned())));
        assert!(waiting.blocking_recv().is_err());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let status =
            runtime.block_on(bench.status.wait_for(|status| *status != Status::Open)).unwrap().clone();
        assert_eq!(status, Status::Failed("I/O error".into()));
        assert!(bench.sender.is_closed());
        assert!(bench.batches.recv().is_err(), "no further batch");
    }

    #[test]
    fn a_change_at_which_the_keeper_panics_costs_only_itself() {
        let bench = bench();
        let first = bench.ask();
        assert_eq!(bench.batches.recv(), Ok(1));
        let others: Vec<_> = (0..2).map(|_| bench.ask()).collect();
        for result in [Ok(()), Err(Failure::Fault), Ok(()), Err(Failure::Fault), Ok(())] {
            bench.results.send(result).unwrap();
        }
        assert!(first.blocking_recv().unwrap().is_ok());
        let [kept, lost] = others.try_into().unwrap_or_else(|_| panic!("two were asked for"));
        assert!(kept.blocking_recv().unwrap().is_ok());
        assert_eq!(lost.blocking_recv().unwrap().err(), Some(Failure::Fault));
        assert!(bench.ask().blocking_recv().unwrap().is_ok(), "it goes on");
    }

    #[test]
    fn a_write_that_does_not_come_back_is_known() {
        let bench = bench();
        let since = || *bench.busy.lock().unwrap();
        assert_eq!(since(), None);
        let first = bench.ask();
        assert_eq!(bench.batches.recv(), Ok(1));
        assert!(since().is_some());
        bench.results.send(Ok(())).unwrap();
        assert!(first.blocking_recv().unwrap().is_ok());
        while since().is_some() {
            thread::yield_now();
        }
    }

    #[test]
    fn closing_makes_what_waits_and_takes_nothing_more() {
        let mut bench = bench();
        let first = bench.ask();
        assert_eq!(bench.batches.recv(), Ok(1));
        let second = bench.ask();
        bench.sender.try_send(Request::Close).ok().unwrap();
        bench.results.send(Ok(())).unwrap();
        bench.results.send(Ok(())).unwrap();
        assert!(first.blocking_recv().unwrap().is_ok());
        assert!(second.blocking_recv().unwrap().is_ok());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let status =
            runtime.block_on(bench.status.wait_for(|status| *status != Status::Open)).unwrap().clone();
        assert_eq!(status, Status::Closed);
        assert!(bench.sender.is_closed());
    }
}
