//! The digests of storms: what is told of the mails that a storm has folded, and when.
//!
//! A digest goes out seconds after the storm begins, again at each interval while there is news, and when it is over;
//! when every incident that it folded is closed, so is the alert of the digest. Each is put into the spool
//! in one transaction with the note of what it tells, so that a crash repeats none and leaves none out.
//! Left out: which mails are folded, which the spool decides as it takes them.

mod digest;

use crate::words::Words;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::context::Context;
use crate::incident::{self, Kind};
use crate::spool::{PutError, Storm, StormState, Told};

use super::own;
use digest::{Summary, digest};

/// How long a storm is let grow before its first digest, so that this tells of more than one mail.
const GATHER: SignedDuration = SignedDuration::from_secs(2);

/// The same for the texts of a guessed key, of which five were paged.
const GATHER_TEXTS: SignedDuration = SignedDuration::from_secs(10);

/// Longest wait until storms are looked at again, so that a clock that was set back delays none for long.
const LOOK: Duration = Duration::from_secs(30);

/// The waits between the digests of a guessed key's texts; the last one stays.
const TEXTS: [SignedDuration; 3] =
    [SignedDuration::from_mins(1), SignedDuration::from_mins(2), SignedDuration::from_mins(5)];

/// Puts the digests of storms into `spool` as they are due. `news` is told when the spool has news of a
/// storm.
pub async fn tell(context: Context, config: incident::Storm, news: Arc<Notify>) {
    let mut since = context.now();
    loop {
        // A clock that was set back must not prolong a storm.
        since = since.min(context.now());
        let wait = match tell_due(&context, &config, since).await {
            Ok(next) => next.map_or(LOOK, |at| {
                let wait = Duration::try_from(at.duration_since(context.now())).unwrap_or_default();
                wait.min(LOOK)
            }),
            Err(problem) => {
                warn!(%problem, "the digest of a storm cannot be kept; it is tried again");
                LOOK
            }
        };
        _ = timeout(wait, news.notified()).await;
    }
}

/// Puts every digest that is due, and says when the next one may be. Whether it was calm before `since` is
/// unknown: a storm goes on through a restart, however long that takes.
///
/// # Errors
/// One could not be put; it stays due.
pub async fn tell_due(
    context: &Context,
    config: &incident::Storm,
    since: Timestamp,
) -> Result<Option<Timestamp>, PutError> {
    loop {
        let now = context.now();
        let (mut next, mut told): (Option<Timestamp>, bool) = (None, false);
        for storm in context.spool.reader().storms().await? {
            match step(&storm, config, (since, now)) {
                Step::Tell(state) => {
                    put(context, &storm, state).await?;
                    told = true;
                }
                Step::Wait(at) => next = next.into_iter().chain(at).min(),
            }
        }
        if !told {
            return Ok(next);
        }
    }
}

/// What is to be done about a storm.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Tell of it; it then stands so.
    Tell(StormState),
    /// Wait, for as long as nothing happens.
    Wait(Option<Timestamp>),
}

/// Decides what is to be done about `storm`, which is watched `since` then. Pure.
fn step(storm: &Storm, config: &incident::Storm, (since, now): (Timestamp, Timestamp)) -> Step {
    let after = |at: Timestamp, span: SignedDuration| at.checked_add(span).unwrap_or(Timestamp::MAX);
    let news = storm.folded > storm.told;
    let all_closed = storm.open == 0 && storm.keyless == 0;
    match (storm.state, storm.told_at) {
        (StormState::Raging, None) => {
            let gather = if storm.kind == Kind::Texts { GATHER_TEXTS } else { GATHER };
            let due_at = after(storm.began_at, gather);
            // A clock that was set back must not keep it.
            if due_at <= now || now < storm.began_at {
                Step::Tell(StormState::Raging)
            } else {
                Step::Wait(Some(due_at))
            }
        }
        (StormState::Raging, Some(told_at)) => {
            let calm_at = after(storm.excess_at.max(since), config.calm);
            let interval = match storm.kind {
                Kind::Pages => config.interval,
                Kind::Texts => {
                    let nth = usize::try_from(storm.digests.saturating_sub(1)).unwrap_or(usize::MAX);
                    TEXTS[nth.min(TEXTS.len() - 1)]
                }
            };
            let due_at = after(told_at, interval);
            if news && storm.severity > storm.told_severity {
                // Worse than all that anybody was told: it waits for no digest.
                return Step::Tell(StormState::Raging);
            }
            if calm_at <= now {
                // Unread news must not go out as a close, which does not page.
                Step::Tell(if all_closed && !news { StormState::Closed } else { StormState::Over })
            } else if news && due_at <= now {
                Step::Tell(StormState::Raging)
            } else {
                Step::Wait(Some(if news { due_at.min(calm_at) } else { calm_at }))
            }
        }
        (StormState::Over, _) if all_closed => Step::Tell(StormState::Closed),
        (StormState::Over | StormState::Closed, _) => Step::Wait(None),
    }
}

/// Puts the digest by which `storm` then stands as `state` says.
async fn put(context: &Context, storm: &Storm, state: StormState) -> Result<(), PutError> {
    let mut summary = Summary::read(&context.spool, storm).await?;
    // Fewer if some were kept for long enough and are deleted.
    summary.count = summary.count.max(storm.folded);
    let event = digest(storm, state, &summary, context.now());
    let story = serde_json::json!({ "digest-of-storm": storm.id, "tells": summary.count });
    let told = Told {
        storm: storm.id,
        state,
        folded: storm.folded,
        severity: storm.severity,
        excess_at: storm.excess_at,
    };
    let put = |id| {
        context.spool.put_digest(own::entry(context, id, vec![event.clone()], story.clone()), told.clone())
    };
    // Not put if there is more to tell by now: the next look tells it.
    context.keep(context.now(), put).await?;
    let (team, source) = (storm.team.as_str(), storm.source.as_deref().unwrap_or("many sources"));
    info!(team, source, storm = storm.id, state = state.word(), folded = summary.count, "storm");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Severity;

    pub(super) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_194_000 + seconds).unwrap()
    }

    /// A storm that began at second 0 and has told two mails then.
    pub(super) fn storm() -> Storm {
        Storm {
            id: 7,
            team: "soc".into(),
            source: Some("TheHive".into()),
            state: StormState::Raging,
            began_at: at(0),
            excess_at: at(0),
            first_at: at(0),
            last_at: at(60),
            folded: 2,
            open: 2,
            keyless: 0,
            told: 2,
            told_at: Some(at(0)),
            kind: Kind::Pages,
            stranger: false,
            severity: None,
            told_severity: None,
            digests: 1,
        }
    }

    fn at_step(storm: &Storm, seconds: i64) -> Step {
        step(storm, &incident::Storm::default(), (at(-1_000), at(seconds)))
    }

    #[test]
    fn a_storm_goes_on_after_a_restart_until_it_was_seen_to_be_calm() {
        let storm = Storm { folded: 9, ..storm() };
        let step = |seconds| step(&storm, &incident::Storm::default(), (at(3_600), at(seconds)));
        assert_eq!(step(3_600), Step::Tell(StormState::Raging), "what was folded before it is told");
        assert_eq!(step(3_900), Step::Tell(StormState::Over));
        let storm = Storm { told: 9, ..storm };
        assert_eq!(
            super::step(&storm, &incident::Storm::default(), (at(3_600), at(3_601))),
            Step::Wait(Some(at(3_900)))
        );
    }

    #[test]
    fn a_storm_is_told_within_seconds_then_at_intervals_if_there_is_news_and_when_it_is_over() {
        let begun = Storm { told: 0, told_at: None, ..storm() };
        assert_eq!(at_step(&begun, 1), Step::Wait(Some(at(2))));
        assert_eq!(at_step(&begun, 2), Step::Tell(StormState::Raging));
        assert_eq!(at_step(&begun, -60), Step::Tell(StormState::Raging), "the clock was set back");
        let rages = Storm { folded: 9, excess_at: at(200), ..storm() };
        assert_eq!(at_step(&rages, 299), Step::Wait(Some(at(300))));
        assert_eq!(at_step(&rages, 300), Step::Tell(StormState::Raging));
        let told = Storm { told: 9, told_at: Some(at(300)), ..rages };
        assert_eq!(at_step(&told, 301), Step::Wait(Some(at(500))), "no news, no digest");
        assert_eq!(at_step(&told, 500), Step::Tell(StormState::Over));
    }

    #[test]
    fn the_alert_is_closed_when_every_folded_incident_is() {
        let over = Storm { state: StormState::Over, ..storm() };
        assert_eq!(at_step(&over, 1_000), Step::Wait(None));
        assert_eq!(at_step(&Storm { open: 0, ..over.clone() }, 1_000), Step::Tell(StormState::Closed));
        let keyless = Storm { open: 0, keyless: 1, ..over };
        assert_eq!(at_step(&keyless, 1_000), Step::Wait(None), "nobody can know that it is over");
    }

    #[test]
    fn a_storm_that_is_over_with_all_closed_is_told_before_it_is_closed() {
        let closed = Storm { open: 0, ..storm() };
        assert_eq!(at_step(&closed, 300), Step::Tell(StormState::Closed));
        assert_eq!(at_step(&Storm { folded: 3, ..closed }, 300), Step::Tell(StormState::Over));
    }

    #[test]
    fn the_texts_of_a_guessed_key_are_told_soon_then_after_one_two_and_every_five_minutes() {
        let texts =
            Storm { kind: Kind::Texts, told: 0, told_at: None, digests: 0, excess_at: at(9_000), ..storm() };
        assert_eq!(at_step(&texts, 9), Step::Wait(Some(at(10))));
        assert_eq!(at_step(&texts, 10), Step::Tell(StormState::Raging));
        for (digests, wait) in [(1, 60), (2, 120), (3, 300), (4, 300), (99, 300)] {
            let told = Storm { digests, folded: 9, told: 2, told_at: Some(at(10)), ..texts.clone() };
            assert_eq!(at_step(&told, 10 + wait - 1), Step::Wait(Some(at(10 + wait))));
            assert_eq!(at_step(&told, 10 + wait), Step::Tell(StormState::Raging));
        }
    }

    #[test]
    fn what_is_worse_than_all_that_was_told_waits_for_no_digest() {
        let (low, high) = (Some(Severity::Low), Some(Severity::High));
        for kind in [Kind::Pages, Kind::Texts] {
            let told = Storm { kind, folded: 3, severity: low, told_severity: low, ..storm() };
            assert!(matches!(at_step(&told, 1), Step::Wait(_)));
            assert_eq!(at_step(&Storm { severity: high, ..told }, 1), Step::Tell(StormState::Raging));
        }
    }
}
